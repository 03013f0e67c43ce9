"""Counts of latents under many weightings of the documents: the inner product of the SI nulls."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.row_blocks import by_column
from saescope.stats.threads import in_threads, num_threads

DENSE_FROM = 0.1
"""Share of non-zeros above which a dense product (BLAS, one thread) beats a sparse one."""
DENSE_ENTRIES = 40_000_000
"""Latents are densified in blocks of at most this many entries (160 MB)."""
BLOCK_LATENTS = 4096
"""Latents of a block at most, so that many draws fit into one product."""
EXACT = float(2**24)
"""Integers up to here are exact in float32."""
DIGITS = (3, 2)
"""Counts that one float32 may carry, of latents with fewer firings than 2^(24 / digits)."""


class DocumentProduct:
    """The product of latents by documents with weightings of the documents, exact for integer weights.

    `product(weights_DM)` is `doc_counts_DF.T @ weights_DM`, [F, M] for M weightings. `largest_weight` is the
    largest weight there will be: it decides whether float32 is exact.
    """

    def __init__(self, doc_counts_DF: Csr, largest_weight: float = 1.0) -> None:
        self.num_docs, self.num_latents = doc_counts_DF.shape
        self.total_F: IntArray = np.asarray(doc_counts_DF.sum(axis=0)).ravel()
        self.largest_total = float(self.total_F.max(initial=0))
        exact32 = self.largest_total * largest_weight < EXACT
        self.dtype: npt.DTypeLike = np.float32 if exact32 else np.float64
        counts_FD = sparse.csr_matrix(doc_counts_DF.T, dtype=self.dtype)
        size = max(1, self.num_docs * self.num_latents)
        fits = size <= DENSE_ENTRIES
        self._counts: npt.NDArray[np.floating] | Csr = (
            counts_FD.toarray() if fits and counts_FD.nnz >= DENSE_FROM * size else counts_FD
        )

    def __call__(self, weights_DM: npt.NDArray[np.generic]) -> npt.NDArray[np.floating]:
        """[F, M] in float32 (float64 where float32 would round)."""
        result: npt.NDArray[np.floating] = self._counts @ weights_DM.astype(self.dtype, copy=False)
        return result

    def by_task(self, label_DP: AnyIntArray, num_tasks: int) -> npt.NDArray[np.floating]:
        """Counts in the documents of every task but the last, under each of P labellings; [F, K - 1, P].

        Float32 holds integers below 2^24 exactly, so for latents with fewer than 2^12 (2^8) firings one
        product carries the counts of two (three) tasks as its digits to that base.
        """
        digits = next((d for d in DIGITS if self.largest_total < 2 ** (24 // d)), 1)
        base = 2 ** (24 // digits)
        column_K, digit_K = np.divmod(np.arange(num_tasks - 1), digits)
        num_columns = int(column_K[-1]) + 1
        weight_CK = np.zeros((num_columns, num_tasks), dtype=self.dtype)
        weight_CK[column_K, np.arange(num_tasks - 1)] = np.power(float(base), digit_K)
        draws = label_DP.shape[1]
        weights = weight_CK[:, label_DP].transpose(1, 0, 2).reshape(self.num_docs, -1)
        packed = self(weights).reshape(self.num_latents, num_columns, draws)
        counts = np.empty((self.num_latents, num_tasks - 1, draws), dtype=packed.dtype)
        for column in range(num_columns):
            rest = packed[:, column]
            for task in np.flatnonzero(column_K == column)[::-1]:
                power = float(base) ** int(digit_K[task])
                np.floor(rest / power, out=counts[:, task])
                rest = rest - counts[:, task] * power
        return counts


def latent_blocks(doc_counts_DF: Csr) -> Iterator[tuple[IntArray, Csr]]:
    """Blocks of (latent numbers, their columns [D, block]), small enough to be made dense.

    Latents of similar frequency come together, and no block mixes latents that `by_task` packs differently.
    """
    by_latent = by_column(doc_counts_DF)
    total_F = np.asarray(by_latent.sum(axis=0)).ravel()
    order = np.argsort(-total_F, kind="stable").astype(np.int64)
    size = max(1, min(BLOCK_LATENTS, DENSE_ENTRIES // max(1, doc_counts_DF.shape[0])))
    limits = [int((total_F >= 2 ** (24 // digits)).sum()) for digits in DIGITS[::-1]]
    for first, last in itertools.pairwise([0, *limits, order.size]):
        for start in range(first, last, size):
            latents = order[start : min(start + size, last)]
            yield latents, sparse.csr_matrix(by_latent[:, latents])


def draw_slices(num_latents: int, num_tasks: int, draws: int, share: int = 1) -> list[slice]:
    """Slices of `draws`, short enough that the temporaries of `specialization` stay near 200 MB / `share`."""
    size = int(max(1, min(draws, 3_000_000 // share // max(1, num_latents * num_tasks))))
    return [slice(start, min(start + size, draws)) for start in range(0, draws, size)]


def for_each_slice(work: Callable[[slice], FloatArray], slices: Sequence[slice]) -> Iterator[FloatArray]:
    """`work(draws)` for every slice, in order, in threads; no more results in memory than threads."""
    threads = num_threads()
    for start in range(0, len(slices), threads):
        yield from in_threads(work, slices[start : start + threads])
