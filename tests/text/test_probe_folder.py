"""`probes=folder`: files and folders as tasks, data files of every kind, what is left out."""

import dataclasses
import json
from pathlib import Path

import datasets
import pytest

from saescope.config import ProbesConfig
from saescope.errors import ConfigError, ProbeError
from saescope.text.content import Chat
from saescope.text.probes import open_probes
from saescope.text.windows import tokenize_probes
from tests.text.test_windows import Letters

WORDS = ["first text", "second text, with a comma", "NA", "007"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))


def read(path: Path, **values: str) -> dict[str, list[object]]:
    probes = open_probes(ProbesConfig("folder", path=str(path), **values))
    return {task.name: [d.text for part in task.parts for d in part.read()] for task in probes.tasks}


def notices(path: Path, **values: str) -> str:
    return " ".join(open_probes(ProbesConfig("folder", path=str(path), **values)).notices)


def write(path: Path, texts: list[str | None], column: str = "text") -> Path:
    """A file of the kind that its ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict({"n": list(range(len(texts))), column: texts})
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
        case ".json":
            path.write_text(json.dumps([{column: text} for text in texts]))
        case ".csv":
            table.to_csv(path, index=False)
        case ".tsv":
            table.to_csv(path, index=False, sep="\t")
        case ".parquet":
            table.to_parquet(path)
        case ".arrow":
            table.save_to_disk(path.parent / "saved")
            (arrow,) = (path.parent / "saved").glob("*.arrow")
            arrow.rename(path)
            for left in (path.parent / "saved").iterdir():
                left.unlink()
            (path.parent / "saved").rmdir()
        case "":
            table.save_to_disk(path)
        case _:
            path.write_text("\n\n".join(map(str, texts)) + "\n")
    return path


def test_every_kind_of_file_is_a_task(tmp_path):
    endings = ("jsonl", "json", "csv", "tsv", "parquet", "arrow", "txt")
    for number, ending in enumerate(endings):
        write(tmp_path / f"{number}.{ending}", WORDS)
    assert read(tmp_path) == {str(number): WORDS for number in range(len(endings))}
    assert notices(tmp_path) == ""


def test_a_task_may_be_a_folder(tmp_path):
    (tmp_path / "prose" / "deep").mkdir(parents=True)
    (tmp_path / "prose" / "a.txt").write_text("one\n\nstill one")
    (tmp_path / "prose" / "deep" / "b.txt").write_text("two")
    (tmp_path / "prose" / "cover.png").write_bytes(b"x")
    write(tmp_path / "table" / "part-0.parquet", WORDS[:2])
    write(tmp_path / "table" / "part-1.csv", WORDS[2:])
    write(tmp_path / "saved", WORDS)
    (tmp_path / "README.md").write_text("about")
    assert read(tmp_path) == {"prose": ["one\n\nstill one", "two"], "saved": WORDS, "table": WORDS}
    assert "left out of" in notices(tmp_path)
    assert "README.md, prose/cover.png" in notices(tmp_path)


def test_other_files_are_named_and_never_dropped(tmp_path):
    write(tmp_path / "a.jsonl", WORDS)
    write(tmp_path / "b.jsonl", WORDS)
    write(tmp_path / "c.csv", WORDS)
    write(tmp_path / "old" / "d.jsonl", WORDS)
    for name in ("notes.md", "e.jsonl.gz", ".hidden.jsonl", ".DS_Store"):
        (tmp_path / name).write_text("x")
    assert list(read(tmp_path)) == ["a", "b", "c"]
    assert ": .hidden.jsonl, e.jsonl.gz, notes.md, old (" in notices(tmp_path)
    assert "DS_Store" not in notices(tmp_path)
    windows = tokenize_probes(ProbesConfig("folder", path=str(tmp_path)), Letters())
    assert windows.warnings[0] == open_probes(ProbesConfig("folder", path=str(tmp_path))).notices[0]


def test_nested_and_chat_columns(tmp_path):
    messages = [{"role": "user", "content": "Hi"}]
    rows = {"data": [{"text": "x"}, {"text": "y"}], "talk": [messages, messages]}
    for task in ("a", "b"):
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / f"{task}.parquet")
    assert read(tmp_path, text_key="data.text") == {"a": ["x", "y"], "b": ["x", "y"]}
    assert read(tmp_path, text_key="talk")["a"] == [Chat((("user", "Hi"),))] * 2
    with pytest.raises(
        ProbeError, match=r"no text under 'data\.txt'; did you mean 'data\.text'\? set probes\.text_key"
    ):
        read(tmp_path, text_key="data.txt")
    windows = tokenize_probes(ProbesConfig("folder", path=str(tmp_path), text_key="talk"), Letters())
    assert "".join(map(chr, windows.ids[0])) == "Hi"


def test_one_dataset_with_a_column_of_tasks(tmp_path):
    labels = datasets.ClassLabel(names=["sport", "विज्ञान"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": labels, "kind": datasets.Value("string")}
    )
    rows = {"text": ["a", "b", "c", "d"], "label": [1, 0, 1, -1], "kind": ["x", "y", None, "x"]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "one.parquet")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "splits")
    for place in ("saved", "one.parquet"):
        assert read(tmp_path / place, task_key="kind") == {"x": ["a", "d"], "y": ["b"]}
        assert "1 records without a value of probes.task_key=kind" in notices(
            tmp_path / place, task_key="kind"
        )
        assert read(tmp_path / place, task_key="label") == {"-1": ["d"], "sport": ["b"], "विज्ञान": ["a", "c"]}
        with pytest.raises(ProbeError, match=r"is one dataset; set probes\.task_key .*: text, label, kind$"):
            read(tmp_path / place)
        with pytest.raises(ProbeError, match=r"no column 'knd'; did you mean 'kind'\?"):
            read(tmp_path / place, task_key="knd")
    assert list(read(tmp_path / "splits", task_key="kind", split="test")) == ["x", "y"]
    with pytest.raises(ProbeError, match=r"several splits; choose the split, one of: train, test"):
        read(tmp_path / "splits", task_key="kind")


def test_empty_and_uncounted_documents_are_counted_and_said(tmp_path):
    write(tmp_path / "a.parquet", ["some text", None, " ", "x", "more text"])
    write(tmp_path / "b.jsonl", ["some words", ""])
    windows = tokenize_probes(ProbesConfig("folder", path=str(tmp_path)), Letters())
    assert windows.task_D.tolist() == [0, 0, 1]
    (notice,) = windows.warnings
    assert "2 of a, 1 of b are empty; 1 of a have no counted token (probes.exclude_first=1" in notice


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("b.csv", b"", r"cannot read .*b\.csv \(EmptyDataError"),
        (
            "b.csv",
            b"words\nx\n",
            r"b\.csv record 0 has no text under 'text'; set probes\.text_key to one of: words",
        ),
        ("b.csv", b"text\n", r"b\.csv holds no document"),
        ("b.csv", b"text\ncaf\xe9\n", r"cannot read .*b\.csv \(UnicodeDecodeError"),
        ("b.parquet", b"nothing", r"cannot read .*b\.parquet \(ArrowInvalid"),
        ("b.json", b"{", r"cannot read .*b\.json"),
        ("a.csv", b"text\nx\n", r"two files for task 'a'"),
    ],
)
def test_broken_files_are_one_line(tmp_path, capfd, name, content, words):
    write(tmp_path / "a.jsonl", WORDS)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProbeError, match=words) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # datasets' own lines


def test_names_with_glob_characters(tmp_path):
    for name in ("a[1].csv", "a[2]*.csv"):
        write(tmp_path / name, WORDS)
    assert read(tmp_path) == {"a_1_": WORDS, "a_2__": WORDS}


def test_keys_of_other_sources_are_refused():
    for values, words in (
        ({"source": "embedded", "text_key": "x"}, "probes.text_key needs probes=folder or probes=languages"),
        ({"source": "manifest", "path": "x", "task_key": "x"}, "probes.task_key needs probes=folder"),
        ({"source": "folder", "path": "x", "languages": ("x",)}, "probes.languages needs probes=languages"),
        ({"source": "folder", "path": "x", "chat": "no"}, "probes.chat=no is not known"),
        ({"source": "folder", "path": "x", "duplicates": "no"}, "probes.duplicates=no is not known"),
    ):
        with pytest.raises(ConfigError, match=words):
            ProbesConfig(**values)
    assert dataclasses.replace(ProbesConfig("embedded"), duplicates="warn").duplicates == "warn"
