"""Joint counts expected within strata of the units (tasks, token ids), and how surprising a larger one is."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.count_tails import NEAR_SD, NEAR_TAIL, bernoulli_sum_tail, hypergeometric_tail
from saescope.stats.row_blocks import row_blocks, rows_of, stacked

CHANCE_EDGES = np.array([0.01, 0.05, 0.2, 0.5, 0.8, 0.95])
"""Bernoullis are pooled by their chance between these; each pool becomes two chances."""
POOLS = CHANCE_EDGES.size + 1
TAILS_AT_ONCE = 20_000
"""Pairs whose tails are computed in one go (about 30 MB)."""
ROUNDING = 1e-12
"""Relative error of a sum over strata. Where nothing is left to chance, the joint count is this sum."""


def numbered(label_N: AnyIntArray) -> tuple[IntArray, IntArray]:
    """Strata as numbers from 0: (number of each unit [N], units of each stratum [W]).

    A negative label is unknown: each such unit is a stratum of its own, which leaves nothing to chance.
    """
    label = np.asarray(label_N, dtype=np.int64).copy()
    unknown = np.flatnonzero(label < 0)
    label[unknown] = label.max(initial=0) + 1 + np.arange(unknown.size)
    _, number_N, units_W = np.unique(label, return_inverse=True, return_counts=True)
    return number_N.ravel().astype(np.int64), units_W.astype(np.int64)


@dataclass(frozen=True)
class Strata:
    """How often each latent is active in each stratum."""

    counts_SW: Csr
    """Units of each stratum on which each latent is active, float64."""
    units_W: FloatArray
    """Units of each stratum."""

    @classmethod
    def of(cls, active_NS: Csr | sparse.csc_matrix, label_N: AnyIntArray | None = None) -> "Strata":
        """From a matrix of zeros and ones and the label of each unit; without labels all are one stratum.

        Units with a negative label are strata of their own. Raises ValueError for a wrong length.
        """
        num_units = active_NS.shape[0]
        label_N = np.zeros(num_units, dtype=np.int64) if label_N is None else label_N
        if np.shape(label_N) != (num_units,):
            raise ValueError(f"expected {num_units} labels of strata, got shape {np.shape(label_N)}")
        number_N, units_W = numbered(label_N)
        member_NW = sparse.csr_matrix(
            (np.ones(num_units), (np.arange(num_units), number_N)), shape=(num_units, units_W.size)
        )
        by_latent = sparse.csr_matrix(active_NS.T)
        # the product takes its factors as float64: of a large matrix, a block at a time
        parts = [
            sparse.csr_matrix(rows_of(by_latent, rows) @ member_NW) for rows in row_blocks(by_latent.indptr)
        ]
        counts_SW = stacked(parts, units_W.size) if parts else sparse.csr_matrix((0, units_W.size))
        counts_SW.sort_indices()  # in place, so before threads share it
        return cls(counts_SW, units_W.astype(np.float64))

    def expected(self, source: IntArray, target: IntArray) -> FloatArray:
        """Expected joint counts of pairs, sum_w a_w b_w / N_w, in the order given."""
        strata_S = np.diff(self.counts_SW.indptr)
        swap = strata_S[source] < strata_S[target]
        first, second = np.where(swap, target, source), np.where(swap, source, target)
        order = np.argsort(first, kind="stable")
        first, second, result = first[order], second[order], np.empty(order.size)
        weight_W = np.zeros(self.units_W.size)
        for run in runs(first):
            strata, a = self.row(int(first[run.start]))
            weight_W[strata] = a / self.units_W[strata]
            result[order[run]] = self.counts_SW[second[run]] @ weight_W
            weight_W[strata] = 0.0
        return result

    def beyond(
        self, source: IntArray, target: IntArray, joint: IntArray, ceiling: float
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Places of the pairs whose joint count exceeds the expected one, their expected counts, their p.

        Given how often each latent is active in each stratum, the joint count is under independence a sum of
        hypergeometrics, one a stratum: E = sum_w a_w b_w / N_w. p is its upper tail, exact for a single
        stratum. A p above the ceiling need not be exact. `source` in ascending order; faster where its
        latents are active in more strata than those of `target`.
        """
        if self.units_W.size == 1:
            count_S = np.asarray(self.counts_SW.sum(axis=1)).ravel().astype(np.int64)
            return beyond_independence(source, target, joint, count_S, int(self.units_W[0]), ceiling)
        expected, p = np.empty(source.size), np.ones(source.size)
        weight_W = np.zeros(self.units_W.size)
        pools = _Pools(p)
        for run in runs(source):
            strata, a = self.row(int(source[run.start]))
            units = self.units_W[strata]
            rows = self.counts_SW[target[run]]
            weight_W[strata] = a / units
            expected[run] = mean = rows @ weight_W
            place = np.flatnonzero(joint[run] > mean * (1.0 + ROUNDING))
            rows, place = rows[place], place + run.start
            if ceiling <= NEAR_TAIL:
                weight_W[strata] = a * (units - a) / (units**2 * np.maximum(units - 1.0, 1.0))
                left = sparse.csr_matrix(
                    (rows.data * (self.units_W[rows.indices] - rows.data), rows.indices, rows.indptr),
                    shape=rows.shape,
                )
                sd = np.sqrt(left @ weight_W)
                far = np.flatnonzero(joint[place] > expected[place] + NEAR_SD * sd)
                rows, place = rows[far], place[far]
            weight_W[strata] = a
            pools.add(place, joint[place], rows, weight_W, self.units_W)
            weight_W[strata] = 0.0
        pools.flush()
        above = np.flatnonzero(joint > expected * (1.0 + ROUNDING))
        return above, expected[above], p[above]

    def row(self, latent: int) -> tuple[IntArray, FloatArray]:
        """The strata in which a latent is active, and how often."""
        part = slice(self.counts_SW.indptr[latent], self.counts_SW.indptr[latent + 1])
        strata: IntArray = self.counts_SW.indices[part].astype(np.int64)
        counts: FloatArray = self.counts_SW.data[part]
        return strata, counts


