"""Matched SI and Q of one run, at every standard amount of evidence its data allow."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr
from saescope.stats.coactivation import collapse
from saescope.stats.matched import most_frequent
from saescope.stats.matched_modularity import DRAWS, MatchedQ, matched_levels
from saescope.stats.matched_specialization import matched_specialization
from saescope.stats.progress import Progress, no_progress

SWITCHED_OFF = "switched off by metrics.matched_draws=0"


@dataclass(frozen=True)
class MatchedSummary:
    """What a sweep needs to compare this run with others; the codes themselves are not stored."""

    si: float | None
    si_firings: int
    """Firings that each latent was thinned to."""
    si_latents: int
    """Latents behind the mean."""
    si_lacks: str
    """Why `si` is None; empty otherwise."""
    q: tuple[MatchedQ, ...]
    """One for each graph size and number of firings."""
    q_lacks: str
    """Why `q` is empty; empty otherwise."""

    def plain(self) -> dict[str, Any]:
        """Numbers, text, lists and mappings only, for JSON."""
        return asdict(self) | {"q": [asdict(level) for level in self.q]}


def summarise_matched(
    active_NF: Csr,
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    *,
    firings: int,
    draws: int = DRAWS,
    resolution: float = 1.0,
    seed: int = 0,
    unit_N: AnyIntArray | None = None,
    progress: Progress = no_progress,
) -> MatchedSummary:
    """Matched SI at `firings` firings a latent, matched Q at all levels of `matched_levels`.

    `active_NF`: tokens by latents, non-zero = active; `doc_counts_DF`: tokens of document d on which latent f
    is active. `draws`: 0 leaves both out. `unit_N` (chunk or document of each token) counts joint
    firings per unit instead of per token.
    """
    if draws == 0:
        return MatchedSummary(None, firings, 0, SWITCHED_OFF, (), SWITCHED_OFF)
    count_F = np.asarray(doc_counts_DF.sum(axis=0)).ravel()
    frequent = most_frequent(count_F)
    frequent = frequent[np.asarray(supported_F, dtype=np.bool_)[frequent]]
    si, si_latents, si_lacks = None, 0, "a single task"
    if num_tasks > 1:
        si, si_latents = matched_specialization(
            doc_counts_DF,
            tokens_D,
            task_D,
            num_tasks,
            frequent,
            firings=firings,
            draws=draws,
            seed=seed,
            progress=progress,
        )
        si_lacks = f"no supported latent has {firings} firings" if si is None else ""
    units = active_NF if unit_N is None else collapse(active_NF, unit_N)
    q, q_lacks = matched_levels(
        units, supported_F, draws=draws, resolution=resolution, seed=seed, progress=progress
    )
    return MatchedSummary(si, firings, si_latents, si_lacks, tuple(q), q_lacks)
