"""Templates: tokens with which all documents of a task begin or end, and those of other tasks do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from saescope.text.packing import Ids

SHORTEST = 4
"""Tokens from which on a shared beginning or end is taken for a template."""
FEWEST = 5
"""Documents of which fewer may begin alike by chance."""


@dataclass(frozen=True)
class SharedEnds:
    """Tokens that all documents of a task share, beyond those that all tasks share."""

    prefix: Ids
    suffix: Ids


def shared_ends(tasks: Sequence[Sequence[Ids]]) -> list[SharedEnds]:
    """What the documents of each task have in common at their beginning and at their end.

    `tasks` holds the token ids of every document, task by task. Empty where a task has too few documents, or
    shares too few tokens.
    """
    none = np.zeros(0, dtype=np.int32)
    prefixes = [reduce(_common, documents) if documents else none for documents in tasks]
    suffixes = [
        reduce(_common, [ids[::-1] for ids in documents])[::-1] if documents else none for documents in tasks
    ]
    of_all = len(reduce(_common, prefixes)), len(reduce(_common, [ids[::-1] for ids in suffixes]))
    result = []
    for documents, prefix, suffix in zip(tasks, prefixes, suffixes, strict=True):
        own = prefix[of_all[0] :], suffix[: len(suffix) - of_all[1]]
        enough = len(documents) >= FEWEST
        result.append(SharedEnds(*(ids if enough and len(ids) >= SHORTEST else none for ids in own)))
    return result


def _common(a: Ids, b: Ids) -> Ids:
    """The longest common beginning."""
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[:size] != b[:size])
    return a[: differs[0]] if len(differs) else a[:size]
