"""Q of SAEs of different size at equal numbers of latents, the matched Q of saescope 0.1.

Fewer firings a latent leave fewer validated edges, which raises this Q: splitting latents at random does so
too. `matched_modularity` makes firings and edges equal as well.
"""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, FloatArray, IntArray
from saescope.stats.modularity import leiden


@dataclass(frozen=True)
class LatentsOnlyQ:
    """Q over random subsets of the connected latents."""

    mean: float
    sd: float
    """Standard deviation over the draws (subset and Leiden seed together); 0 for a single draw."""
    latents: int
    """Latents in every subset."""


def connected(source: AnyIntArray, target: AnyIntArray) -> IntArray:
    """Ids of the latents with an edge, ascending."""
    ids: IntArray = np.union1d(source, target).astype(np.int64)
    return ids


def latents_only_modularity(
    source: AnyIntArray,
    target: AnyIntArray,
    weight: FloatArray,
    *,
    latents: int,
    draws: int = 5,
    resolution: float = 1.0,
    seed: int = 0,
) -> LatentsOnlyQ | None:
    """Mean Leiden Q of the graph restricted to `latents` random connected latents, and its spread.

    Each draw has a subset and a Leiden seed of its own, so the spread holds both. None when fewer latents are
    connected. A subset without an edge counts as Q = 0. Raises ValueError for no draws or no latents.
    """
    if draws < 1 or latents < 1:
        raise ValueError("draws and latents must be at least 1")
    ids = connected(source, target)
    if ids.size < latents:
        return None
    ends = np.searchsorted(ids, source), np.searchsorted(ids, target)
    rng = np.random.default_rng(seed)
    q_of_draw = np.empty(draws)
    for draw in range(draws):
        sampled = np.zeros(ids.size, dtype=np.bool_)
        sampled[rng.choice(ids.size, latents, replace=False)] = True
        inside = sampled[ends[0]] & sampled[ends[1]]
        place = np.cumsum(sampled, dtype=np.int64) - 1
        part = leiden(
            place[ends[0][inside]],
            place[ends[1][inside]],
            np.asarray(weight, dtype=np.float64)[inside],
            latents,
            seeds=[seed + draw],
            resolution=resolution,
        )
        q_of_draw[draw] = part.modularity
    return LatentsOnlyQ(float(q_of_draw.mean()), float(q_of_draw.std(ddof=1)) if draws > 1 else 0.0, latents)
