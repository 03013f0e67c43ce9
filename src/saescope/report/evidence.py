"""Too little evidence, in one line each: few documents in a task, draws too few to tell latents apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saescope.metrics import TASK_DOCS, Metric, at_floor, metric
from saescope.report.numbers import count, figure
from saescope.runfolder.values import finite

FEWEST_DOCUMENTS = 20
"""A task of fewer documents is called too small. The percentile bootstrap of n documents has half-widths of
1.96 √((n − 1)/n) s/√n where t₍ₙ₋₁₎ s/√n would be right (Hesterberg 2015, The American Statistician 69, 371):
9 % too narrow at 20, 18 % at 10."""
MANY_AT_FLOOR = 0.25
"""Share of latents at the floor of p from which it is called shared; without any effect 1/(draws + 1) are
there, 5 % at the fewest draws that the config allows."""
FLOOR_OF_LEVEL = 0.1
"""The q-value at the floor should be at most this share of the FDR level: then at least ten draws are
expected beyond the p-value that decides, whose Monte Carlo error is at most 1/√10 of it, a third."""


@dataclass(frozen=True)
class Shortage:
    """Where the evidence of a run is thin; None where it is not."""

    smallest: tuple[str, int] | None
    """The task with the fewest documents, and their number."""
    floor: tuple[int, float, float] | None
    """Permutations, share of the supported latents at the floor of p, their q."""

    @property
    def sentences(self) -> list[str]:
        """One line each."""
        return shortage_sentences([self])


def shortage(
    metrics: Mapping[str, Any], settings: Mapping[str, Any], p_F: npt.NDArray[Any] | None
) -> Shortage:
    """What is thin in a run.

    Args:
        metrics: those of the run.
        settings: its config group `metrics`.
        p_F: the `si_p` of its latents, NaN without support; None where they cannot be read.
    """
    docs = {
        key.removeprefix("task/").removesuffix("/docs"): int(number)
        for key, value in metrics.items()
        if metric(key) == TASK_DOCS and (number := finite(value)) is not None
    }
    smallest = min(docs.items(), key=lambda item: item[1], default=None)
    permutations = finite(settings.get("permutations"))
    floor = None
    if p_F is not None and permutations:
        shared = shared_floor(
            np.asarray(p_F, dtype=float), int(permutations), finite(settings.get("si_fdr")) or 0.05
        )
        floor = None if shared is None else (int(permutations), *shared)
    return Shortage(smallest if smallest and smallest[1] < FEWEST_DOCUMENTS else None, floor)


def shortage_sentences(shortages: list[Shortage], jobs: int = 1) -> list[str]:
    """The lines for one run, or for the `jobs` of a sweep."""
    sentences = []
    smallest = [shortage.smallest for shortage in shortages if shortage.smallest]
    if smallest:
        task, docs = min(smallest, key=lambda item: item[1])
        sentences.append(
            f"The smallest task, {task}, has {docs} document{'' if docs == 1 else 's'}, fewer than "
            f"{FEWEST_DOCUMENTS}{_of(len(smallest), jobs)}: the interval of SI may be too narrow. "
            "More probe text helps."
        )
    floors = [shortage.floor for shortage in shortages if shortage.floor]
    for draws in sorted({floor[0] for floor in floors}):
        shares = sorted(floor[1] for floor in floors if floor[0] == draws)
        qs = sorted(floor[2] for floor in floors if floor[0] == draws)
        sentences.append(
            f"{count(draws)} permutations are few: {_span(shares, _whole)} of the supported latents "
            f"share the smallest possible p-value, 1/{count(draws + 1)} "
            f"(q = {_span(qs, lambda q: figure(q, 2))}{_of(len(shares), jobs)}), so p and q do not rank "
            "them. More (metrics.permutations) would."
        )
    return sentences


def shared_floor(p_F: npt.NDArray[Any], draws: int, fdr: float) -> tuple[float, float] | None:
    """Share of the latents F at the floor of p, and their Benjamini–Hochberg q, where the draws are too few.

    Too few: at least `MANY_AT_FLOOR` share the floor and their q exceeds `FLOOR_OF_LEVEL` of `fdr`. NaN
    counts as no latent. None where the draws are enough, or no latent has a p.
    """
    tested = p_F[np.isfinite(p_F)]
    share = float(np.mean(at_floor(tested, draws))) if tested.size else 0.0
    if share < MANY_AT_FLOOR:
        return None
    q = 1 / (draws + 1) / share
    return (share, q) if q > FLOOR_OF_LEVEL * fdr else None


def draws_of(entry: Metric, metrics: Mapping[str, Any]) -> int | None:
    """The number of draws behind a p-value, from the metrics of its run; None where it is not known."""
    if entry.draws is None or isinstance(entry.draws, int):
        return entry.draws
    number = finite(metrics.get(entry.draws))
    return None if number is None else int(number)


def _span(values: list[float], text: Callable[[float], str]) -> str:
    low, high = text(values[0]), text(values[-1])
    return low if low == high else f"{low} to {high}"


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"


def _of(number: int, jobs: int) -> str:
    return "" if jobs == 1 else f", in {'all' if number == jobs else f'{number} of'} {jobs} jobs"
