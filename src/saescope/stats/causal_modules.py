"""Modules of latents: how selective they are, sets of like decoder rows, and sums over members."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans

from saescope.stats.arrays import AnyIntArray, BoolArray, FloatArray, IntArray
from saescope.stats.causal import own_and_others, selectivity

EVENLY = 0.2
"""Share of the members in a sample that is drawn without regard to their effects."""
BATCH = 4096
"""Rows of a step of k-means: all of a small SAE."""


def decoder_sets(
    rows_FD: npt.NDArray[np.floating], sizes: Sequence[int], pool_F: BoolArray, clusters: int, seed: int
) -> list[IntArray]:
    """Disjoint sets of these sizes whose decoder rows point alike: k-means with `clusters` centres.

    Rows are scaled to length 1. The largest set takes the largest cluster's centre, and so on; each gets the
    latents of the pool closest to its centre that no larger set has.
    """
    latents = np.flatnonzero(pool_F)
    rows = np.array(rows_FD[latents])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
    kmeans = MiniBatchKMeans(min(clusters, latents.size), n_init=3, batch_size=BATCH, random_state=seed).fit(
        rows
    )
    by_size = np.argsort(-np.bincount(kmeans.labels_), kind="stable")
    cosine_CP = kmeans.cluster_centers_[by_size] @ rows.T
    free_P = np.ones(latents.size, dtype=np.bool_)
    result: list[IntArray] = [np.zeros(0, dtype=np.int64)] * len(sizes)
    for rank, number in enumerate(np.argsort(-np.asarray(sizes), kind="stable")):
        closest = np.argsort(np.where(free_P, -cosine_CP[rank % len(cosine_CP)], np.inf), kind="stable")
        members = closest[: min(sizes[number], int(free_P.sum()))]
        free_P[members] = False
        result[number] = np.sort(latents[members]).astype(np.int64)
    return result


def preferred_task(sets: Sequence[AnyIntArray], rates_FK: FloatArray) -> IntArray:
    """The task on which the latents of each set fire most per token."""
    return np.array([int(rates_FK[members].sum(axis=0).argmax()) for members in sets], dtype=np.int64)


def mean_selectivity(matrix_GK: FloatArray, own_G: AnyIntArray) -> FloatArray:
    """Mean over the sets of own/(own + mean of the others); [..., G, K] to [...]."""
    mean: FloatArray = selectivity(*own_and_others(matrix_GK, own_G)).mean(axis=-1)
    return mean


def sample_members(effect_M: FloatArray, size: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Members to take out one by one, and the weight of each in the sum over all M members.

    All that have an effect, at weight 1, where they are no more than `size`. Else `size` draws with
    replacement (Hansen & Hurwitz 1943), four in five with probability by the approximate effect and one in
    five evenly, so that a member whose effect is badly approximated gets no huge weight; one drawn twice has
    twice the weight. The weighted sum of exact effects is unbiased for the sum over the members.
    """
    effect_M = np.asarray(effect_M, dtype=np.float64)
    active = np.flatnonzero(effect_M > 0)
    if active.size <= size:
        return active.astype(np.int64), np.ones(active.size)
    p = (1 - EVENLY) * effect_M[active] / effect_M[active].sum() + EVENLY / active.size
    drawn, times = np.unique(rng.choice(active.size, size=size, p=p), return_counts=True)
    return active[drawn].astype(np.int64), times / (size * p[drawn])
