"""Newman modularity and the Leiden partition that (nearly) maximises it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from saescope.stats.arrays import Csr, FloatArray, IntArray
from saescope.stats.compat import louvain_moves
from saescope.stats.progress import Progress, no_progress
from saescope.stats.threads import in_threads

TOLERANCE = 1e-4
"""Gain of one pass over the nodes below which local moving stops. The moves are scored in float32, whose
rounding can add up to 1e-6 a pass; with a smaller tolerance the loop might never end."""
ROUGH = 0.01
"""The same for `moved_modularity`, which need not converge."""
IMPROVEMENT = 1e-4
"""Gain of a whole Leiden iteration below which it has converged."""


@dataclass(frozen=True)
class Partition:
    """The best of several Leiden runs."""

    labels_S: IntArray
    """Community of each node, 0 the largest; -1 for a node without an edge."""
    modularity: float
    seed_ari: float | None
    """Mean adjusted Rand index between the runs over nodes with an edge; None for a single run."""
    labels_per_seed: IntArray
    """[runs, nodes], in the order of the seeds."""


def modularity(
    source: IntArray, target: IntArray, weight: FloatArray, labels_S: IntArray, resolution: float = 1.0
) -> float:
    """Q = sum_c [L_c/m - resolution (d_c/2m)^2] (Newman & Girvan 2004, weighted); 0 without an edge.

    `labels_S`: community of every node; each undirected edge is listed once.
    Raises ValueError when an end of an edge has a negative label.
    """
    total = float(weight.sum())
    if total <= 0:
        return 0.0
    label_source, label_target = labels_S[source], labels_S[target]
    if min(label_source.min(), label_target.min()) < 0:
        raise ValueError("a node with an edge has no community")
    num_labels = int(labels_S.max()) + 1
    inside = label_source == label_target
    strength = np.bincount(label_source, weight, num_labels) + np.bincount(label_target, weight, num_labels)
    return float(weight[inside].sum() / total - resolution * np.square(strength / (2.0 * total)).sum())


def leiden(
    source: IntArray,
    target: IntArray,
    weight: FloatArray,
    num_nodes: int,
    *,
    seeds: Sequence[int],
    resolution: float = 1.0,
    max_iterations: int = 10,
    progress: Progress = no_progress,
) -> Partition:
    """Leiden (Traag, Waltman & van Eck 2019), the best of `seeds` by modularity.

    Repeated until an iteration gains nothing: local moving, refinement inside communities, aggregation by the
    refined parts; local moving itself is scikit-network's compiled loop. Its own `Leiden` class is not
    used: its refinement may never end on float32 rounding, and it draws from C's unseeded `rand`.
    Refinement here is greedy, and disconnected communities are split, which never lowers Q.
    Raises ValueError without a seed, or for weights that are not positive.
    """
    if not seeds:
        raise ValueError("leiden needs at least one seed")
    if weight.size and not (weight > 0).all():
        raise ValueError("edge weights must be positive")
    linked = np.zeros(num_nodes, dtype=np.bool_)
    linked[source], linked[target] = True, True
    nodes = np.flatnonzero(linked)
    runs = np.full((len(seeds), num_nodes), -1, dtype=np.int64)
    if not nodes.size:
        return Partition(runs[0], 0.0, None, runs)
    place = np.cumsum(linked) - 1
    graph = _graph(place[source], place[target], weight, nodes.size)
    graph.sort_indices()  # in place, so before threads share it

    ended = itertools.count(1)  # counts over threads

    def run_of(seed: int) -> IntArray:
        labels = _run(graph, np.random.default_rng(seed), resolution, max_iterations)
        progress("Leiden runs", next(ended), len(seeds))
        return labels

    progress("Leiden runs", 0, len(seeds))

    runs[:, nodes] = in_threads(run_of, seeds)
    scores = [modularity(source, target, weight, labels, resolution) for labels in runs]
    best = int(np.argmax(scores))
    agreement = [
        adjusted_rand_score(runs[i, nodes], runs[j, nodes]) for i in range(len(seeds)) for j in range(i)
    ]
    return Partition(runs[best], scores[best], float(np.mean(agreement)) if agreement else None, runs)


def moved_modularity(
    source: IntArray, target: IntArray, weight: FloatArray, num_nodes: int, resolution: float = 1.0
) -> float:
    """Modularity after one local moving of single nodes in their order, a seventh of the cost of `leiden`.

    Lower than that of `leiden`: small communities are not joined. 0 without an edge.
    """
    if not weight.size:
        return 0.0
    graph = _graph(source, target, weight, num_nodes)
    strength: FloatArray = np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()
    labels = louvain_moves(graph, strength, np.arange(num_nodes, dtype=np.int64), resolution, ROUGH)
    return modularity(source, target, weight, labels, resolution)


def _graph(source: IntArray, target: IntArray, weight: FloatArray, num_nodes: int) -> Csr:
    """Symmetric matrix of the weights, which sum to 1."""
    half = sparse.coo_matrix((weight, (source, target)), shape=(num_nodes, num_nodes))
    return sparse.csr_matrix((half + half.T) / (2.0 * float(weight.sum())))


def _run(graph: Csr, rng: np.random.Generator, resolution: float, max_iterations: int) -> IntArray:
    """Labels of the nodes after one Leiden run, 0 the largest community."""
    labels: IntArray = np.arange(graph.shape[0], dtype=np.int64)
    score = -np.inf
    for _ in range(max_iterations):
        order = rng.permutation(graph.shape[0])
        shuffled = sparse.csr_matrix(graph[order][:, order])
        moved = np.empty_like(labels)
        moved[order] = _iterate(shuffled, labels[order], resolution)
        moved = _connected(graph, moved)
        moved_score = _score(graph, moved, resolution)
        if moved_score > score:
            labels = moved
        if moved_score <= score + IMPROVEMENT:
            break
        score = moved_score
    sizes = np.bincount(labels)
    rank = np.empty_like(sizes)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(sizes.size)
    return rank[labels]


def _iterate(graph: Csr, labels: IntArray, resolution: float) -> IntArray:
    """One Leiden iteration from `labels`: move, refine, aggregate, until the graph no longer shrinks."""
    strength: FloatArray = np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()
    member: IntArray = np.arange(graph.shape[0], dtype=np.int64)  # node of the shrunken graph each node is in
    while True:
        labels = _local_moves(graph, strength, labels, resolution)
        refined = _local_moves(
            _inside(graph, labels), strength, np.arange(labels.size, dtype=np.int64), resolution
        )
        parts = int(refined.max()) + 1
        if parts == labels.size:
            return labels[member]
        joined = sparse.csr_matrix(
            (np.ones(labels.size), (np.arange(labels.size), refined)), shape=(labels.size, parts)
        )
        first = np.zeros(parts, dtype=np.int64)
        first[refined] = labels  # all members of a part share one community
        graph = sparse.csr_matrix(joined.T @ graph @ joined)
        strength = np.bincount(refined, weights=strength, minlength=parts).astype(np.float64)
        member, labels = refined[member], first


def _local_moves(graph: Csr, strength: FloatArray, labels: IntArray, resolution: float) -> IntArray:
    """Nodes move to the neighbouring community of the largest gain until a pass gains nothing."""
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    moved = louvain_moves(graph, strength, labels, resolution, TOLERANCE)
    return np.unique(moved, return_inverse=True)[1].astype(np.int64)


def _inside(graph: Csr, labels: IntArray) -> Csr:
    """The graph without the edges between different communities."""
    keep = np.repeat(labels, np.diff(graph.indptr)) == labels[graph.indices]
    indptr = np.concatenate([[0], np.cumsum(keep)])[graph.indptr]
    return sparse.csr_matrix((graph.data[keep], graph.indices[keep], indptr), shape=graph.shape)


def _connected(graph: Csr, labels: IntArray) -> IntArray:
    """The communities with each disconnected one split into its components."""
    components: IntArray = sparse.csgraph.connected_components(_inside(graph, labels), directed=False)[
        1
    ].astype(np.int64)
    return components


def _score(graph: Csr, labels: IntArray, resolution: float) -> float:
    """Modularity of the labels; edge weights of the graph sum to 1."""
    strength = np.bincount(labels, weights=np.asarray(graph.sum(axis=1)).ravel())
    return float(_inside(graph, labels).sum() - resolution * np.square(strength).sum())
