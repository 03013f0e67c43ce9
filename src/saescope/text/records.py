"""Records of a data file, or of a folder that `datasets` saved: by line, or by the `datasets` library."""

import glob
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from saescope.errors import SaescopeError, choices, nearest
from saescope.text.content import NoColumnError, Record, Text, WrongValueError, columns, text_at
from saescope.text.hub_dataset import error_summary
from saescope.text.text_files import FORM, json_lines, lines, paragraphs, whole_text

TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".json": ("json", {}),
    ".csv": ("csv", {"keep_default_na": False}),  # a document "null" is a text
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t"}),
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
}  # fmt: skip
"""Ending → the reader of `datasets`, and what it is told."""
ENDINGS = (".txt", ".jsonl", *TABLES)
"""Files that can be read."""


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved this folder (`save_to_disk`)."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def read_texts(
    place: Path,
    text_key: str,
    setting: str,
    error: type[SaescopeError],
    *,
    split: str | None = None,
    one_document: bool = False,
) -> Iterator[tuple[str, Text]]:
    """Texts of a file or a saved folder, each with where it stands; empty ones too.

    `.txt`: documents between blank lines, or the whole file as `one_document`; others: the column `text_key`,
    whose config key is `setting`. Raises `error` naming file and line for what cannot be read.
    """
    if place.suffix == ".txt" and place.is_file():
        texts = (
            ["".join(line for _, line in lines(place, error))] if one_document else paragraphs(place, error)
        )
        for text in texts:
            yield str(place), text
        return
    for where, record in read_records(place, [text_key], error, split=split):
        yield where, text_in(record, text_key, setting, where, error)


def text_in(record: Any, key: str, setting: str, where: str, error: type[SaescopeError]) -> Text:
    """The text under `key`. Raises `error` naming the columns there are."""
    if not isinstance(record, dict):
        raise error(f"{where} has no text under '{key}'; {FORM}")
    try:
        text = text_at(record, key)
    except NoColumnError as cause:
        names = columns(record)
        raise error(
            f"{where} has no text under '{key}'; {nearest(key, names)}set {setting} to one of: "
            f"{choices(names, 12) or 'nothing is there'}"
        ) from cause
    except WrongValueError as cause:
        raise error(f"{where}: {cause}") from cause
    for part in [text] if isinstance(text, str) else [content for _, content in text.messages]:
        whole_text(part, where, error)
    return text


def read_records(
    place: Path, keys: Sequence[str], error: type[SaescopeError], *, split: str | None = None
) -> Iterator[tuple[str, Any]]:
    """Records of a file or a saved folder in order, each with where it stands; `keys` are the columns used.

    Class labels are given by name. Raises `error` for what cannot be read, and where a saved folder has
    several splits and `split` names none of them.
    """
    if place.suffix == ".jsonl":
        for number, record in json_lines(place, error):
            yield f"{place} line {number}", record
        return
    number = 0
    try:
        for record in _dataset(place, keys, split, error):
            yield f"{place} record {number}", record
            number += 1
    except (SaescopeError, GeneratorExit):
        raise
    except Exception as cause:  # datasets raises whatever its readers raise
        after = f" after record {number - 1}" if number else ""
        raise error(f"cannot read {place}{after} ({error_summary(cause)})") from cause


def _dataset(
    place: Path, keys: Sequence[str], split: str | None, error: type[SaescopeError]
) -> Iterable[Record]:
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # our own line says what is wrong
    if place.is_dir():
        data = datasets.load_from_disk(str(place))
        if isinstance(data, dict):
            data = _split(data, split, place, error)
    else:
        kind, options = TABLES[place.suffix]
        data = _open(place, kind, options)
        if kind == "csv" and (first := next(iter(data), None)) is not None:
            text = datasets.Features({column: datasets.Value("string") for column in first})
            data = _open(place, kind, options | {"features": text})  # "007" is a text, and no number
    tops = list(dict.fromkeys(key if key in (data.column_names or ()) else key.split(".")[0] for key in keys))
    if tops and data.column_names and set(tops) <= set(data.column_names):
        data = data.select_columns(tops)
    labels = {
        column: feature
        for column, feature in (data.features or {}).items()
        if isinstance(feature, datasets.ClassLabel)
    }
    for record in data:
        for column, feature in labels.items():
            if isinstance(record[column], int) and record[column] >= 0:
                record[column] = feature.int2str(record[column])
        yield record


def _open(place: Path, kind: str, options: dict[str, Any]) -> Any:
    import datasets

    files = glob.escape(str(place))
    return datasets.load_dataset(kind, data_files=files, split="train", streaming=True, **options)


def _split(data: dict[str, Any], split: str | None, place: Path, error: type[SaescopeError]) -> Any:
    if split is None and len(data) == 1:
        return next(iter(data.values()))
    if split not in data:
        which = f"no split '{split}'" if split else "several splits"
        raise error(f"{place} has {which}; choose the split, one of: {choices(map(str, data))}")
    return data[split]
