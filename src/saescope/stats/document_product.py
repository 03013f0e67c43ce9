"""Counts of latents under many weightings of the documents: the inner product of the SI nulls."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .arrays import Csr

DENSE_FROM = 0.02
"""Share of non-zeros above which a dense product (BLAS) beats a sparse one."""
DENSE_ENTRIES = 40_000_000
"""Latents are densified in blocks of at most this many entries (160 MB)."""
EXACT = float(2**24)
"""Integers up to here are exact in float32."""


class DocumentProduct:
    """``product(weights_DM)`` = doc_counts_DF.T @ weights, exact for integer weights; returns [F, M]."""

    def __init__(self, doc_counts_DF: Csr, largest_weight: float = 1.0) -> None:
        self.num_docs, self.num_latents = doc_counts_DF.shape
        totals = np.asarray(doc_counts_DF.sum(axis=0)).ravel()
        exact32 = not totals.size or float(totals.max()) * largest_weight < EXACT
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


def chunk_of(num_latents: int, num_tasks: int, draws: int) -> int:
    """Draws handled at once so that the temporaries of ``specialization`` stay near 200 MB."""
    return int(max(1, min(draws, 3_000_000 // max(1, num_latents * num_tasks))))
