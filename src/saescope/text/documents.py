"""Probe documents with their task labels, as every probe source gives them."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saescope.left_out import LeftOut
from saescope.text.content import Text

_KEPT = "_-.\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Kept in names of tasks beside letters, marks and digits; joiners are part of Persian and Indic spelling."""


@dataclass(frozen=True)
class Document:
    """One labelled text."""

    task: str
    """Task label, fit for a metric key (letters, digits, `_`, `-`, `.`)."""

    text: Text
    """A text, or a chat; an empty one is counted and left out."""

    repeat: int = 1
    """How often its tokens count. It stays one document: repeating adds weight, not evidence."""


@dataclass(frozen=True)
class Part:
    """Documents of one task from one place, in a fixed order."""

    where: str
    """File, record or dataset, for messages."""

    read: Callable[[], Iterator[Document]]
    """Reads the documents, from the first at every call. Raises ProbeError when they cannot be read."""

    max_tokens: int | None = None
    """Counted tokens taken from this part at most; None: only `probes.max_tokens_per_task` limits it."""

    left_out: Callable[[], Sequence[LeftOut]] = tuple
    """What the last reading passed over without giving it as a document."""


@dataclass(frozen=True)
class Task:
    """A label with its documents."""

    name: str

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Probes:
    """The tasks of a probe source."""

    tasks: tuple[Task, ...]
    """At least two, with different names."""

    origins: dict[str, Path | str]
    """Where the documents come from: files and folders, and Hub datasets as `name@commit`."""

    notices: tuple[str, ...] = ()
    """What a reader has to know about the source, such as files that were left out; sentences."""

    left_out: tuple[LeftOut, ...] = ()
    """What the source holds and no task reads."""

    parallel: bool = False
    """Whether documents of the same number are translations of each other: all tasks get the same ones."""


def task_name(name: str) -> str:
    """The name with all characters but letters, digits, `_`, `-`, `.` replaced by `_`.

    Letters of any script, with the vowel signs and accents written on them, are kept as they are.
    """
    return "".join(c if c in _KEPT or unicodedata.category(c)[0] in "LMN" else "_" for c in name)
