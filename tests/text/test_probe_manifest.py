"""`probes=manifest`: order and budgets of records, datasets in folders, errors by line, run identity."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saescope.cli.main import main
from saescope.config import ProbesConfig
from saescope.errors import ConfigError, ProbeError
from saescope.jobs.job import _contents
from saescope.runfolder.identity import identity
from saescope.text.probes import open_probes
from saescope.text.windows import tokenize_probes
from tests.config.test_config import composed
from tests.conftest import TASKS, probe_text
from tests.text.test_windows import Letters, text

HAIKU = {"task_id": "haiku", "domain": "poetry", "source": {"type": "prompt", "text": "An old silent pond"}}
SUMS = {
    "task_id": "sums",
    "domain": "maths",
    "description": "small sums",
    "source": {"type": "prompt_list", "prompts": ["1+1=2", "2+2=4", "3+3=6"]},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def manifest(folder: Path, *records: object) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n")
    return path


def dataset(folder: Path, **columns: list) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "train.parquet")
    return folder


def from_dataset(name: str, task: str = "set", **values: object) -> dict:
    return {"task_id": task, "domain": "sets", "source": {"type": "dataset", "name": name, **values}}


def documents(path: Path, group_by: str = "task_id") -> dict[str, list[str]]:
    probes = open_probes(ProbesConfig("manifest", path=str(path), group_by=group_by))
    return {t.name: [d.text for part in t.parts for d in part.read() if d.text.strip()] for t in probes.tasks}


def test_records_in_their_order_without_comments_and_blank_lines(tmp_path):
    path = manifest(tmp_path, "# my tasks", SUMS, "", "   # more", HAIKU, SUMS | {"max_tokens": None})
    sums = SUMS["source"]["prompts"]
    assert documents(path) == {"sums": [*sums, *sums], "haiku": ["An old silent pond"]}


def test_tasks_by_domain(tmp_path):
    other = SUMS | {"task_id": "other sums"}
    path = manifest(tmp_path, SUMS, HAIKU, other)
    assert list(documents(path)) == ["sums", "haiku", "other_sums"]
    assert {name: len(texts) for name, texts in documents(path, "domain").items()} == {
        "maths": 6,
        "poetry": 1,
    }


def test_datasets_beside_the_manifest(tmp_path):
    turns = [["How are you? ", "Fine."], None, ["Bye."]]
    dataset(tmp_path / "sets" / "talk", turns=turns, text=["a", " ", "c"])
    path = manifest(
        tmp_path,
        from_dataset("sets/talk", "turns", text_key="turns"),
        from_dataset("sets/talk", "plain", num_docs=1, split="train"),
        from_dataset(str(tmp_path / "sets" / "talk"), "all"),
    )
    assert documents(path) == {"turns": ["How are you?\nFine.", "Bye."], "plain": ["a"], "all": ["a", "c"]}


def test_jsonl_and_saved_datasets(tmp_path):
    import datasets

    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "train.jsonl").write_text('{"q": "x"}\n{"q": "y"}\n')
    saved = datasets.DatasetDict({"dev": datasets.Dataset.from_dict({"text": ["s", "t", "u"]})})
    saved.save_to_disk(tmp_path / "saved")
    path = manifest(
        tmp_path,
        from_dataset("lines", "l", text_key="q"),
        from_dataset("saved", "s", split="dev", num_docs=2),
    )
    assert documents(path) == {"l": ["x", "y"], "s": ["s", "t"]}


def test_budgets_of_a_record_and_of_its_task(tmp_path):
    # one token a letter, the first of each window not counted: 4 counted tokens a prompt
    first = SUMS | {"max_tokens": 9}
    second = SUMS | {"source": {"type": "prompt_list", "prompts": ["4+4=8", "5+5=9"]}}
    path = manifest(tmp_path, first, second, HAIKU)

    def read(budget):
        cfg = ProbesConfig("manifest", path=str(path), ctx_len=32, max_tokens_per_task=budget)
        w = tokenize_probes(cfg, Letters())
        return [text(ids) for ids, doc in zip(w.ids, w.doc_W, strict=True) if w.task_D[doc] == 0], w.truncated

    assert read(1000) == (["1+1=2", "2+2=4", "4+4=8", "5+5=9"], {"sums": 1})
    assert read(17) == (["1+1=2", "2+2=4", "4+4=8", "5+5=9"], {"sums": 1})
    with pytest.raises(ProbeError, match=r"line 3 gives no counted token: .*probes\.max_tokens_per_task=15"):
        read(15)
    path = manifest(tmp_path, first, second, HAIKU | {"source": {"type": "prompt", "text": "pond"}})
    assert read(15) == (["1+1=2", "2+2=4", "4+4=8"], {"sums": 2})
    assert read(7) == (["1+1=2"], {"sums": 4})


def test_a_repeated_record_weighs_more_and_stays_the_same_documents(tmp_path):
    path = manifest(tmp_path, SUMS | {"repeat": 3}, HAIKU)
    w = tokenize_probes(ProbesConfig("manifest", path=str(path), ctx_len=32), Letters())
    assert [text(ids) for ids in w.ids[:9]] == ["1+1=2"] * 3 + ["2+2=4"] * 3 + ["3+3=6"] * 3
    assert w.doc_W.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert w.task_D.tolist() == [0, 0, 0, 1]
    counted = sum(int(mask.sum()) for mask in w.counted[:9])
    assert counted == 3 * 3 * 4
    cfg = ProbesConfig("manifest", path=str(path), ctx_len=32, max_tokens_per_task=25)
    assert tokenize_probes(cfg, Letters()).doc_W.tolist() == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"task_id": ', r"line 2 is no JSON"),
        ("[1]", r"line 2 is no object; its fields: task_id, domain"),
        (HAIKU | {"taks": 1}, r"line 2: unknown field 'taks': did you mean 'task_id'\? valid: task_id"),
        ({"task_id": "a", "domain": "b"}, r"line 2 has no 'source'"),
        (HAIKU | {"task_id": 3}, r"line 2: 'task_id' must be text that is not empty, not 3"),
        (HAIKU | {"domain": " "}, r"'domain' must be text .*, not \" \"$"),
        (HAIKU | {"repeat": 0}, r"'repeat' must be a whole number of 1 or more, not 0"),
        (HAIKU | {"max_tokens": 2.5}, r"'max_tokens' must be a whole number .*not 2\.5"),
        (HAIKU | {"max_tokens": True}, r"'max_tokens' must be a whole number .*not true"),
        (HAIKU | {"source": {"type": "promt"}}, r"type 'promt' is not known: did you mean 'prompt'\?"),
        (HAIKU | {"source": {"type": "prompt", "prompts": []}}, r"unknown field 'prompts'.*: type, text"),
        (HAIKU | {"source": {"type": "prompt"}}, r"line 2 source has no 'text'"),
        (HAIKU | {"source": {"type": "prompt_list", "prompts": []}}, r"every prompt must be text, and not"),
        (HAIKU | {"source": {"type": "prompt_list", "prompts": ["a", 1]}}, r"every prompt must be text"),
        (from_dataset("x", num_docs=-1), r"line 2 source: 'num_docs' must be a whole number"),
        (SUMS | {"task_id": "a b"}, r"line 3: task_id 'a_b' and 'a b' give the same task name 'a_b'"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, record, message):
    path = manifest(tmp_path, HAIKU, record, SUMS | {"task_id": "a_b"})
    with pytest.raises(ProbeError, match=message) as info:
        documents(path)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "set", "split": "tran"}, r"set has no split 'tran'; did you mean 'train'\? valid: train$"),
        (
            {"name": "set", "text_key": "txt"},
            r"set has no column 'txt'; did you mean 'text'\? valid: text, n$",
        ),
        ({"name": "set", "text_key": "n"}, r"set record 0: column 'n' holds int, not text$"),
        ({"name": "blank"}, r"blank \(train\) holds no text$"),
        ({"name": "./nowhere"}, r"dataset \./nowhere: no such folder"),
        (
            {"name": "nobody/nothing"},
            r"cannot read dataset nobody/nothing \(ConnectionError: .*probes=folder$",
        ),
        ({"name": "hollow"}, r"cannot read dataset .*hollow \("),
    ],
)
def test_a_dataset_that_does_not_fit_says_what_is_there(tmp_path, values, message):
    dataset(tmp_path / "set", text=["a"], n=[1])
    dataset(tmp_path / "blank", text=["", None])
    (tmp_path / "hollow").mkdir()
    path = manifest(tmp_path, HAIKU, from_dataset(**values))
    with pytest.raises(ProbeError, match=message) as info:
        documents(path)
    assert "line 2" in str(info.value)
    assert "\n" not in str(info.value)


def test_what_a_manifest_needs(tmp_path):
    with pytest.raises(ProbeError, match="no such file"):
        documents(tmp_path / "tasks.jsonl")
    with pytest.raises(ProbeError, match=r"has 1 tasks \(probes.group_by=domain\).*at least two"):
        documents(manifest(tmp_path, HAIKU, HAIKU | {"task_id": "b"}), "domain")
    for values, message in (
        ({"source": "manifest"}, "needs probes.path=FILE"),
        (
            {"source": "standard", "path": "x"},
            "probes.path=x needs probes=folder, probes=languages or probes=manifest",
        ),
        ({"source": "manifest", "path": "x", "group_by": "task"}, "probes.group_by=task is not known"),
        ({"source": "folder", "path": "x", "group_by": "domain"}, "needs probes=manifest"),
    ):
        with pytest.raises(ConfigError, match=message):
            ProbesConfig(**values)


def test_a_job_and_what_makes_it_another(tmp_path, model_folder, monkeypatch, capfd):
    rng = np.random.default_rng(0)
    texts = {task: [probe_text(task, rng, 30) for _ in range(20)] for task in TASKS}
    dataset(tmp_path / "set", text=texts["shouts"])
    records = [
        {"task_id": task, "domain": task[0], "source": {"type": "prompt_list", "prompts": texts[task]}}
        for task in ("letters", "numbers")
    ]
    path = manifest(tmp_path, *records, from_dataset("set", "shouts", num_docs=15))
    args = [
        "model=local", f"model.name={model_folder}", "sae=neurons", "sae.k=8",
        "hookpoint=custom", "hookpoint.name=blocks.1.hook_mlp_out",
        "probes=manifest", f"probes.path={path}", "probes.group_by=domain", "probes.ctx_len=64",
        "metrics=quick", "metrics.lm_tokens=300", "tracking=disabled",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["saescope", *args, f"hydra.run.dir={tmp_path / 'run'}"])
    assert main() == 0, capfd.readouterr().err
    metrics, status, provenance = (
        json.loads((tmp_path / "run" / f"{name}.json").read_text())
        for name in ("metrics", "status", "provenance")
    )
    assert {k: v for k, v in metrics.items() if k.endswith("/docs")} == {
        "task/l/docs": 20, "task/n/docs": 20, "task/sets/docs": 15,
    }  # fmt: skip
    assert provenance["probes"]["origins"] == {"probes": str(path), "probes 3": str(tmp_path / "set")}
    assert provenance["hookpoint"] == {"name": "layers.1.mlp", "kind": "mlp", "layer": 1, "width": 32}

    def now() -> str:
        cfg = composed(*args)
        return identity(cfg, _contents(cfg))

    known = [status["identity"]]
    assert now() == known[0]
    dataset(tmp_path / "set", text=texts["shouts"][1:])
    known.append(now())
    manifest(tmp_path, *records, from_dataset("set", "shouts", num_docs=14))
    known.append(now())
    assert len(set(known)) == 3
