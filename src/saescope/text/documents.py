"""What every probe source gives: tasks, their parts, and labelled documents."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Document:
    """One labelled text."""

    task: str
    """Task label, fit for a metric key (letters, digits, `_`, `-`, `.`)."""

    text: str

    repeat: int = 1
    """How often its tokens count. It stays one document: repeating adds weight, not evidence."""


@dataclass(frozen=True)
class Part:
    """Documents of one task from one place, in a fixed order."""

    where: str
    """File, record or dataset, for messages."""

    read: Callable[[], Iterator[Document]]
    """Starts the documents anew. Raises ProbeError when they cannot be read."""

    max_tokens: int | None = None
    """Counted tokens taken from this part; null: `probes.max_tokens_per_task` alone."""


@dataclass(frozen=True)
class Task:
    """A label with its documents."""

    name: str

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Probes:
    """What a probe source opens."""

    tasks: tuple[Task, ...]
    """At least two, with different names."""

    origins: dict[str, Path | str]
    """What the documents depend on: files and folders, and Hub datasets as `name@commit`."""


def task_name(name: str) -> str:
    """Other characters than letters, digits, `_`, `-`, `.` replaced by `_`."""
    return re.sub(r"[^\w.-]", "_", name)
