"""Sentences for the reader of a result on what its probe texts are like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from saescope.text.duplicates import Repeats
from saescope.text.packing import Ids
from saescope.text.shared_ends import shared_ends


def on_left_out(blank: Mapping[str, int], uncounted: Mapping[str, int], exclude_first: int) -> list[str]:
    """On documents without anything to count, by task."""
    parts = []
    if blank:
        parts.append(f"{_per_task(blank)} are empty")
    if uncounted:
        parts.append(
            f"{_per_task(uncounted)} have no counted token (probes.exclude_first={exclude_first}, special "
            "tokens do not count)"
        )
    return [f"probes: documents left out: {'; '.join(parts)}."] if parts else []


def on_repeats(
    repeats: Repeats, task_D: npt.NDArray[np.int64], names: Sequence[str], *, merged: bool
) -> list[str]:
    """On documents that repeat others; `merged` says whether they are one document with them."""
    notices = []
    again_D = repeats.first_D != np.arange(len(task_D))
    if again_D.any():
        consequence = (
            "each counts as one document with it (probes.duplicates=merge)"
            if merged
            else "p-values and intervals take them for independent (probes.duplicates=warn)"
        )
        notices.append(
            f"probes: {int(again_D.sum())} of {len(task_D)} documents repeat an earlier one of their task "
            f"({_per_task(_counts(again_D, task_D, names))}); {consequence}."
        )
    if repeats.elsewhere_D.any():
        notices.append(
            f"probes: {_per_task(_counts(repeats.elsewhere_D, task_D, names))} repeat a document of another "
            "task: what fires on them is specialised for neither."
        )
    return notices


def on_templates(names: Sequence[str], tasks: Sequence[Sequence[Ids]], tokenizer: Any) -> list[str]:
    """On tasks whose documents, given as token ids, all begin or end alike."""
    notices = []
    for name, documents, ends in zip(names, tasks, shared_ends(tasks), strict=True):
        alike = [
            f"{verb} with the same {len(ids)} tokens ({_quoted(tokenizer.decode(ids))})"
            for verb, ids in (("begin", ends.prefix), ("end", ends.suffix))
            if len(ids)
        ]
        if alike:
            notices.append(
                f"probes: all {len(documents)} documents of {name} {' and '.join(alike)}, those of other "
                "tasks do not: latents that fire on this template look specialised."
            )
    return notices


def _counts(
    mask_D: npt.NDArray[np.bool_], task_D: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, int]:
    """Number of the marked documents by task, tasks without any left out."""
    counts = np.bincount(task_D[mask_D], minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}


def _per_task(counts: Mapping[str, int]) -> str:
    """`12 of a, 3 of b`."""
    return ", ".join(f"{count} of {task}" for task, count in counts.items())


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return f"'{text if len(text) <= 60 else f'{text[:57]}…'}'"
