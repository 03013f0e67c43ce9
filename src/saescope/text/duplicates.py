"""Documents that repeat each other: near-duplicates, by the overlap of their word 8-grams."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WORDS = 8
"""Words in a row that are compared."""
OVERLAP = 0.8
"""Jaccard index of the sets of 8-grams from which on two documents are near-duplicates."""

_UNSPACED = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
"""Scripts without spaces between words; each character is taken for one."""
_WORD = re.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})\S)+")

Grams = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Which documents repeat an earlier one. D documents."""

    first_D: npt.NDArray[np.int64]
    """The first document of the same task that each repeats; its own number where there is none."""

    elsewhere_D: npt.NDArray[np.bool_]
    """Whether it repeats an earlier document of another task, and none of its own."""


def find_repeats(texts: Sequence[str], tasks: Sequence[int]) -> Repeats:
    """Compare all documents with those before them; `tasks` are the tasks of the documents.

    A document is compared with the first of each group of near-duplicates, never with a later member, so that
    a chain of small changes does not tie unlike documents together. The search is exact: two sets whose
    Jaccard index is at least t share one of the |x| − ⌈t·|x|⌉ + 1 rarest elements of either (prefix
    filtering, Chaudhuri et al. 2006).
    """
    documents = _grams(texts)
    first_D = np.arange(len(texts))
    elsewhere_D = np.zeros(len(texts), dtype=bool)
    with_gram: dict[int, list[int]] = {}
    for number, grams in enumerate(documents):
        rare = grams[: len(grams) - math.ceil(OVERLAP * len(grams)) + 1].tolist()
        candidates = {other: None for gram in rare for other in with_gram.get(gram, ())}
        similar = [other for other in candidates if _overlap(grams, documents[other]) >= OVERLAP]
        of_task = [other for other in similar if tasks[other] == tasks[number]]
        if of_task:
            first_D[number] = min(of_task)
            continue
        elsewhere_D[number] = bool(similar)
        for gram in rare:
            with_gram.setdefault(gram, []).append(number)
    return Repeats(first_D, elsewhere_D)


def _overlap(a: Grams, b: Grams) -> float:
    """Jaccard index of two sets, given as sorted arrays."""
    if min(len(a), len(b)) < OVERLAP * max(len(a), len(b)):
        return 0.0
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _grams(texts: Sequence[str]) -> list[Grams]:
    """The set of 8-grams of each text as sorted numbers, rare 8-grams first."""
    hashes = _hashes(texts)
    if not hashes:
        return []
    distinct, number, count = np.unique(np.concatenate(hashes), return_inverse=True, return_counts=True)
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[np.argsort(count, kind="stable")] = np.arange(len(distinct))
    ends = np.cumsum([len(h) for h in hashes])
    return [np.sort(part) for part in np.split(rank[number.reshape(-1)], ends[:-1])]


def _hashes(texts: Sequence[str]) -> list[npt.NDArray[np.uint64]]:
    """Hashes of the distinct 8-grams of each text; of a shorter text one hash of all its words."""
    number_of: dict[str, int] = {}
    multiplier = np.random.default_rng(0).integers(0, 2**64, WORDS, dtype=np.uint64) | np.uint64(1)
    result = []
    for text in texts:
        words = _WORD.findall(text.casefold())
        numbers = [number_of.setdefault(word, len(number_of) + 1) for word in words]
        numbers += [0] * (WORDS - len(numbers))
        grams = np.lib.stride_tricks.sliding_window_view(np.array(numbers, dtype=np.uint64), WORDS)
        with np.errstate(over="ignore"):
            result.append(np.unique((grams * multiplier).sum(1, dtype=np.uint64)))
    return result
