"""Neurons in blocks: by the Q partition of their co-activation graph, by k-means on weights, by chance.

Each neuron has a block number; blocks of the three kinds have the same sizes. Free of torch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.cluster import KMeans

from saescope.stats import leiden, validated_edges
from saescope.stats.arrays import Csr, FloatArray, IntArray
from saescope.stats.coactivation import Edges

FIRING_SHARE = 0.1
"""A neuron fires on the tenth of the tokens where its |a| is largest; GELU and SiLU are never exactly 0."""

MIN_JOINT = 5
FDR = 0.01
DOUBLINGS = 6
"""Resolutions tried to split a community that is too large: 1, 2, 4 …"""


@dataclass(frozen=True)
class Communities:
    """The co-activation graph's partition, and the blocks cut from it."""

    community_F: IntArray
    """Leiden community, 0 the largest; -1 for a neuron without an edge."""

    block_F: IntArray
    """Block, 0…: a community, or a part of one that is larger than the largest block allowed."""

    modularity: float
    """Q of the communities."""

    edges: int


def firing(score_NF: npt.NDArray[np.floating]) -> Csr:
    """1 where a neuron fires, [N, F]: its score is among the `FIRING_SHARE` largest of all tokens, and not 0.

    By each neuron's own tokens, so that all fire equally often and no neuron is always on.
    """
    count = max(1, round(FIRING_SHARE * len(score_NF)))
    cut_F = np.partition(score_NF, len(score_NF) - count, axis=0)[len(score_NF) - count]
    return sparse.csr_matrix(((score_NF >= cut_F) & (score_NF > 0)).astype(np.int32))


def find_communities(fires_NF: Csr, largest: int, seed: int) -> Communities:
    """Leiden on the validated co-activation graph, and blocks of at most `largest` neurons.

    Neurons without an edge fill blocks of their own.
    """
    num_neurons = fires_NF.shape[1]
    edges = validated_edges(fires_NF, min_joint=MIN_JOINT, fdr=FDR)
    partition = leiden(edges.source, edges.target, edges.pmi, num_neurons, seeds=[seed])
    block_F = np.full(num_neurons, -1, dtype=np.int64)
    blocks: list[IntArray] = []
    for community in range(int(partition.labels_S.max(initial=-1)) + 1):
        parts = _parts(np.flatnonzero(partition.labels_S == community), edges, largest, seed)
        blocks += _packed(parts, largest)
    blocks += _cut(np.flatnonzero(partition.labels_S < 0), largest)
    for number, members in enumerate(blocks):
        block_F[members] = number
    return Communities(partition.labels_S, block_F, partition.modularity, len(edges))


def shuffled(block_F: IntArray, seed: int) -> IntArray:
    """Blocks of the same sizes with random members."""
    return np.random.default_rng(seed).permutation(block_F)


def by_weights(weight_FD: FloatArray, block_F: IntArray, seed: int) -> IntArray:
    """k-means on the neurons' weight rows, balanced to the sizes of `block_F` (MoEfication, 2110.01786).

    The largest blocks go to the most populous clusters; the nearest neurons and centres are joined first.
    """
    sizes_C = np.sort(np.bincount(block_F))[::-1]
    means = KMeans(len(sizes_C), n_init=1, random_state=seed).fit(weight_FD)
    ranked_C = np.argsort(-np.bincount(means.labels_, minlength=len(sizes_C)), kind="stable")
    return balanced(means.transform(weight_FD)[:, ranked_C], sizes_C)


def balanced(distance_FC: FloatArray, sizes_C: IntArray) -> IntArray:
    """Assign F points to clusters of exactly `sizes_C` points: nearest pairs first, full clusters skipped.

    Raises ValueError when the sizes do not add up to F.
    """
    points, clusters = distance_FC.shape
    if sizes_C.sum() != points or len(sizes_C) != clusters:
        raise ValueError("the sizes of the clusters must add up to the number of points")
    label_F = np.full(points, -1, dtype=np.int64)
    room = sizes_C.tolist()
    for pair in np.argsort(distance_FC, axis=None, kind="stable").tolist():
        point, cluster = divmod(pair, clusters)
        if label_F[point] < 0 and room[cluster]:
            label_F[point] = cluster
            room[cluster] -= 1
    return label_F


def _parts(members: IntArray, edges: Edges, largest: int, seed: int) -> list[IntArray]:
    """`members` in parts of at most `largest`: communities of the graph where it has several."""
    if members.size <= largest:
        return [members]
    place = np.full(int(members.max()) + 1, -1, dtype=np.int64)
    place[members] = np.arange(members.size)
    ends = np.minimum(edges.source, place.size - 1), np.minimum(edges.target, place.size - 1)
    inside = (edges.source < place.size) & (edges.target < place.size)
    inside &= (place[ends[0]] >= 0) & (place[ends[1]] >= 0)
    source, target, weight = place[edges.source[inside]], place[edges.target[inside]], edges.pmi[inside]
    for doubling in range(DOUBLINGS):
        labels = leiden(source, target, weight, members.size, seeds=[seed], resolution=2.0**doubling).labels_S
        if labels.max(initial=0) > 0:
            groups = [members[labels == label] for label in range(int(labels.max()) + 1)]
            unlinked = [members[labels < 0]] if (labels < 0).any() else []
            return [part for group in groups + unlinked for part in _parts(group, edges, largest, seed)]
    return _cut(members, largest)


def _packed(parts: list[IntArray], largest: int) -> list[IntArray]:
    """Join neighbouring parts of one community while they fit: Leiden splits a clique into single neurons."""
    blocks: list[IntArray] = []
    for part in parts:
        if blocks and blocks[-1].size + part.size <= largest:
            blocks[-1] = np.concatenate([blocks[-1], part])
        else:
            blocks.append(part)
    return blocks


def _cut(members: IntArray, largest: int) -> list[IntArray]:
    return [members[at : at + largest] for at in range(0, members.size, largest)]
