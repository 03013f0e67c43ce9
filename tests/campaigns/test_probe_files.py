"""Probe folders and manifests of any content: windows, or one line that names file and line."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saescope.config import ProbesConfig
from saescope.text.windows import Windows, tokenize_probes
from tests.campaigns.outcome import attempt, seeded

GOOD = b'{"text": "all the good words of this text are here"}\n'

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
text = st.one_of(
    st.text(max_size=80),
    st.text(st.characters(), min_size=20, max_size=200),
    st.sampled_from(
        ["\ud800", "a\0b " * 9, "<|endoftext|>" * 9, "\u202e abc", "🧪" * 40, " \n\t ", "x" * 3000]
    ),
)
line = st.one_of(
    text.map(lambda t: json.dumps({"text": t})),
    text.map(lambda t: json.dumps({"text": t, "id": 1})),
    anything.map(json.dumps),
    anything.map(lambda value: json.dumps({"text": value})),
    st.sampled_from(
        ["[" * 5000, "{", '{"text": "a"', '{"text": "a", "text": 3}', "NaN", '{"text": 1e999}', "# x"]
    ),
).map(lambda found: found.encode("utf-8", "surrogatepass"))
mild = st.text(st.characters(exclude_categories=["Cs"]), min_size=15, max_size=90).map(
    lambda t: json.dumps({"text": t}).encode()
)
content = st.one_of(
    st.lists(mild, min_size=1, max_size=4).map(b"\n".join),
    st.lists(mild, min_size=1, max_size=4).map(lambda lines: b"\xef\xbb\xbf" + b"\r\n\r\n".join(lines)),
    st.binary(max_size=60),
    st.lists(line, max_size=5).map(b"\n".join),
    st.lists(line, min_size=1, max_size=3).map(lambda lines: b"\xef\xbb\xbf" + b"\r\n".join(lines)),
    st.sampled_from(
        [b"", b"\n\n\n", b"\0" * 50, GOOD * 3, GOOD + b"\xff\xfe\n", GOOD.decode().encode("utf-16")]
    ),
)
name = st.one_of(
    st.sampled_from(
        ["a.jsonl", "b.jsonl", "a.txt", "b.txt", "c d.txt", "c_d.txt", "<b>.jsonl", ".jsonl", "日.txt"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30).map(
        lambda n: n + ".jsonl"
    ),
)


def sound(windows: Windows) -> None:
    """What the rest of the pipeline takes for granted."""
    assert len(windows.tasks) >= 2
    assert set(windows.task_D.tolist()) == set(range(len(windows.tasks)))
    assert all(0 < len(ids) <= 32 for ids in windows.ids)
    assert windows.num_tokens == sum(int(mask.sum()) for mask in windows.counted) > 0
    assert np.all(np.diff(windows.doc_W) >= 0)
    assert all(ids.min() >= 0 and ids.max() < 400 for ids in windows.ids)


@seeded(250)
@given(st.dictionaries(name, content, min_size=1, max_size=4), st.booleans())
def test_folders(tokenizer, files, with_good):
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    for file, data in files.items():
        (folder / file).write_bytes(data)
    if with_good:
        for file in ("one.jsonl", "two.jsonl"):
            (folder / file).write_bytes(GOOD * 2)
    cfg = ProbesConfig("folder", path=str(folder), ctx_len=32, max_tokens_per_task=400)
    found = attempt("probe folders", lambda: tokenize_probes(cfg, tokenizer))
    if isinstance(found, Windows):
        sound(found)
    shutil.rmtree(folder)


source = st.one_of(
    st.fixed_dictionaries({"type": st.just("prompt"), "text": text}),
    st.fixed_dictionaries({"type": st.just("prompt_list"), "prompts": st.lists(text, max_size=3)}),
    st.fixed_dictionaries({"type": st.just("prompt_list"), "prompts": anything}),
    st.fixed_dictionaries(
        {"type": st.just("dataset"), "name": text}, optional={"num_docs": anything, "split": text}
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["file", "promt", "", "url", "python"]), "text": text}),
    anything,
)
record = st.fixed_dictionaries(
    {"task_id": text, "domain": text, "source": source},
    optional={
        "max_tokens": st.one_of(anything, st.integers(1, 10**30)),
        "repeat": st.one_of(anything, st.integers(1, 10**30)),
        "description": anything,
        "nonsense": anything,
    },
)
plain = [
    {"task_id": task, "domain": "d", "source": {"type": "prompt", "text": "plain words for a task " * 3}}
    for task in ("one", "two")
]


fine = st.fixed_dictionaries(
    {
        "task_id": st.text(min_size=1, max_size=3),
        "domain": st.sampled_from(["x", "y/z", "ü"]),
        "source": st.text(min_size=15, max_size=60).map(lambda t: {"type": "prompt", "text": t}),
    },
    optional={"repeat": st.integers(1, 10**30), "max_tokens": st.integers(1, 10**30)},
)
records = st.one_of(st.lists(fine, max_size=4), st.lists(st.one_of(record, anything), max_size=2))


@seeded(250)
@given(records, st.booleans(), st.sampled_from(["task_id", "domain"]))
def test_manifests(tokenizer, records, with_good, group_by):
    path = Path(tempfile.mkdtemp(dir=Path.cwd())) / "tasks.jsonl"
    lines = [json.dumps(value) for value in ([*plain, *records] if with_good else records)]
    path.write_text("\n".join(lines))
    cfg = ProbesConfig("manifest", path=str(path), ctx_len=32, max_tokens_per_task=400, group_by=group_by)
    found = attempt("probe manifests", lambda: tokenize_probes(cfg, tokenizer))
    if isinstance(found, Windows):
        sound(found)
    shutil.rmtree(path.parent)


@pytest.mark.timeout(600)
def test_a_line_of_ten_megabytes(tokenizer, tmp_path):
    for file in ("a.jsonl", "b.jsonl"):
        (tmp_path / file).write_bytes(GOOD)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(json.dumps({"text": "word " * 2_000_000}))
    cfg = ProbesConfig("folder", path=str(tmp_path), ctx_len=32, max_tokens_per_task=400)
    found = attempt("10 MB lines", lambda: tokenize_probes(cfg, tokenizer))
    assert isinstance(found, Windows)
    assert found.truncated == {"a": 1}
