"""The p of an edge: do two latents fire together in more documents than chance gives?

The rule that selects edges takes units for independent. Tokens of a document are not: a latent fires in
bursts, and two bursts that meet in one document by chance are many joint firings. Here a document is one
observation, whatever happens in it.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.special import ndtr

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import by_column
from saescope.stats.strata import Strata, numbered, runs
from saescope.stats.threads import in_threads, num_threads

MAX_GROUPS = 256
"""With more documents than this, every 256th is of one group, and groups are the observations."""
BLOCK_SCORES = 1_000_000
"""Scores of edges and groups that one thread holds at a time (8 MB, a few times over)."""
BLOCK_FIRINGS = 1_000_000
"""Firings of the rarer latents of those edges."""
LEAST = 1e-12
"""Sums of squares below this are rounding: nothing is left to chance."""
LENGTH_UNITS = 8
"""Units of about the same length in a stratum of `length_strata`."""


def edge_p(
    active_NS: Csr,
    source_E: IntArray,
    target_E: IntArray,
    doc_N: AnyIntArray,
    stratum_N: AnyIntArray | None = None,
    *,
    progress: Progress = no_progress,
) -> FloatArray:
    """p of each pair: joint firings beyond those expected within strata, by document; [E].

    U_d = sum over the units t of document d of (x_t - p_w)(y_t - q_w), with w the stratum of t and p_w, q_w
    the shares of its units on which the two are active: over all documents joint - sum_w a_w b_w / N_w. Where
    the latents have nothing to do with each other U_d is 0 on average, however their firings are spread.
    p is the normal tail of z = sum_d U_d / sqrt(sum_d U_d^2). Bursts that rarely meet skew U_d upwards, which
    makes such a z too small rather than too large, so p is on the cautious side with few documents. On n
    documents of equal weight z is at most sqrt(n): an edge that rests on a single one has p 0.16 or more.

    Where a stratum lies in few documents, these know its shares from themselves. In sum_d U_d^2 its units
    therefore count sqrt(n / (n-1)) times, n = N_w^2 / sum_d N_wd^2 its number of documents.

    `active_NS`: units by latents, 0 or 1; `doc_N`: document of each unit; `stratum_N` as in
    `validated_edges`. Raises ValueError for a wrong length.
    """
    if np.shape(doc_N) != (active_NS.shape[0],):
        raise ValueError(f"expected {active_NS.shape[0]} documents, got shape {np.shape(doc_N)}")
    scores = _Scores(active_NS, doc_N, stratum_N)
    swap = scores.count_S[source_E] < scores.count_S[target_E]
    frequent, rare = np.where(swap, target_E, source_E), np.where(swap, source_E, target_E)
    order = np.argsort(frequent, kind="stable")
    frequent, rare = frequent[order], rare[order]
    pieces = list(_pieces(scores.count_S[rare], scores.num_groups))
    p_E = np.empty(order.size)
    progress("edges by document", 0, order.size)
    threads = num_threads()
    for start in range(0, len(pieces), threads):
        some = pieces[start : start + threads]
        for piece, p in zip(
            some, in_threads(lambda piece: scores.p(frequent[piece], rare[piece]), some), strict=True
        ):
            p_E[order[piece]] = p
        progress("edges by document", some[-1].stop, order.size)
    return p_E


def length_strata(length_U: AnyIntArray) -> IntArray:
    """Strata of units of about the same length, `LENGTH_UNITS` in each; equal lengths are never parted.

    A document of many tokens has many active latents, whatever they have to do with each other.
    """
    length = np.asarray(length_U)
    order = np.argsort(length, kind="stable")
    rank = np.empty(length.size, dtype=np.int64)
    rank[order] = np.arange(length.size)
    _, first, of_size = np.unique(length[order], return_index=True, return_inverse=True)
    last = max(0, length.size // LENGTH_UNITS - 1)
    stratum: IntArray = np.minimum(first // LENGTH_UNITS, last)[of_size][rank]
    return stratum


class _Scores:
    """Scores of pairs in each group of documents; groups are the observations."""

    def __init__(self, active_NS: Csr, doc_N: AnyIntArray, stratum_N: AnyIntArray | None) -> None:
        self.active = by_column(active_NS)
        self.count_S: IntArray = np.diff(self.active.indptr).astype(np.int64)
        self.strata = Strata.of(self.active, stratum_N)
        num_units = active_NS.shape[0]
        self.stratum_N = numbered(np.zeros(num_units, np.int64) if stratum_N is None else stratum_N)[0]
        document_N = np.unique(np.asarray(doc_N), return_inverse=True)[1].ravel()
        self.group_N: IntArray = (document_N % MAX_GROUPS).astype(np.int64)
        self.num_groups = int(self.group_N.max(initial=-1)) + 1
        shape = (self.strata.units_W.size, self.num_groups)
        self.units_WG = sparse.csr_matrix((np.ones(num_units), (self.stratum_N, self.group_N)), shape=shape)
        squares_W = np.asarray(self.units_WG.multiply(self.units_WG).sum(axis=1)).ravel()
        documents_W = self.strata.units_W**2 / squares_W
        self.root_W = np.sqrt(documents_W / np.maximum(documents_W - 1.0, 0.5))

    def p(self, first: IntArray, second: IntArray) -> FloatArray:
        """p of some pairs, `first` in ascending order."""
        total = -self.strata.expected(first, second)
        squares = np.empty(first.size)
        fires_N = np.zeros(self.stratum_N.size, dtype=np.bool_)
        of_strata = self._one_stratum if self.strata.units_W.size == 1 else self._strata
        for run in runs(first):
            latent, others = int(first[run.start]), second[run]
            entries = slice(self.active.indptr[latent], self.active.indptr[latent + 1])
            units = self.active.indices[entries].astype(np.int64)
            fires_N[units] = True
            pair, unit = self._firings(others)
            total[run] += np.bincount(pair[fires_N[unit]], minlength=others.size)
            key = pair * self.num_groups + self.group_N[unit]
            score_EG = of_strata(latent, others, fires_N, units, unit, key)
            squares[run] = np.einsum("eg,eg->e", score_EG, score_EG)
            fires_N[units] = False
        z = np.where(squares > LEAST, total / np.sqrt(np.maximum(squares, LEAST)), 0.0)
        p: FloatArray = ndtr(-z)
        return p

    def _firings(self, latents: IntArray) -> tuple[IntArray, IntArray]:
        """(place in `latents`, unit) of every firing of some latents."""
        counts = self.count_S[latents]
        place = np.repeat(np.arange(latents.size), counts)
        before = np.cumsum(counts) - counts
        entry = np.arange(place.size) + (self.active.indptr[latents] - before)[place]
        return place, self.active.indices[entry].astype(np.int64)

    def _one_stratum(
        self,
        latent: int,
        others: IntArray,
        fires_N: BoolArray,
        units: IntArray,
        unit: IntArray,
        key: IntArray,
    ) -> FloatArray:
        """J_g - a_g q - b_g p + n_g p q, [E, G]."""
        num_units, shape = self.stratum_N.size, (others.size, self.num_groups)
        p, q_E1 = units.size / num_units, self.count_S[others][:, None] / num_units
        a_G = np.bincount(self.group_N[units], minlength=self.num_groups)
        b_EG = np.bincount(key, minlength=shape[0] * shape[1]).reshape(shape)
        together_EG = np.bincount(key[fires_N[unit]], minlength=shape[0] * shape[1]).reshape(shape)
        residual_G = a_G - p * self.units_WG.toarray()[0]
        scores: FloatArray = self.root_W[0] * (together_EG - p * b_EG - q_E1 * residual_G)
        return scores

    def _strata(
        self,
        latent: int,
        others: IntArray,
        fires_N: BoolArray,
        units: IntArray,
        unit: IntArray,
        key: IntArray,
    ) -> FloatArray:
        """The same summed over the strata: sum_t (x_t - p_w) y_t - sum_w (a_gw - n_gw p_w) q_w, [E, G]."""
        strata, a = self.strata.row(latent)
        p_W = np.zeros(self.root_W.size)
        p_W[strata] = a / self.strata.units_W[strata]
        stratum = self.stratum_N[unit]
        weight = self.root_W[stratum] * (fires_N[unit] - p_W[stratum])
        shape = (others.size, self.num_groups)
        scores_EG = np.bincount(key, weight, shape[0] * shape[1]).reshape(shape)
        counts_EW = self.strata.counts_SW[others]
        shared = np.unique(counts_EW.indices[p_W[counts_EW.indices] > 0])
        place_W = np.full(p_W.size, -1, dtype=np.int64)
        place_W[shared] = np.arange(shared.size)
        residual_WG: FloatArray = -p_W[shared][:, None] * self.units_WG[shared].toarray()
        place = place_W[self.stratum_N[units]]
        here = place >= 0
        np.add.at(residual_WG, (place[here], self.group_N[units[here]]), 1.0)
        residual_WG *= (self.root_W[shared] / self.strata.units_W[shared])[:, None]
        entry = np.flatnonzero(place_W[counts_EW.indices] >= 0)
        ends = np.searchsorted(entry, counts_EW.indptr)
        shared_EW = sparse.csr_matrix(
            (counts_EW.data[entry], place_W[counts_EW.indices[entry]], ends), (others.size, shared.size)
        )
        result: FloatArray = np.asarray(scores_EG - shared_EW @ residual_WG, dtype=np.float64)
        return result


def _pieces(firings_E: IntArray, num_groups: int) -> Iterator[slice]:
    """Slices of consecutive pairs that a thread holds at a time."""
    cost_E = np.maximum(firings_E / BLOCK_FIRINGS, num_groups / BLOCK_SCORES)
    piece_E: IntArray = np.cumsum(cost_E).astype(np.int64)
    yield from runs(piece_E)
