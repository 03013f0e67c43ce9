"""Probe documents: texts that carry a task label. `probes.source` → tasks with their documents."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saescope.config import ProbesConfig

MEMORY = Path("outputs") / ".datasets"
"""Where the commits of Hub datasets are noted for jobs without a network."""


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


def open_probes(cfg: ProbesConfig) -> Probes:
    """The tasks of the source; no document is read yet.

    Raises ProbeError when the source is not there or has fewer than two tasks.
    """
    # Imported here: each source only when it is asked for.
    match cfg.source:
        case "embedded" | "folder":
            from saescope.text.probe_folder import open_folder

            return open_folder(cfg)
        case "standard":
            from saescope.text.probe_standard import open_standard

            return open_standard()
        case "manifest":
            from saescope.text.probe_manifest import open_manifest

            return open_manifest(cfg)
        case other:
            raise AssertionError(f"{other} is no probe source")


def task_name(name: str) -> str:
    """Other characters than letters, digits, `_`, `-`, `.` replaced by `_`."""
    return re.sub(r"[^\w.-]", "_", name)
