"""Probes from a folder: one file or one folder per task, or one dataset with a column that names the task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from saescope.config import ProbesConfig
from saescope.errors import ProbeError, choices, nearest
from saescope.left_out import LeftOut
from saescope.text.content import NoColumnError, Text, columns, is_blank, value_at
from saescope.text.documents import Document, Part, Probes, Task, task_name
from saescope.text.records import ENDINGS, is_saved, read_records, read_texts, text_in

EMBEDDED = Path(__file__).parents[1] / "assets" / "probes"

READABLE = ", ".join(ENDINGS)


def open_folder(cfg: ProbesConfig) -> Probes:
    """`<task>.jsonl`, `.txt`, `.csv` … files, folders of them, or a dataset that `probes.task_key` divides.

    Raises ProbeError when there is nothing, or no second task.
    """
    place = probe_place(cfg)
    if cfg.task_key is not None:
        return _by_column(cfg, place, cfg.task_key)
    if place.is_file() or is_saved(place):
        raise ProbeError(
            f"probes.path={cfg.path} is one dataset; set probes.task_key to its column with the task: "
            f"{_columns(cfg, place)}"
        )
    layout = task_places(place)
    _check_names(place, [name for name, _ in layout.tasks])
    tasks = [
        Task(task_name(name), (Part(str(source), partial(read_documents, source, cfg.text_key, cfg.split)),))
        for name, source in layout.tasks
    ]
    files = [place / name for name in layout.left_out]
    return Probes(tuple(tasks), {"probes": place}, _notices(place, layout.left_out), _unread(files))


def probe_place(cfg: ProbesConfig) -> Path:
    """The folder or file the documents come from. Raises ProbeError when it does not exist."""
    if cfg.source == "embedded":
        return EMBEDDED
    assert cfg.path is not None
    place = Path(cfg.path).expanduser()
    if not place.exists():
        raise ProbeError(
            f"probes.path={cfg.path}: no such folder (looked in {Path.cwd()}); "
            f"give a folder with one file ({READABLE}) or one folder per task"
        )
    if place.is_file() and place.suffix not in ENDINGS:
        raise ProbeError(f"probes.path={cfg.path}: cannot read '{place.suffix}' files; valid: {READABLE}")
    return place


@dataclass(frozen=True)
class Layout:
    """What a folder holds."""

    tasks: list[tuple[str, Path]]
    """Name, and file or folder, of each task."""

    left_out: list[str]
    """What is no task and no document of one, relative to the folder."""


def task_places(folder: Path) -> Layout:
    """The files of a folder as tasks, by name; where there are fewer than two, its folders.

    Raises ProbeError for fewer than two tasks.
    """
    entries = sorted(folder.iterdir())
    files = [(p.stem, p) for p in entries if _is_readable(p)]
    folders = [(p.name, p) for p in entries if p.is_dir() and p.name[0] != "." and _documents_in(p)]
    tasks = folders if len(files) < 2 <= len(folders) else files
    if len(tasks) < 2:
        raise ProbeError(
            f"{folder} has {len(tasks)} task files; SI compares tasks, so at least two <task>.jsonl, "
            f"<task>.txt … ({READABLE}) or two folders of them are needed, or probes.task_key"
        )
    left_out = [p for p in entries if p not in {place for _, place in tasks} and _matters(p)]
    inside = [path for _, place in tasks if place.is_dir() for path in _left_out_in(place)]
    return Layout(tasks, [str(path.relative_to(folder)) for path in (*left_out, *inside)])


def read_documents(place: Path, text_key: str = "text", split: str | None = None) -> Iterator[Document]:
    """Documents of one task in the order of its files, empty ones too.

    `.txt`: documents between blank lines, in a task folder one document a file; others: a text a record.
    Raises ProbeError naming file and line for what cannot be read, and when there is no text at all.
    """
    task = task_name(place.stem if place.is_file() else place.name)
    empty = True
    for source in [place] if place.is_file() else _documents_in(place):
        texts = read_texts(
            source, text_key, "probes.text_key", ProbeError, split=split, one_document=place.is_dir()
        )
        for _where, text in texts:
            empty = empty and is_blank(text)
            yield Document(task, text)
    if empty:
        raise ProbeError(
            f'{place} holds no document; put one {{"text": ...}} on each line, or remove the file'
        )


def _is_readable(path: Path) -> bool:
    return path.suffix in ENDINGS and path.is_file() and path.name[0] != "."


def _documents_in(folder: Path) -> list[Path]:
    """The files of a task folder, or the folder itself where `datasets` saved it."""
    return [folder] if is_saved(folder) else [p for p in _visible(folder) if p.suffix in ENDINGS]


def _left_out_in(folder: Path) -> list[Path]:
    """Files of a task folder that are not read, hidden ones too where their ending is one that is read."""
    if is_saved(folder):
        return []
    hidden = [p for p in folder.rglob(".*") if p.suffix in ENDINGS and _is_hidden_file(p, folder)]
    return sorted([*(p for p in _visible(folder) if p.suffix not in ENDINGS), *hidden])


def _is_hidden_file(path: Path, folder: Path) -> bool:
    """Whether the file alone is hidden, and no folder that it lies in."""
    above = path.relative_to(folder).parts[:-1]
    return path.is_file() and path.name[0] == "." and not any(part[0] == "." for part in above)


def _visible(folder: Path) -> list[Path]:
    """All files below a folder, sorted, hidden ones left out."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def _matters(path: Path) -> bool:
    """Whether somebody could take it for probe text: not hidden, or hidden and of an ending that is read."""
    return path.name[0] != "." or path.suffix in ENDINGS


