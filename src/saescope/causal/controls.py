"""Sets of latents that chance, rate alone or wrong labels would choose. Free of torch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from saescope.causal.choice import Evidence, Family
from saescope.stats.arrays import BoolArray, FloatArray, IntArray

NEAREST = 8
"""Latents among which a matched draw chooses: the nearest that are free."""
LOOKED_AT = 200
"""Nearest latents looked at for those."""


def matched_families(
    own: Family,
    latents: Evidence,
    row_norm_F: FloatArray,
    draws: int,
    seed: int,
    exchangeable: bool = False,
) -> list[Family]:
    """For every latent of a task's own set another one of about its density, activation mass and norm.

    The norm is what taking the latent out removes, Σ a² ‖d‖² (`row_norm_F` is ‖d‖). Distances are of
    logarithms in units of their standard deviations over the latents that can be chosen. The sets of a draw
    share no latent, and none has a latent of the task's own set; they are smaller where latents run out.

    `latents`: of the documents on which the sets are compared. A latent chosen for its firings elsewhere
    fires less often here, and one that is silent here has no match: it does nothing.

    `exchangeable` draws, for a p-value, may have latents of the own set. Draws from the same few neighbours
    resemble each other; if they could not resemble the own set as much, a set chosen at random would
    lie outside them too often (7 % of worlds at a level of 5 %).
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
    places_CX = _standardised(features)
    at_F = np.full(len(latents.count_F), -1)
    at_F[candidates] = np.arange(len(candidates))
    none = np.zeros(0, dtype=np.int64)
    pools = [
        _Pool.of(none if exchangeable else own_set, candidates, places_CX, places_CX[at[at >= 0]])
        for own_set, at in ((own_set, at_F[own_set]) for own_set in own.latents_K)
    ]
    kind, stream = ("null", 3) if exchangeable else ("matched", 0)
    return _families(kind, own, pools, len(latents.count_F), draws, [seed, stream])


def low_si_families(own: Family, latents: Evidence, draws: int, seed: int) -> list[Family]:
    """For every latent of a task's own set one that fires about as often there, of an SI below the median."""
    able_F = latents.supported_F & (latents.count_F > 0)
    median = np.median(latents.si_F[able_F]) if able_F.any() else 0.0
    candidates = np.flatnonzero(able_F & (latents.si_F <= median))
    log_rate_FK = np.log(latents.rate_FK + 1e-9)
    pools = [
        _Pool.of(own_set, candidates, log_rate_FK[candidates, task, None], log_rate_FK[own_set, task, None])
        for task, own_set in enumerate(own.latents_K)
    ]
    return _families("low_si", own, pools, len(latents.count_F), draws, [seed, 1])


def permuted_labels(task_D: IntArray, documents_D: IntArray, draws: int, seed: int) -> Iterator[IntArray]:
    """Tasks of the documents with the labels of some of them permuted among these."""
    for draw in range(draws):
        labels = task_D.copy()
        labels[documents_D] = np.random.default_rng([seed, 2, draw]).permutation(task_D[documents_D])
        yield labels


@dataclass(frozen=True)
class _Pool:
    """The candidates for one set, and for each of its S latents the nearest of them."""

    candidates: IntArray
    nearest_SX: IntArray
    """Numbers among the candidates, nearest first."""
    taken_C: BoolArray
    """Candidates that are never drawn."""

    @classmethod
    def of(
        cls, excluded: IntArray, candidates: IntArray, place_CX: FloatArray, place_SX: FloatArray
    ) -> "_Pool":
        """Of a set whose latents lie at `place_SX`; those `excluded` are never drawn."""
        taken_C, size = np.isin(candidates, excluded), len(place_SX)
        if not size or not len(candidates):
            return cls(candidates, np.zeros((size, 0), dtype=np.int64), taken_C)
        looked_at = min(LOOKED_AT + size, len(candidates))
        nearest = cKDTree(place_CX).query(place_SX, k=looked_at)[1]
        return cls(candidates, np.reshape(nearest, (size, -1)).astype(np.int64), taken_C)

    def draw(self, used_F: BoolArray, rng: np.random.Generator) -> IntArray:
        """One of the nearest free candidates for each latent of the set, in random order.

        Latents that are `used_F` are not free; those drawn become so.
        """
        taken, drawn = self.taken_C | used_F[self.candidates], []
        for at in rng.permutation(len(self.nearest_SX)):
            free = self.nearest_SX[at][~taken[self.nearest_SX[at]]][:NEAREST]
            if not len(free):
                free = np.flatnonzero(~taken)
            if not len(free):
                break  # every candidate is excluded or was drawn
            choice = int(rng.choice(free))
            taken[choice] = True
            drawn.append(self.candidates[choice])
        used_F[np.array(drawn, dtype=np.int64)] = True
        return np.array(drawn, dtype=np.int64)


def _families(
    kind: str, own: Family, pools: list[_Pool], num_latents: int, draws: int, seed: list[int]
) -> list[Family]:
    """Families whose sets are disjoint, as own sets are: a latent in two would cancel in their mean."""
    families = []
    for draw in range(draws):
        rng = np.random.default_rng([*seed, draw])
        used_F = np.zeros(num_latents, dtype=np.bool_)
        families.append(Family(kind, own.size, draw, tuple(pool.draw(used_F, rng) for pool in pools)))
    return families


def _standardised(features_CX: FloatArray) -> FloatArray:
    scale = features_CX.std(axis=0)
    result: FloatArray = (features_CX - features_CX.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    return result
