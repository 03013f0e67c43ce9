"""Modularity with groups of documents left out: how much of Q is owed to the documents."""

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.coactivation import Edges, collapse, labels_of_units
from saescope.stats.edges_without import edges_without_each
from saescope.stats.graph_metrics import MIN_EDGES
from saescope.stats.modularity import modularity
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import some_columns


def modularity_replicates(
    active_NF: Csr,
    supported_F: BoolArray,
    community_F: AnyIntArray,
    group_N: AnyIntArray,
    *,
    min_joint: int,
    fdr: float,
    resolution: float,
    unit_N: AnyIntArray | None = None,
    num_edges: int = 0,
    progress: Progress = no_progress,
) -> FloatArray:
    """Q of the graph validated anew without the tokens of each group, [G].

    The communities stay those of the whole graph. To first order this loses nothing: at the partition that
    maximises Q, a change of the partition does not change Q, only that of the graph does. A search in every
    replicate would add its own scatter, which the jackknife multiplies by √(G − 1). A latent that has its
    first edge in a replicate is a community of its own.

    `community_F`: −1 for a latent without an edge; `group_N`: group of each token, negative: never left out;
    `unit_N`: as in `summarise_modularity`; `num_edges`: edges of the whole graph. Fewer than 5 edges: Q is 0.
    Raises ValueError where a unit has tokens of two groups.
    """
    nodes = np.flatnonzero(np.asarray(supported_F, dtype=np.bool_))
    active_NS, label_S = some_columns(active_NF, nodes), np.asarray(community_F, dtype=np.int64)[nodes]
    group: IntArray = np.asarray(group_N, dtype=np.int64)
    if unit_N is not None:
        active_NS, group = collapse(active_NS, unit_N), labels_of_units(unit_N, group, "groups of documents")
    label_S = np.where(label_S < 0, label_S.max(initial=0) + 1 + np.arange(label_S.size), label_S)
    graphs = edges_without_each(
        active_NS,
        group,
        min_joint=min_joint,
        fdr=fdr,
        num_edges=num_edges,
        progress=lambda _, done, total: progress("document groups (edges)", done, total),
    )
    return np.array([_of_graph(edges, label_S, resolution) for edges in graphs])


def _of_graph(edges: Edges, label_S: IntArray, resolution: float) -> float:
    if len(edges) < MIN_EDGES:
        return 0.0
    return modularity(edges.source, edges.target, edges.pmi, label_S, resolution)