def _unread(places: Sequence[Path]) -> tuple[LeftOut, ...]:
    """The files that no task reads; of a folder all that are in it."""
    count = sum(len(_visible(place)) if place.is_dir() else 1 for place in places)
    why = "No task is made of it: it has another ending, is hidden, or lies in a folder beside task files."
    return (LeftOut("files", count, None, why),) if count else ()


def _notices(place: Path, left_out: Sequence[str]) -> tuple[str, ...]:
    if not left_out:
        return ()
    return (
        f"probes: left out of {place}: {choices(left_out, 10)} (tasks are files that end in {READABLE} and "
        "are not hidden, or, where there are fewer than two, folders of them).",
    )


def _check_names(place: Path, names: Sequence[str]) -> None:
    """Raises ProbeError where two tasks would have one name."""
    labels = [task_name(name) for name in names]
    for label in labels:
        if labels.count(label) > 1:
            raise ProbeError(f"{place} has two files for task '{label}'; rename one of them")


def _sources(place: Path) -> list[Path]:
    return [place] if place.is_file() else _documents_in(place)


def _by_column(cfg: ProbesConfig, place: Path, task_key: str) -> Probes:
    """Tasks by the values of a column, by name; a record without a value is left out."""
    texts: dict[str, list[Text]] = {}
    unlabelled = 0
    for source in _sources(place):
        if source.suffix == ".txt":
            raise ProbeError(f"{source} has no columns, which probes.task_key={task_key} needs; remove it")
        for where, record in read_records(source, [cfg.text_key, task_key], ProbeError, split=cfg.split):
            text = text_in(record, cfg.text_key, "probes.text_key", where, ProbeError)
            try:
                label = value_at(record, task_key)
            except NoColumnError as error:
                names = columns(record)
                raise ProbeError(
                    f"{where} has no column '{task_key}'; {nearest(task_key, names)}set probes.task_key to "
                    f"one of: {choices(names, 12)}"
                ) from error
            if label is None or label == "":
                unlabelled += 1
            elif isinstance(label, str | int):
                texts.setdefault(str(label), []).append(text)
            else:
                raise ProbeError(
                    f"{where}: column '{task_key}' holds {type(label).__name__}, no name of a task"
                )
    if len(texts) < 2:
        raise ProbeError(
            f"{place} has {len(texts)} tasks (probes.task_key={task_key}); SI compares tasks, so at least "
            "two are needed"
        )
    _check_names(place, list(texts))
    tasks = []
    for name in sorted(texts):
        if all(is_blank(text) for text in texts[name]):
            raise ProbeError(f"{place} holds no document of task '{name}'")
        documents = [Document(task_name(name), text) for text in texts[name]]
        tasks.append(Task(task_name(name), (Part(f"{place} task {name}", partial(iter, documents)),)))
    unread = _left_out_in(place) if place.is_dir() else []
    notices = _notices(place, [str(p.relative_to(place)) for p in unread])
    left_out = _unread(unread)
    if unlabelled:
        notices += (
            f"probes: {unlabelled} records without a value of probes.task_key={task_key} are left out.",
        )
        labelled = sum(map(len, texts.values()))
        left_out += (
            LeftOut(
                "documents",
                unlabelled,
                labelled + unlabelled,
                f"The record has no value of probes.task_key={task_key}.",
            ),
        )
    return Probes(tuple(tasks), {"probes": place}, notices, left_out)


def _columns(cfg: ProbesConfig, place: Path) -> str:
    """Names of the columns, for a message."""
    if place.suffix == ".txt":
        return "a .txt file has none, give a folder with one file per task"
    _, record = next(read_records(place, [], ProbeError, split=cfg.split), ("", {}))
    return choices(columns(record) if isinstance(record, dict) else [], 12)
