"""Sets of latents that chance, rate alone or wrong labels would choose. Free of torch."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from saescope.causal.choice import Evidence, Family
from saescope.stats.arrays import FloatArray, IntArray

NEAREST = 12
"""Latents among which a matched draw chooses: the nearest that are free."""
LOOKED_AT = 200
"""Nearest latents looked at for those."""


def matched_families(
    own: Family, latents: Evidence, row_norm_F: FloatArray, draws: int, seed: int
) -> list[Family]:
    """For every latent of a task's own set another one of about its density, activation mass and norm.

    The norm is what taking the latent out removes, Σ a² ‖d‖² (`row_norm_F` is ‖d‖). Distances are of
    logarithms in units of their standard deviations over the latents that can be chosen. A set of a draw has
    no latent twice and none of the task's own set, as long as there are others.
    """
    candidates = np.flatnonzero(latents.supported_F & (latents.count_F > 0))
    features = np.log(
        np.stack(
            [
                latents.count_F[candidates],
                latents.mass_FK[candidates].sum(axis=1),
                latents.square_F[candidates] * row_norm_F[candidates] ** 2,
            ],
            axis=1,
        )
        + np.finfo(float).tiny
    )
    return _families("matched", own, candidates, _standardised(features), draws, seed)


def low_si_families(own: Family, latents: Evidence, draws: int, seed: int) -> list[Family]:
    """For every latent of a task's own set one that fires about as often there, of an SI below the median."""
    able_F = latents.supported_F & (latents.count_F > 0)
    median = np.median(latents.si_F[able_F]) if able_F.any() else 0.0
    low_F = able_F & (latents.si_F <= median)
    log_rate_FK = np.log(latents.rate_FK + 1e-9)
    families = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, 1, draw])
        chosen = []
        for task, own_set in enumerate(own.latents_K):
            candidates = np.flatnonzero(low_F)
            places = log_rate_FK[:, task]
            drawn = _draw(own_set, candidates, places[candidates, None], places[own_set, None], own_set, rng)
            chosen.append(drawn)
        families.append(Family("low_si", own.size, draw, tuple(chosen)))
    return families


def permuted_labels(task_D: IntArray, documents_D: IntArray, draws: int, seed: int) -> Iterator[IntArray]:
    """Tasks of the documents with the labels of some of them permuted among these."""
    for draw in range(draws):
        labels = task_D.copy()
        labels[documents_D] = np.random.default_rng([seed, 2, draw]).permutation(task_D[documents_D])
        yield labels


def _families(
    kind: str, own: Family, candidates: IntArray, place_CX: FloatArray, draws: int, seed: int
) -> list[Family]:
    at_F = np.full(int(candidates.max(initial=-1)) + 1, -1)
    at_F[candidates] = np.arange(len(candidates))
    families = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, 0, draw])
        chosen = [
            _draw(own_set, candidates, place_CX, place_CX[at_F[own_set]], own_set, rng)
            for own_set in own.latents_K
        ]
        families.append(Family(kind, own.size, draw, tuple(chosen)))
    return families


def _draw(
    own_set: IntArray,
    candidates: IntArray,
    place_CX: FloatArray,
    place_SX: FloatArray,
    excluded: IntArray,
    rng: np.random.Generator,
) -> IntArray:
    """One of the nearest free candidates for each latent of a set, in random order."""
    if not len(own_set) or not len(candidates):
        return np.zeros(0, dtype=np.int64)
    looked_at = min(LOOKED_AT + len(own_set), len(candidates))
    nearest_SC = np.atleast_2d(cKDTree(place_CX).query(place_SX, k=looked_at)[1].reshape(len(own_set), -1))
    taken = np.isin(candidates, excluded)
    drawn = []
    for at in rng.permutation(len(own_set)):
        free = nearest_SC[at][~taken[nearest_SC[at]]][:NEAREST]
        if not len(free):
            free = np.flatnonzero(~taken)
        if not len(free):
            break  # every candidate is in the set or was drawn
        choice = int(rng.choice(free))
        taken[choice] = True
        drawn.append(candidates[choice])
    return np.array(drawn, dtype=np.int64)


def _standardised(features_CX: FloatArray) -> FloatArray:
    scale = features_CX.std(axis=0)
    result: FloatArray = (features_CX - features_CX.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    return result
