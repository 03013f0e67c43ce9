"""Modularity with groups of documents left out: how much of Q is owed to the documents."""

from collections.abc import Iterator

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.coactivation import Edges, collapse, validated_edges
from saescope.stats.modularity import modularity
from saescope.stats.modularity_summary import MIN_EDGES
from saescope.stats.progress import Progress, no_progress


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
    progress: Progress = no_progress,
) -> FloatArray:
    """Q of the graph validated anew without the tokens of each group, [G].

    The communities stay those of the whole graph. To first order this loses nothing: at the partition that
    maximises Q, a change of the partition does not change Q, only that of the graph does. A search in every
    replicate would add its own scatter, which the jackknife multiplies by √(G − 1). A latent that has its
    first edge in a replicate is a community of its own.

    `community_F`: −1 for a latent without an edge; `group_N`: group of each token, negative: never left out;
    `unit_N`: as in `summarise_modularity`. Fewer than 5 edges: Q is 0. Cost: one validation of the edges a
    group.
    """
    nodes = np.flatnonzero(np.asarray(supported_F, dtype=np.bool_))
    active_NS, label_S = active_NF[:, nodes], np.asarray(community_F, dtype=np.int64)[nodes]
    group_of_N: IntArray = np.asarray(group_N, dtype=np.int64)
    label_S = np.where(label_S < 0, label_S.max(initial=0) + 1 + np.arange(label_S.size), label_S)
    num_groups = int(group_of_N.max(initial=-1)) + 1
    values: list[float] = []
    progress("document groups (edges)", 0, num_groups)
    for tokens in _without_each(group_of_N, num_groups):
        active = active_NS[tokens]
        if unit_N is not None:
            active = collapse(active, np.asarray(unit_N)[tokens])
        values.append(_of_graph(validated_edges(active, min_joint=min_joint, fdr=fdr), label_S, resolution))
        progress("document groups (edges)", len(values), num_groups)
    return np.array(values)


def _without_each(group_N: IntArray, num_groups: int) -> Iterator[IntArray]:
    for group in range(num_groups):
        yield np.flatnonzero(group_N != group)


def _of_graph(edges: Edges, label_S: IntArray, resolution: float) -> float:
    if len(edges) < MIN_EDGES:
        return 0.0
    return modularity(edges.source, edges.target, edges.pmi, label_S, resolution)
