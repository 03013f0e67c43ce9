"""`probes=languages`: the same sentences in several languages, each language a task (as in FLORES).

One file per language with a sentence a line, or one table with a column per language. Documents of the same
number are translations of each other: several consecutive sentences, one a line.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from saescope.config import ProbesConfig
from saescope.errors import ProbeError, choices, nearest
from saescope.left_out import LeftOut
from saescope.text.content import Chat
from saescope.text.documents import Document, Part, Probes, Task, task_name
from saescope.text.records import ENDINGS, TABLES, is_saved, read_records, text_in
from saescope.text.text_files import lines, whole_text

EMBEDDED = Path(__file__).parents[1] / "assets" / "languages"

LINES = (".txt", ".dev", ".devtest")
"""Endings of files with a sentence a line; the latter are those of FLORES."""
VALID = ", ".join((*LINES, ".jsonl", *TABLES))

Sentences = Sequence[str]
Languages = Mapping[str, Callable[[], Sentences]]
"""Language → how its sentences are read."""


def open_languages(cfg: ProbesConfig) -> Probes:
    """The languages of a folder or table as parallel tasks, by name.

    Raises ProbeError when there is nothing, no second language, or the languages differ in length.
    """
    place = EMBEDDED if cfg.path is None else Path(cfg.path).expanduser()
    if not place.exists():
        raise ProbeError(
            f"probes.path={cfg.path}: no such file or folder (looked in {Path.cwd()}); give a folder with "
            "one file per language, or a table with one column per language"
        )
    left_out: list[str] = []
    no_text: list[str] = []
    if place.is_dir() and not is_saved(place):
        sources, left_out = _files(cfg, place)
        languages = _chosen(cfg, place, {name: _read(cfg, path) for name, path in sources.items()})
    else:
        languages, no_text = _columns(cfg, place)
    languages = dict(sorted(languages.items()))
    if len(languages) < 2:
        raise ProbeError(f"{place} has {len(languages)} languages; at least two are needed")
    counts = {name: len(sentences) for name, sentences in languages.items()}
    if len(set(counts.values())) > 1:
        raise ProbeError(
            f"{place}: the languages have different numbers of sentences "
            f"({choices((f'{name} {count}' for name, count in counts.items()), 12)}); each sentence must "
            "stand at the same place in all of them"
        )
    labels = [task_name(name) for name in languages]
    if doubled := sorted({label for label in labels if labels.count(label) > 1}):
        raise ProbeError(f"{place} has two languages of the name '{doubled[0]}'; rename one of them")
    documents, missing = _documents(list(languages.values()), cfg.sentences)
    if not documents:
        raise ProbeError(f"{place} holds no sentence that every language has")
    tasks = [
        Task(label, (Part(f"{place} {name}", partial(_of_task, label, [row[at] for row in documents])),))
        for at, (label, name) in enumerate(zip(labels, languages, strict=True))
    ]
    notices, records = [], []
    if left_out:
        records.append(LeftOut("files", len(left_out), None, f"Only files that end in {VALID} are read."))
        notices.append(
            f"probes: left out of {place}: {choices(left_out, 10)} (files that end in {VALID} are read)."
        )
    if no_text:
        notices.append(
            f"probes: columns of {place} that are no language here: {choices(no_text, 10)} (a value in them "
            "is no text, or none has a letter)."
        )
        why = "A value of the column is no text, or none has a letter, so it is no language."
        records.append(LeftOut("columns", len(no_text), len(no_text) + len(languages), why))
    if missing:
        why = "The sentence is empty in one language, and so left out in all of them."
        records.append(LeftOut("sentences", missing, max(counts.values()), why))
        notices.append(
            f"probes: {missing} sentences that are empty in one language are left out in all of them."
        )
    return Probes(tuple(tasks), {"probes": place}, tuple(notices), tuple(records), parallel=True)


def _of_task(label: str, texts: Sequence[str]) -> Iterator[Document]:
    return (Document(label, text) for text in texts)


def _documents(languages: Sequence[Sentences], sentences: int) -> tuple[list[list[str]], int]:
    """Documents [D][language] of consecutive sentences, and how many sentences some language lacks."""
    rows = list(zip(*languages, strict=True))
    complete = [row for row in rows if all(sentence.strip() for sentence in row)]
    groups = [complete[at : at + sentences] for at in range(0, len(complete), sentences)]
    texts = [["\n".join(column) for column in zip(*group, strict=True)] for group in groups]
    return texts, len(rows) - len(complete)


def _files(cfg: ProbesConfig, folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Language → file or saved dataset, and what is left out."""
    entries = sorted(p for p in folder.iterdir() if p.name[0] != ".")
    readable = {p: p.stem for p in entries if p.is_file() and p.suffix in (*LINES, *ENDINGS)}
    readable |= {p: p.name for p in entries if p.is_dir() and is_saved(p)}
    if (
        not readable and len({p.stem for p in entries}) == 1
    ):  # corpus.en, corpus.de: one stem, as Moses has it
        readable = {p: p.suffix[1:] for p in entries if p.is_file() and p.suffix}
    names = list(readable.values())
    for path, name in readable.items():
        if names.count(name) > 1:
            raise ProbeError(
                f"{folder} has two files of the language '{name}' ({path.name}); keep one of them"
            )
    left_out = [p.name for p in entries if p not in readable]
    return {name: path for path, name in readable.items()}, left_out


