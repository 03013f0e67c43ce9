"""Probes from a folder: one file per task."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from saescope.config import ProbesConfig
from saescope.errors import ProbeError
from saescope.text.documents import Document, Part, Probes, Task, task_name
from saescope.text.text_files import FORM, json_lines, paragraphs, whole_text

EMBEDDED = Path(__file__).parents[1] / "assets" / "probes"


def open_folder(cfg: ProbesConfig) -> Probes:
    """`<task>.jsonl` and `<task>.txt` files. Raises ProbeError when there is no folder or no second task."""
    folder = probe_folder(cfg)
    tasks = [
        Task(task_name(file.stem), (Part(str(file), partial(read_documents, file)),))
        for file in probe_files(folder)
    ]
    return Probes(tuple(tasks), {"probes": folder})


def probe_folder(cfg: ProbesConfig) -> Path:
    """The folder the documents come from. Raises ProbeError when it does not exist."""
    if cfg.source == "embedded":
        return EMBEDDED
    assert cfg.path is not None
    folder = Path(cfg.path).expanduser()
    if not folder.is_dir():
        raise ProbeError(
            f"probes.path={cfg.path}: no such folder (looked in {Path.cwd()}); "
            "give a folder with <task>.jsonl or <task>.txt files"
        )
    return folder


def probe_files(folder: Path) -> list[Path]:
    """The task files of a folder, by task name. Raises ProbeError for fewer than two tasks."""
    files = sorted(
        p for p in folder.iterdir() if p.suffix in (".jsonl", ".txt") and p.is_file() and p.name[0] != "."
    )
    if len(files) < 2:
        raise ProbeError(
            f"{folder} has {len(files)} task files; SI compares tasks, so at least two <task>.jsonl or "
            "<task>.txt are needed"
        )
    names = [task_name(p.stem) for p in files]
    for name in names:
        if names.count(name) > 1:
            raise ProbeError(f"{folder} has two files for task '{name}'; rename one of them")
    return files


def read_documents(path: Path) -> Iterator[Document]:
    """Documents of one task file in file order.

    `.jsonl`: one object a line with a `text`; blank lines are skipped. `.txt`: documents between blank lines.
    Raises ProbeError naming file and line for what cannot be read.
    """
    task = task_name(path.stem)
    empty = True
    texts = _jsonl(path) if path.suffix == ".jsonl" else paragraphs(path, ProbeError)
    for text in texts:
        if text.strip():
            empty = False
            yield Document(task, text)
    if empty:
        raise ProbeError(
            f'{path} holds no document; put one {{"text": ...}} on each line, or remove the file'
        )


def _jsonl(path: Path) -> Iterator[str]:
    for number, record in json_lines(path, ProbeError):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ProbeError(f'{path} line {number} has no "text"; {FORM}')
        yield whole_text(record["text"], f"{path} line {number}", ProbeError)
