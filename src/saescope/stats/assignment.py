"""One-to-one matching of two dictionaries that maximises the sum of cosines."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from saescope.stats.arrays import FloatArray, IntArray
from saescope.stats.cosine_search import Float32Array, Nearest, nearest_rows

DENSE = 8192
"""Up to this many latents (geometric mean of the two) the assignment is dense and exact: 0.5 GB, O(F^3)."""
CANDIDATES = 64
"""Nearest neighbours kept per latent above it."""
EPSILON = 1e-5
"""Largest loss of cosine per latent that the auction allows."""
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

    While A * B <= dense^2 by ``linear_sum_assignment``. Above it by an auction (Bertsekas 1988, doi
    10.1007/BF02186476) among the ``candidates`` nearest columns of every row of the narrower side, where a
    row may also stay unassigned for its cutoff, the largest cosine it has with any dropped column. No dropped
    partner can give it more, so the auction's value bounds that of the dense assignment from above, and where
    no row stays unassigned both are the same up to EPSILON per latent. Rows that do are ``unsettled``; they
    get the free columns afterwards. ``progress`` is told the rows of the narrower side that are searched.
    """
    if len(unit_Ad) > len(unit_Bd):
        return _turned(
            match(unit_Bd, unit_Ad, dense=dense, candidates=candidates, progress=progress), len(unit_Ad)
        )
    if len(unit_Ad) * len(unit_Bd) <= dense**2:
        cosine_AB = unit_Ad @ unit_Bd.T
        rows, partner = linear_sum_assignment(cosine_AB, maximize=True)
        own = cosine_AB[rows, partner].astype(np.float64)
        best_A, best_B = (cosine_AB.max(axis=axis).astype(np.float64) for axis in (1, 0))
        if progress is not None:
            progress(len(unit_Ad))
        return Matching(partner.astype(np.int64), own, best_A, best_B, 0, float(own.mean()))
    near = nearest_rows(unit_Ad, unit_Bd, candidates, progress)
    partner = _auction(near, len(unit_Bd))
    left = np.flatnonzero(partner < 0)
    value = _cosines(unit_Ad, unit_Bd, partner)
    total = float(np.nansum(value)) + float(near.cutoff_A[left].sum(dtype=np.float64))
    _complete(unit_Ad, unit_Bd, partner, left)
    return Matching(
        partner,
        _cosines(unit_Ad, unit_Bd, partner),
        near.cosine_Am[:, 0].astype(np.float64),
        near.best_B.astype(np.float64),
        left.size,
        total / len(unit_Ad) + EPSILON,
    )


def _auction(near: Nearest, num_b: int) -> IntArray:
    """Column of every row, or -1 for a row that does no better than its cutoff.

    All rows without a column bid at once; each column goes to the highest bidder, at its bid. A bid is the
    price at which the column would be worth EPSILON less than the row's second choice, its cutoff included.
    """
    value_Am, index_Am = near.cosine_Am.astype(np.float64), near.index_Am
    cutoff_A = near.cutoff_A.astype(np.float64)
    price_B, owner_B = np.zeros(num_b), np.full(num_b, -1, dtype=np.int64)
    partner_A = np.full(len(value_Am), -1, dtype=np.int64)
    bidders = np.arange(len(value_Am))
    while bidders.size:
        net = value_Am[bidders] - price_B[index_Am[bidders]]
        at, first = np.arange(bidders.size), net.argmax(axis=1)
        top = net[at, first]
        net[at, first] = -np.inf
        second = np.maximum(net.max(axis=1), cutoff_A[bidders])
        on = top > cutoff_A[bidders]  # the others stay unassigned: prices only rise
        row = bidders[on]
        column = index_Am[row, first[on]]
        bid = price_B[column] + (top - second)[on] + EPSILON
        by_bid = np.argsort(-bid, kind="stable")
        won, first_of = np.unique(column[by_bid], return_index=True)
        winner = by_bid[first_of]
        outbid = owner_B[won]
        outbid = outbid[outbid >= 0]
        partner_A[outbid] = -1
        owner_B[won], price_B[won], partner_A[row[winner]] = row[winner], bid[winner], won
        lost = np.ones(row.size, dtype=np.bool_)
        lost[winner] = False
        bidders = np.concatenate([row[lost], outbid])
    return partner_A


def _complete(unit_Ad: Float32Array, unit_Bd: Float32Array, partner_A: IntArray, left: IntArray) -> None:
    """Give the rows ``left`` free columns, the best among a few thousand at a time."""
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


def _turned(found: Matching, num_latents: int) -> Matching:
    """The same matching seen from the wider side, of ``num_latents``."""
    partner = np.full(num_latents, -1, dtype=np.int64)
    cosine = np.full(num_latents, np.nan)
    partner[found.partner_A] = np.arange(found.partner_A.size)
    cosine[found.partner_A] = found.cosine_A
    return replace(found, partner_A=partner, cosine_A=cosine, best_A=found.best_B, best_B=found.best_A)
