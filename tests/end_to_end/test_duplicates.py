"""Every document many times is no more evidence than once: the null of SI takes copies for one document."""

import json
from pathlib import Path

import pytest

import saescope
from saescope.text.probe_folder import EMBEDDED

COPIES = 10


@pytest.fixture(scope="module")
def lm():
    return saescope.load_model("embedded", device="cpu", dtype="float32")


def texts(copies: int) -> dict[str, list[str]]:
    """Documents of one kind dealt out to three tasks: no latent is specialised."""
    lines = (EMBEDDED / "dialogue.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line)["text"][:160] for line in lines[:48]]
    # copies differ in a word, as crawled pages do
    return {
        task: [f"{text} {number}" for text in documents[start::3] for number in range(copies)]
        for start, task in enumerate("abc")
    }


def significant(lm, copies: int, duplicates: str) -> tuple[float | None, int, list[str]]:
    x = saescope.capture(lm, texts(copies), "layers.2", duplicates=duplicates)
    result = saescope.measure(
        x, saescope.load_sae("embedded", "layers.2", model=lm), permutations=200, bootstraps=20
    )
    return result.metrics["si/significant_frac"], len(set(x.documents.tolist())), list(x.windows.warnings)


@pytest.mark.slow
def test_copies_of_documents_are_no_evidence(lm):
    share, documents, warnings = significant(lm, COPIES, "merge")
    assert share == 0
    assert documents == 48
    assert (
        f"{48 * (COPIES - 1)} of {48 * COPIES} documents repeat an earlier one of their task" in warnings[0]
    )
    assert "each counts as one document with it (probes.duplicates=merge)" in warnings[0]

    share, documents, warnings = significant(lm, COPIES, "warn")
    assert share > 0.3
    assert documents == 48 * COPIES
    assert "take them for independent (probes.duplicates=warn)" in warnings[0]

    assert significant(lm, COPIES, "keep") == (share, documents, [])


def test_the_texts_in_the_package_repeat_nothing(lm):
    assert saescope.capture(lm, "embedded", "layers.0").windows.warnings == ()


def test_copies_in_another_task_are_named(lm, tmp_path: Path):
    shared = texts(1)
    for task in "ab":
        (tmp_path / f"{task}.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in [*shared["a"], *shared[task]])
        )
    x = saescope.capture(lm, tmp_path, "layers.0")
    assert "(16 of a); each counts as one document" in x.windows.warnings[0]
    assert "16 of b repeat a document of another task" in x.windows.warnings[1]
