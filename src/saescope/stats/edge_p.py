"""The p of an edge: do two latents fire together in more documents than chance gives?

The rule that selects edges takes units for independent. Tokens of a document are not: a latent fires in
bursts, and two bursts that meet in one document by chance are many joint firings. Here a document is one
observation, whatever happens in it.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.special import ndtr

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
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
        num_units = active_NS.shape[0]
        self.by_unit, self.by_latent = active_NS, by_column(active_NS)
        self.count_S: IntArray = np.diff(self.by_latent.indptr).astype(np.int64)
        self.strata = Strata.of(self.by_latent, stratum_N)
        self.stratum_N = numbered(np.zeros(num_units, np.int64) if stratum_N is None else stratum_N)[0]
        document_N = np.unique(np.asarray(doc_N), return_inverse=True)[1].ravel()
        self.group_N: IntArray = (document_N % MAX_GROUPS).astype(np.int64)
        self.num_groups = int(self.group_N.max(initial=-1)) + 1
        shape = (self.strata.units_W.size, self.num_groups)
        self.units_WG = sparse.csr_matrix((np.ones(num_units), (self.stratum_N, self.group_N)), shape=shape)
        squares_W = np.asarray(self.units_WG.multiply(self.units_WG).sum(axis=1)).ravel()
        documents_W = self.strata.units_W**2 / squares_W
        self.root_W = np.sqrt(documents_W / np.maximum(documents_W - 1.0, 0.5))
        cells, cell_N = np.unique(self.stratum_N * self.num_groups + self.group_N, return_inverse=True)
        self.stratum_C, self.group_C = np.divmod(cells, self.num_groups)
        self.counts_SC = Strata.of(self.by_latent, cell_N.ravel()).counts_SW
        """Firings of each latent in each stratum of each group."""

    def p(self, first: IntArray, second: IntArray) -> FloatArray:
        """p of some pairs, `first` in ascending order."""
        total, squares = np.empty(first.size), np.empty(first.size)
        place_S = np.full(self.count_S.size, -1, dtype=np.int64)
        p_W = np.zeros(self.root_W.size)
        for run in runs(first):
            latent, others = int(first[run.start]), second[run]
            strata, a = self.strata.row(latent)
            p_W[strata] = a / self.strata.units_W[strata]
            pair, unit = self._together(latent, others, place_S)
            counts_EW = self.strata.counts_SW[others]
            total[run] = np.bincount(pair, minlength=others.size) - counts_EW @ p_W
            score_EG = self._joint_scores(pair, unit, others.size)
            score_EG -= self._of_others(others, p_W)
            score_EG -= self._of_latent(latent, counts_EW, p_W)
            squares[run] = np.einsum("eg,eg->e", score_EG, score_EG)
            p_W[strata] = 0.0
        z = np.where(squares > LEAST, total / np.sqrt(np.maximum(squares, LEAST)), 0.0)
        p: FloatArray = ndtr(-z)
        return p

    def _together(self, latent: int, others: IntArray, place_S: IntArray) -> tuple[IntArray, IntArray]:
        """(place in `others`, unit) of every joint firing of a latent; `place_S` is -1 everywhere."""
        entries = slice(self.by_latent.indptr[latent], self.by_latent.indptr[latent + 1])
        units: IntArray = self.by_latent.indices[entries].astype(np.int64)
        active = self.by_unit[units]
        place_S[others] = np.arange(others.size)
        place = place_S[active.indices]
        place_S[others] = -1
        joint = np.flatnonzero(place >= 0)
        return place[joint], np.repeat(units, np.diff(active.indptr))[joint]

    def _joint_scores(self, pair: IntArray, unit: IntArray, num_pairs: int) -> FloatArray:
        """sum_t x_t y_t, [E, G]."""
        key, shape = pair * self.num_groups + self.group_N[unit], (num_pairs, self.num_groups)
        weights = self.root_W[self.stratum_N[unit]]
        return _sums(key, weights, shape)

    def _of_others(self, others: IntArray, p_W: FloatArray) -> FloatArray:
        """sum_t p_w y_t, [E, G]."""
        counts_EC, shape = self.counts_SC[others], (others.size, self.num_groups)
        key = np.repeat(np.arange(0, shape[0] * shape[1], shape[1]), np.diff(counts_EC.indptr))
        key += self.group_C[counts_EC.indices]
        weights = counts_EC.data * (self.root_W * p_W)[self.stratum_C[counts_EC.indices]]
        return _sums(key, weights, shape)

    def _of_latent(self, latent: int, counts_EW: Csr, p_W: FloatArray) -> FloatArray:
        """sum_t (x_t - p_w) q_w, that is sum_w (a_gw - n_gw p_w) b_w / N_w, [E, G]."""
        shared_W = np.zeros(p_W.size, dtype=np.bool_)
        shared_W[counts_EW.indices] = True
        shared = np.flatnonzero(shared_W & (p_W > 0))
        residual_WG: FloatArray = -p_W[shared][:, None] * self.units_WG[shared].toarray()
        place_W = np.full(p_W.size, -1, dtype=np.int64)
        place_W[shared] = np.arange(shared.size)
        cells = slice(self.counts_SC.indptr[latent], self.counts_SC.indptr[latent + 1])
        at = self.counts_SC.indices[cells]
        here = np.flatnonzero(place_W[self.stratum_C[at]] >= 0)
        residual_WG[place_W[self.stratum_C[at[here]]], self.group_C[at[here]]] += self.counts_SC.data[cells][
            here
        ]
        residual_WG *= (self.root_W[shared] / self.strata.units_W[shared])[:, None]
        entry = np.flatnonzero(place_W[counts_EW.indices] >= 0)
        ends = np.searchsorted(entry, counts_EW.indptr)
        shared_EW = sparse.csr_matrix(
            (counts_EW.data[entry], place_W[counts_EW.indices[entry]], ends),
            (counts_EW.shape[0], shared.size),
        )
        scores_EG: FloatArray = np.asarray(shared_EW @ residual_WG, dtype=np.float64)
        return scores_EG


def _sums(key: IntArray, weights: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """The weights added up by the number of their cell."""
    sums: FloatArray = np.bincount(key, weights, shape[0] * shape[1]).astype(np.float64, copy=False)
    return sums.reshape(shape)


def _pieces(firings_E: IntArray, num_groups: int) -> Iterator[slice]:
    """Slices of consecutive pairs that a thread holds at a time."""
    cost_E = np.maximum(firings_E / BLOCK_FIRINGS, num_groups / BLOCK_SCORES)
    piece_E: IntArray = np.cumsum(cost_E).astype(np.int64)
    yield from runs(piece_E)
