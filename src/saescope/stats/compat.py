"""Private parts of scikit-network; `saescope.compat` has those of the other libraries."""

import numpy as np
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
    # a cluster array as long as the node array: the compiled loop indexes both by label
    inside = np.bincount(labels_S, weights=strength_S, minlength=labels_S.size).astype(np.float32)
    result, _ = optimize_core(
        labels_S,
        graph.indices.astype(np.int64),
        graph.indptr.astype(np.int64),
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
