"""One-to-one matching of two dictionaries that maximises the sum of cosines."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from saescope.stats.arrays import FloatArray, IntArray
from saescope.stats.cosine_search import Float32Array, Nearest, nearest_rows

DENSE = 8192
"""Up to this many latents (geometric mean of the two) the assignment is exact: dense, where it must be."""
SMALL = 1024
"""Up to this many a dense one is the fastest: 0.03 s. With 4,096 it takes 1.5 s, one of candidates 0.3 s."""
CANDIDATES = 128
"""Nearest neighbours kept per latent above it. Of 16, 32, 64 and 128 only these settled all of 4,096 and
8,192 latents, of random dictionaries and of such that share half."""
CHUNK = 2048
"""Rows completed at a time."""


@dataclass(frozen=True)
class Matching:
    """Partners of the latents of A in B, -1 where there is none, and the largest cosines both ways."""

    partner_A: IntArray
    cosine_A: FloatArray
    """Cosine with the partner; NaN without one."""
    best_A: FloatArray
    """Largest cosine with any latent of B."""
    best_B: FloatArray
    unsettled: int
    """Latents whose partner is not proven to be that of an optimal assignment; 0 for a dense one."""
    bound: float
    """No one-to-one matching has a larger mean cosine (over the narrower dictionary) than this."""


def match(
    unit_Ad: Float32Array,
    unit_Bd: Float32Array,
    *,
    dense: int = DENSE,
    candidates: int = CANDIDATES,
    progress: Callable[[int], None] | None = None,
) -> Matching:
    """Match unit rows so that the sum of signed cosines is largest; all of the narrower side are matched.

    While A * B <= 1024^2 by `linear_sum_assignment`. Above it by `min_weight_full_bipartite_matching`
    (Jonker & Volgenant 1987, doi 10.1007/BF02278710) among the `candidates` nearest columns of every row of
    the narrower side, where a row may also stay unassigned for its cutoff, the largest cosine it has with any
    dropped column. No dropped partner can give it more, so the value bounds that of the dense assignment from
    above, and where no row stays unassigned both are the same, to the rounding of float32 cosines. Where rows
    do, the dense assignment is made after all while A * B <= dense^2; above that these rows are `unsettled`
    and get the free columns afterwards. The value is unique, the matching is not where several give it (equal
    rows). `progress` is called with the rows of the narrower side that are searched.
    """
    if len(unit_Ad) > len(unit_Bd):
        return _turned(
            match(unit_Bd, unit_Ad, dense=dense, candidates=candidates, progress=progress), len(unit_Ad)
        )
    size = len(unit_Ad) * len(unit_Bd)
    if size <= min(SMALL, dense) ** 2:
        if progress is not None:
            progress(len(unit_Ad))
        return _dense(unit_Ad, unit_Bd)
    near = nearest_rows(unit_Ad, unit_Bd, candidates, progress)
    partner = _sparse_assignment(near, len(unit_Bd))
    left = np.flatnonzero(partner < 0)
    if left.size and size <= dense**2:
        return _dense(unit_Ad, unit_Bd)
    value = _cosines(unit_Ad, unit_Bd, partner)
    total = float(np.nansum(value)) + float(near.cutoff_A[left].sum(dtype=np.float64))
    _complete(unit_Ad, unit_Bd, partner, left)
    return Matching(
        partner,
        _cosines(unit_Ad, unit_Bd, partner),
        near.cosine_Am[:, 0].astype(np.float64),
        near.best_B.astype(np.float64),
        left.size,
        total / len(unit_Ad),
    )


def _dense(unit_Ad: Float32Array, unit_Bd: Float32Array) -> Matching:
    """The exact matching from all cosines: 0.5 GB for 8,192 latents, O(F^3)."""
    cosine_AB = unit_Ad @ unit_Bd.T
    rows, partner = linear_sum_assignment(cosine_AB, maximize=True)
    own = cosine_AB[rows, partner].astype(np.float64)
    best_A, best_B = (cosine_AB.max(axis=axis).astype(np.float64) for axis in (1, 0))
    return Matching(partner.astype(np.int64), own, best_A, best_B, 0, float(own.mean()))


def _sparse_assignment(near: Nearest, num_b: int) -> IntArray:
    """Column of every row, or -1 for a row that does no better than its cutoff."""
    num_a, m = near.index_Am.shape
    # beside its m candidates every row has a column of its own, which is worth its cutoff
    own_A1 = num_b + np.arange(num_a)[:, None]
    column = np.hstack([near.index_Am, own_A1])
    value = np.hstack([near.cosine_Am, near.cutoff_A[:, None]]).astype(np.float64)
    first = np.arange(num_a + 1) * (m + 1)
    # 0 would be no edge: cosines from -1 (a cutoff from -2) to 1 become costs from 5 to 2
    cost = csr_array((3.0 - value.ravel(), column.ravel(), first), shape=(num_a, num_b + num_a))
    partner_A = min_weight_full_bipartite_matching(cost)[1].astype(np.int64)
    return np.where(partner_A < num_b, partner_A, -1)


def _complete(unit_Ad: Float32Array, unit_Bd: Float32Array, partner_A: IntArray, left: IntArray) -> None:
    """Give the rows `left` free columns, the best among a few thousand at a time."""
    taken = np.zeros(len(unit_Bd), dtype=np.bool_)
    taken[partner_A[partner_A >= 0]] = True
    for start in range(0, left.size, CHUNK):
        rows = left[start : start + CHUNK]
        free = np.flatnonzero(~taken)[: 4 * CHUNK]
        at, chosen = linear_sum_assignment(unit_Ad[rows] @ unit_Bd[free].T, maximize=True)
        partner_A[rows[at]] = free[chosen]
        taken[free[chosen]] = True


def _cosines(unit_Ad: Float32Array, unit_Bd: Float32Array, partner_A: IntArray) -> FloatArray:
    cosine_A = np.full(len(unit_Ad), np.nan)
    for start in range(0, len(unit_Ad), CHUNK):
        rows = start + np.flatnonzero(partner_A[start : start + CHUNK] >= 0)
        pairs = np.einsum("fd,fd->f", unit_Ad[rows], unit_Bd[partner_A[rows]], dtype=np.float64)
        cosine_A[rows] = pairs
    return cosine_A


def _turned(matching: Matching, num_latents: int) -> Matching:
    """The same matching seen from the wider side, of `num_latents`."""
    partner = np.full(num_latents, -1, dtype=np.int64)
    cosine = np.full(num_latents, np.nan)
    partner[matching.partner_A] = np.arange(matching.partner_A.size)
    cosine[matching.partner_A] = matching.cosine_A
    return replace(
        matching, partner_A=partner, cosine_A=cosine, best_A=matching.best_B, best_B=matching.best_A
    )
