"""The embedded corpus: documents of six tasks that any machine can write without a download.

Four tasks are generated (`arithmetic`, `qa`, `dialogue`, `logic`) and two are read from the Python standard
library (`code`, `reference`). The module needs no torch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from saescope.text.embedded import arithmetic, dialogue, logic, passages, stdlib
from saescope.text.embedded.probe_split import Split, split_of
from saescope.text.embedded.scribe import Scribe

GENERATED_TASKS: Mapping[str, Callable[[Scribe], str]] = {
    "arithmetic": arithmetic.document,
    "qa": passages.document,
    "dialogue": dialogue.document,
    "logic": logic.document,
}
LIBRARY_TASKS: Mapping[str, Callable[[Split, int], Iterator[str]]] = {
    "code": stdlib.code_documents,
    "reference": stdlib.reference_documents,
}
TASKS: tuple[str, ...] = ("code", "reference", *GENERATED_TASKS)
"""Names of the tasks, in the order in which reports show them."""

MIXTURE: Mapping[str, float] = {
    "code": 0.28, "reference": 0.08, "arithmetic": 0.16, "qa": 0.16, "dialogue": 0.16, "logic": 0.16,
}  # fmt: skip
"""Share of each task in the characters of `documents`."""


def task_documents(task: str, split: Split, seed: int = 0) -> Iterator[str]:
    """Yield documents of one task and split, each text at most once.

    Generated tasks never end. Library tasks end when the library does. A document belongs to the split that
    the hash of its text (generated tasks) or of its file's name (library tasks) names. Generated documents
    also use names of people and places of their own split only, and library documents of the probe split
    share no long run of lines with the training split.
    """
    if task in LIBRARY_TASKS:
        yield from LIBRARY_TASKS[task](split, seed)
        return
    if task not in GENERATED_TASKS:
        raise ValueError(f"Unknown task {task!r}; choose from {', '.join(TASKS)}.")
    scribe, seen = Scribe(split, seed), set[int]()
    while True:
        text = GENERATED_TASKS[task](scribe)
        if split_of(text) == split and hash(text) not in seen:
            seen.add(hash(text))
            yield text


def documents(split: Split, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (task, text) without end, mixed by `MIXTURE` in characters.

    The next document always comes from the task that is furthest behind its share, with ties and order broken
    by the seed. A library task that ends starts again in a new order.
    """
    order = random.Random(f"saescope-documents-{split}-{seed}").sample(TASKS, len(TASKS))
    streams = {task: _endless(task, split, seed) for task in order}
    written = dict.fromkeys(order, 0)
    while True:
        task = min(order, key=lambda name: written[name] / MIXTURE[name])
        text = next(streams[task])
        written[task] += len(text)
        yield task, text


def _endless(task: str, split: Split, seed: int) -> Iterator[str]:
    epoch = 0
    while True:
        yield from task_documents(task, split, seed + 1_000_003 * epoch)
        epoch += 1
