"""SI and Q of SAEs of different size compared at equal firings per latent and equal numbers of latents."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, FloatArray, IntArray
from saescope.stats.modularity import leiden
from saescope.stats.specialization import specialization


@dataclass(frozen=True)
class MatchedQ:
    """Q over random subsets of the connected latents."""

    mean: float
    sd: float
    """Standard deviation over the draws (subset and Leiden seed together); 0 for a single draw."""
    latents: int
    """Latents in every subset."""


def thin(counts_FK: AnyIntArray, firings: int, rng: np.random.Generator) -> IntArray:
    """Task counts [F, K] after thinning each latent to `firings` firings, drawn without replacement.

    Multivariate hypergeometric, task after task: the share of task t among what is left is hypergeometric.
    Raises ValueError when a latent has fewer firings than that.
    """
    counts_FK = np.asarray(counts_FK, dtype=np.int64)
    rest_F = counts_FK.sum(axis=1)
    if counts_FK.size and rest_F.min() < firings:
        raise ValueError(f"a latent has {rest_F.min()} firings, fewer than the {firings} to draw")
    left_F = np.full(rest_F.shape, firings, dtype=np.int64)
    thinned: IntArray = np.empty(counts_FK.shape, dtype=np.int64)
    for task in range(counts_FK.shape[1]):
        rest_F = rest_F - counts_FK[:, task]
        thinned[:, task] = rng.hypergeometric(counts_FK[:, task], rest_F, left_F)
        left_F = left_F - thinned[:, task]
    return thinned


def matched_specialization(
    counts_FK: AnyIntArray, tokens_K: AnyIntArray, *, firings: int, draws: int = 10, seed: int = 0
) -> float | None:
    """Mean James-Stein index when every latent is thinned to `firings` firings; None without a latent.

    The index of a latent has a bias that depends on its firings, and a wider SAE has fewer a latent. Thinned
    to one number the bias is the same for every SAE, so what is left of a difference is specialisation.
    `counts_FK`: firings of the supported latents on each task; those below `firings` are left out.
    Raises ValueError for fewer than two tasks, a task without tokens, no draws, or `firings` below 1.
    """
    if draws < 1 or firings < 1:
        raise ValueError("draws and firings must be at least 1")
    counts_FK = np.asarray(counts_FK, dtype=np.int64)
    enough = counts_FK[counts_FK.sum(axis=1) >= firings]
    if not len(enough):
        return None
    rng = np.random.default_rng(seed)
    means = [
        float(specialization(thin(enough, firings, rng), np.asarray(tokens_K)).mean()) for _ in range(draws)
    ]
    return float(np.mean(means))


def connected(source: AnyIntArray, target: AnyIntArray) -> IntArray:
    """Ids of the latents with an edge, ascending."""
    ids: IntArray = np.union1d(source, target).astype(np.int64)
    return ids


def matched_modularity(
    source: AnyIntArray,
    target: AnyIntArray,
    weight: FloatArray,
    *,
    latents: int,
    draws: int = 5,
    resolution: float = 1.0,
    seed: int = 0,
) -> MatchedQ | None:
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
    return MatchedQ(float(q_of_draw.mean()), float(q_of_draw.std(ddof=1)) if draws > 1 else 0.0, latents)
