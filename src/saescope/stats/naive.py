"""Naive modularity, kept only to show what not to report: near 1 on pure noise."""

import numpy as np

from saescope.stats.arrays import Csr, FloatArray, IntArray
from saescope.stats.coactivation import binary
from saescope.stats.progress import Progress, no_progress

MAX_LATENTS = 8192
TOP = 200
"""Entries of the PMI matrix that become edges; each pair stands in the matrix twice."""
EPSILON = 1e-9
BLOCK_ENTRIES = 12_000_000
"""Entries of the joint count matrix formed in one go."""


def naive_modularity(active_NF: Csr, progress: Progress = no_progress) -> float | None:
    """Greedy modularity of the 200 largest entries of the symmetric PMI matrix; None above 8,192 latents.

    PMI_ij = ln[(p_ij + 1e-9) / (p_i p_j + 1e-9)], diagonal 0; each pair sits in the matrix twice, so the
    graph has about 100 edges. Entries without a joint firing have PMI <= 0 and can be no edge, so only the
    others are formed. Ties are broken by position. 0.0 without an edge.
    """
    import networkx as nx

    active = binary(active_NF)
    num_tokens, num_latents = active.shape
    if num_latents > MAX_LATENTS:
        return None
    chance = np.asarray(active.sum(axis=0)).ravel() / max(1, num_tokens)
    by_latent = active.T.tocsr()
    block = max(1, BLOCK_ENTRIES // max(1, num_latents))
    values, places = np.zeros(0), np.zeros(0, dtype=np.int64)
    step = "latents in the naive graph"
    progress(step, 0, num_latents)
    for start in range(0, num_latents, block):
        counts = (by_latent[start : start + block] @ active).tocoo()
        row, col = counts.row.astype(np.int64) + start, counts.col.astype(np.int64)
        pmi = np.log((counts.data / num_tokens + EPSILON) / (chance[row] * chance[col] + EPSILON))
        pair = row != col
        values, places = _largest(
            np.concatenate([values, pmi[pair]]), np.concatenate([places, (row * num_latents + col)[pair]])
        )
        progress(step, min(start + block, num_latents), num_latents)
    graph = nx.Graph()
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        if value > 0:
            graph.add_edge(place // num_latents, place % num_latents, weight=value)
    if not graph.number_of_edges():
        return 0.0
    parts = nx.community.greedy_modularity_communities(graph, weight="weight")
    return float(nx.community.modularity(graph, parts, weight="weight"))


def _largest(values: FloatArray, places: IntArray) -> tuple[FloatArray, IntArray]:
    if values.size > TOP:
        smallest = np.partition(values, values.size - TOP)[values.size - TOP]
        values, places = values[values >= smallest], places[values >= smallest]
    order = np.lexsort((places, -values))[:TOP]
    return values[order], places[order]
