"""Private parts of scikit-network and scipy; `saescope.compat` has those of the other libraries."""

import numpy as np
from scipy import sparse
from scipy.sparse import _sparsetools
from sknetwork.clustering.louvain_core import optimize_core

from saescope.stats.arrays import Csr, FloatArray, IntArray


def louvain_moves(
    graph: Csr, strength_S: FloatArray, labels_S: IntArray, resolution: float, tolerance: float
) -> IntArray:
    """Label of each node after local moving by scikit-network's compiled loop, which works in float32.

    `strength_S` is the weighted degree. Labels are 0 to S - 1; nodes move to the neighbouring community of
    the largest gain until a pass over all gains less than `tolerance`.
    """
    weights = strength_S.astype(np.float32)
    index = graph.indices.dtype  # the compiled loop has a version for int32, which scipy takes where it can
    # a cluster array as long as the node array: the compiled loop indexes both by label
    inside = np.bincount(labels_S, weights=strength_S, minlength=labels_S.size).astype(np.float32)
    result, _ = optimize_core(
        labels_S.astype(index),
        graph.indices,
        graph.indptr,
        graph.data.astype(np.float32),
        weights,
        weights,
        inside,
        inside.copy(),
        np.zeros_like(inside),
        graph.diagonal().astype(np.float32),
        resolution,
        tolerance,
    )
    return np.asarray(result).astype(np.int64)


def product(left: Csr, right: Csr) -> Csr:
    """`left @ right` for int32 matrices of which the dense product fits in memory.

    scipy's own product counts the entries of the result first, which takes 40 % of its time here.
    """
    rows, columns = left.shape[0], right.shape[1]
    most = rows * columns
    index = np.dtype(np.int32 if max(most, left.nnz, right.nnz) < 2**31 else np.int64)
    indptr, indices = np.empty(rows + 1, dtype=index), np.empty(most, dtype=index)
    data = np.empty(most, dtype=np.int32)
    _sparsetools.csr_matmat(
        rows,
        columns,
        left.indptr.astype(index, copy=False),
        left.indices.astype(index, copy=False),
        left.data.astype(np.int32, copy=False),
        right.indptr.astype(index, copy=False),
        right.indices.astype(index, copy=False),
        right.data.astype(np.int32, copy=False),
        indptr,
        indices,
        data,
    )
    size = int(indptr[-1])
    return sparse.csr_matrix((data[:size], indices[:size], indptr), shape=(rows, columns))