def beyond_independence(
    source: IntArray, target: IntArray, joint: IntArray, count_S: IntArray, num_units: int, ceiling: float
) -> tuple[IntArray, FloatArray, FloatArray]:
    """`Strata.beyond` where all units are one stratum and each latent is active on `count_S` of them."""
    a, b = count_S[source], count_S[target]
    expected = a * b.astype(np.float64) / num_units
    above = np.flatnonzero(joint > expected)
    p = hypergeometric_tail(joint[above], a[above], b[above], num_units, ceiling=ceiling)
    return above, expected[above], p


class _Pools:
    """Pairs whose tails are to be computed, their hypergeometrics taken apart into pools of Bernoullis.

    A hypergeometric of N, a, b is its smallest value plus h = min(a, b) - max(0, a+b-N) independent
    Bernoullis (Vatutin & Mikhailov 1982). Their chances p_i are roots of a polynomial and not computed, but
    sum p_i is the mean less the smallest value, and sum p_i^2 is that less the variance. Both sums and h are
    added up over the strata with a mean chance between two of `CHANCE_EDGES`, and the Bernoullis of a pool
    take two chances, one standard deviation of the p_i on each side of their mean. So mean, variance and the
    largest value of the sum over strata are exact.
    """

    def __init__(self, p: FloatArray) -> None:
        self.p = p
        """Where tails are written."""
        self.parts: list[tuple[IntArray, FloatArray, FloatArray]] = []
        self.waiting = 0

    def add(
        self, place: IntArray, joint: IntArray, rows: Csr, count_W: FloatArray, units_W: FloatArray
    ) -> None:
        """Pairs of one latent, active `count_W` times in each stratum, with those of `rows`."""
        if not place.size:
            return
        a = count_W[rows.indices]
        shared = np.flatnonzero(a)
        pair = np.repeat(np.arange(place.size), np.diff(rows.indptr))[shared]
        a, b, units = a[shared], rows.data[shared], units_W[rows.indices[shared]]
        smallest = np.maximum(0.0, a + b - units)
        trials = np.minimum(a, b) - smallest
        beyond_smallest: FloatArray = (joint - np.bincount(pair, smallest, place.size)).astype(np.float64)
        random = np.flatnonzero(trials)
        pair, a, b, units, trials = pair[random], a[random], b[random], units[random], trials[random]
        product = a * b / units
        mean = product - smallest[random]
        squares = mean - product * (units - a) * (units - b) / (units * (units - 1.0))
        key = pair * POOLS + np.searchsorted(CHANCE_EDGES, mean / trials)
        sums = [
            np.bincount(key, values, place.size * POOLS).reshape(place.size, POOLS)
            for values in (trials, mean, squares)
        ]
        self.parts.append((place, beyond_smallest, np.stack(sums)))
        self.waiting += place.size
        if self.waiting >= TAILS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Computes the tails of the pairs that wait."""
        if not self.parts:
            return
        place = np.concatenate([part[0] for part in self.parts])
        count = np.concatenate([part[1] for part in self.parts])
        trials_PG, mean_PG, squares_PG = np.concatenate([part[2] for part in self.parts], axis=1)
        chance_PG = mean_PG / np.maximum(trials_PG, 1.0)
        sd_PG = np.sqrt(np.maximum(squares_PG / np.maximum(trials_PG, 1.0) - chance_PG**2, 0.0))
        # near 0 and 1 two chances may not fit; a single one has the larger variance, so a larger tail
        sd_PG[(sd_PG > chance_PG) | (sd_PG > 1.0 - chance_PG)] = 0.0
        halves_PG = np.concatenate([trials_PG, trials_PG], axis=1) / 2.0
        chances_PG = np.concatenate([chance_PG - sd_PG, chance_PG + sd_PG], axis=1)
        self.p[place] = bernoulli_sum_tail(count, halves_PG, chances_PG)
        self.parts, self.waiting = [], 0


def runs(source: IntArray) -> Iterator[slice]:
    """The slices of equal numbers of an array in ascending order."""
    ends = np.flatnonzero(np.diff(source)) + 1
    for start, stop in zip([0, *ends], [*ends, source.size], strict=True):
        if stop > start:
            yield slice(int(start), int(stop))