def _read(cfg: ProbesConfig, path: Path) -> Callable[[], Sentences]:
    if path.is_dir() or path.suffix == ".jsonl" or path.suffix in TABLES:
        return partial(_column, cfg, path)
    return partial(_lines, path)


def _lines(path: Path) -> Sentences:
    """A sentence a line; a blank one is a sentence that is missing."""
    sentences = [line.rstrip("\r\n") for _, line in lines(path, ProbeError)]
    while sentences and not sentences[-1].strip():
        del sentences[-1]
    return sentences


def _column(cfg: ProbesConfig, path: Path) -> Sentences:
    """The column `probes.text_key` of one language's file."""
    sentences = []
    for where, record in read_records(path, [cfg.text_key], ProbeError, split=cfg.split):
        text = text_in(record, cfg.text_key, "probes.text_key", where, ProbeError)
        if isinstance(text, Chat):
            raise ProbeError(f"{where}: '{cfg.text_key}' holds messages; probes=languages needs sentences")
        sentences.append(text)
    return sentences


def _chosen(cfg: ProbesConfig, place: Path, languages: Languages) -> dict[str, Sentences]:
    """The languages that `probes.languages` names, or all, read."""
    for name in cfg.languages:
        if name not in languages:
            raise ProbeError(
                f"{place} has no language '{name}'; {nearest(name, languages)}valid: {choices(languages)}"
            )
    return {name: read() for name, read in languages.items() if not cfg.languages or name in cfg.languages}


def _columns(cfg: ProbesConfig, place: Path) -> tuple[dict[str, Sentences], list[str]]:
    """The columns of one table that hold text, or those that `probes.languages` names; then the others.

    Columns that `probes.languages` does not name are not among the others.
    """
    if place.is_file() and place.suffix != ".jsonl" and place.suffix not in TABLES:
        raise ProbeError(
            f"probes.path={cfg.path} is one file without columns; give a folder with one file per language, "
            f"or a table (.jsonl, {', '.join(TABLES)})"
        )
    columns: dict[str, list[str]] = {}
    others: set[str] = set()
    for where, record in read_records(place, list(cfg.languages), ProbeError, split=cfg.split):
        if not isinstance(record, dict):
            raise ProbeError(f"{where} is no object with a column per language")
        columns = columns or {name: [] for name in record}
        for name in cfg.languages:
            if name not in record:
                raise ProbeError(
                    f"{where} has no column '{name}'; {nearest(name, record)}set probes.languages to some "
                    f"of: {choices(record)}"
                )
        for name, sentences in columns.items():
            value = record.get(name)
            if value is not None and not isinstance(value, str):
                others.add(name)
            sentences.append(whole_text(value, where, ProbeError) if isinstance(value, str) else "")
    if wrong := [name for name in cfg.languages if name in others]:
        raise ProbeError(f"{place}: column '{wrong[0]}' holds no text")
    if cfg.languages:
        return {name: columns[name] for name in columns if name in cfg.languages}, []
    languages: dict[str, Sentences] = {
        name: sentences
        for name, sentences in columns.items()
        if name not in others and any(map(str.isalpha, "".join(sentences)))  # numbers are no language
    }
    return languages, [name for name in columns if name not in languages]
