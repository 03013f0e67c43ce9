"""Degree-preserving rewiring: the same degrees, no other structure."""

import numpy as np

from .arrays import BoolArray, FloatArray, IntArray

BITMAP_NODES = 8192
"""Up to here edges are looked up in a dense bitmap (64 MB), above it by binary search."""
MAX_ROUNDS = 200
"""Stops graphs, such as a star, in which hardly any swap is possible."""


def rewire(
    source: IntArray,
    target: IntArray,
    weight: FloatArray,
    num_nodes: int,
    *,
    seed: int,
    swaps_per_edge: float = 5.0,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Random simple graph with the degrees of the given one, weights shuffled over its edges.

    Double edge swaps (Maslov & Sneppen 2002): edges (a,b), (c,d) become (a,d), (c,b). In a round all edges
    are paired at random and all pairs swap at once; a swap that would make a self loop, an edge that exists
    or one that another swap of the round makes is refused. Rounds go on until ``swaps_per_edge`` * E swaps
    were made (at most 200 rounds). Returns (source, target, weight) with source < target.
    """
    rng = np.random.default_rng(seed)
    low, high = np.minimum(source, target), np.maximum(source, target)
    num_edges = low.size
    bitmap: BoolArray | None = None
    if num_nodes <= BITMAP_NODES:
        bitmap = np.zeros(num_nodes * num_nodes, dtype=np.bool_)
        bitmap[low * num_nodes + high] = True
    done = 0
    for _ in range(MAX_ROUNDS):
        if num_edges < 2 or done >= swaps_per_edge * num_edges:
            break
        order = rng.permutation(num_edges)
        first, second = order[: num_edges // 2], order[num_edges // 2 : 2 * (num_edges // 2)]
        flip = rng.random(first.size) < 0.5
        a, b = low[first], high[first]
        c, d = np.where(flip, high[second], low[second]), np.where(flip, low[second], high[second])
        made_ad, made_cb = _keys(a, d, num_nodes), _keys(c, b, num_nodes)
        allowed = (a != d) & (c != b)
        allowed &= ~_present(made_ad, low, high, num_nodes, bitmap) & ~_present(
            made_cb, low, high, num_nodes, bitmap
        )
        ok = np.flatnonzero(allowed)
        ok = ok[_unique_pairs(made_ad[ok], made_cb[ok])]
        if bitmap is not None:
            for edge in (first[ok], second[ok]):
                bitmap[low[edge] * num_nodes + high[edge]] = False
        for edge, key in ((first[ok], made_ad[ok]), (second[ok], made_cb[ok])):
            low[edge], high[edge] = key // num_nodes, key % num_nodes
            if bitmap is not None:
                bitmap[key] = True
        done += ok.size
    return low, high, rng.permutation(weight)


def _keys(a: IntArray, b: IntArray, num_nodes: int) -> IntArray:
    keys: IntArray = np.minimum(a, b) * num_nodes + np.maximum(a, b)
    return keys


def _present(
    keys: IntArray, low: IntArray, high: IntArray, num_nodes: int, bitmap: BoolArray | None
) -> BoolArray:
    if bitmap is not None:
        return bitmap[keys]
    return np.isin(keys, low * num_nodes + high)


def _unique_pairs(first: IntArray, second: IntArray) -> BoolArray:
    """Swaps none of whose two new edges is made by another swap (or twice by itself)."""
    keys = np.concatenate([first, second])
    order = np.argsort(keys)
    twin = keys[order][1:] == keys[order][:-1]
    repeated = np.zeros(keys.size, dtype=np.bool_)
    repeated[order[1:][twin]] = True
    repeated[order[:-1][twin]] = True
    clean: BoolArray = ~(repeated[: first.size] | repeated[first.size :])
    return clean
