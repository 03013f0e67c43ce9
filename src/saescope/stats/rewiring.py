"""Degree-preserving rewiring: the same degrees, no other structure."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from saescope.stats.arrays import BoolArray, ByteArray, FloatArray, IntArray

Graph: TypeAlias = tuple[IntArray, IntArray, FloatArray]
"""Source, target and weight of the edges."""

SWAPS_PER_EDGE = 5.0
"""Between the given graph and a rewired one: a share of e^-10 of the edges is never swapped."""
FURTHER_SWAPS = 1.0
"""Between two rewired graphs: e^-2 = 14 % of the edges stay, and all weights are shuffled anew."""
MAX_ROUNDS = 200
"""Stops graphs, such as a star, in which hardly any swap is possible."""
ODD = np.uint64(0x9E3779B97F4A7C15)
"""Multiplicative hashing (Knuth, TAOCP 3, 6.4) spreads pairs over a table."""


def rewire(
    source: IntArray,
    target: IntArray,
    weight: FloatArray,
    num_nodes: int,
    *,
    seed: int,
    swaps_per_edge: float = SWAPS_PER_EDGE,
) -> Graph:
    """The first graph of `rewirings`: random, simple, with the degrees of the given one."""
    return next(rewirings(source, target, weight, num_nodes, draws=1, seed=seed, first=swaps_per_edge))


def rewirings(
    source: IntArray,
    target: IntArray,
    weight: FloatArray,
    num_nodes: int,
    *,
    draws: int,
    seed: int,
    first: float = SWAPS_PER_EDGE,
    further: float = FURTHER_SWAPS,
) -> Iterator[Graph]:
    """Random simple graphs with the degrees of the given one, weights shuffled over the edges of each.

    Double edge swaps (Maslov & Sneppen 2002): edges (a,b), (c,d) become (a,d), (c,b). In a round all edges
    are paired at random and all pairs swap at once; a swap that would make a self loop, an edge that exists
    or one that another swap of the round makes is refused. Rounds go on until `first` * E swaps lie between
    the given graph and the first one, `further` * E between two graphs (at most 200 rounds each).

    Yields `draws` times (source, target, weight) with source < target.
    """
    rng = np.random.default_rng(seed)
    low, high = np.minimum(source, target), np.maximum(source, target)
    edge_set = _EdgeSet(num_nodes)
    edge_set.add(low, high)
    for draw in range(draws):
        _swap(low, high, edge_set, num_nodes, rng, further if draw else first)
        yield low.copy(), high.copy(), rng.permutation(weight)


def _swap(
    low: IntArray,
    high: IntArray,
    edge_set: "_EdgeSet",
    num_nodes: int,
    rng: np.random.Generator,
    swaps_per_edge: float,
) -> None:
    """Swaps ends of the edges low < high, in place."""
    num_edges, swaps = low.size, 0
    for _ in range(MAX_ROUNDS):
        if num_edges < 2 or swaps >= swaps_per_edge * num_edges:
            break
        order = rng.permutation(num_edges)
        first, second = order[: num_edges // 2], order[num_edges // 2 : 2 * (num_edges // 2)]
        flip = rng.random(first.size) < 0.5
        a, b = low[first], high[first]
        c, d = np.where(flip, high[second], low[second]), np.where(flip, low[second], high[second])
        ad, cb = (np.minimum(a, d), np.maximum(a, d)), (np.minimum(c, b), np.maximum(c, b))
        valid = np.flatnonzero((a != d) & (c != b))
        valid = valid[~edge_set.contains(ad[0][valid], ad[1][valid])]
        valid = valid[~edge_set.contains(cb[0][valid], cb[1][valid])]
        valid = valid[_unique_pairs(*(pair[0][valid] * num_nodes + pair[1][valid] for pair in (ad, cb)))]
        for edge in (first[valid], second[valid]):
            edge_set.remove(low[edge], high[edge])
        for edge, pair in ((first[valid], ad), (second[valid], cb)):
            low[edge], high[edge] = pair[0][valid], pair[1][valid]
            edge_set.add(low[edge], high[edge])
        swaps += valid.size


def rewirings_in_memory(num_nodes: int) -> int:
    """Rewirings that may run side by side so that their edge sets stay within a gigabyte; at least one."""
    return max(1, 2**30 // _EdgeSet.size(num_nodes))


class _EdgeSet:
    """Which pairs are edges: one bit a pair, 256 MB at 65,536 nodes."""

    def __init__(self, num_nodes: int) -> None:
        self.bytes = np.zeros(self.size(num_nodes), dtype=np.uint8)

    @staticmethod
    def size(num_nodes: int) -> int:
        """Bytes of the set."""
        return num_nodes * (num_nodes - 1) // 16 + 1

    @staticmethod
    def _position(low: IntArray, high: IntArray) -> tuple[IntArray, ByteArray]:
        """Number of the byte of each pair, and the pair's bit in it."""
        pair = high * (high - 1) // 2 + low
        return pair >> 3, np.left_shift(np.uint8(1), (pair & 7).astype(np.uint8))

    def contains(self, low: IntArray, high: IntArray) -> BoolArray:
        byte, bit = self._position(low, high)
        contained: BoolArray = (self.bytes[byte] & bit) != 0
        return contained

    # The pairs of one call differ, and none is added twice or removed when absent, so adding sets bits and
    # subtracting clears them. Where several pairs of a call lie in one byte, `|=` would see only one of them.
    def add(self, low: IntArray, high: IntArray) -> None:
        np.add.at(self.bytes, *self._position(low, high))

    def remove(self, low: IntArray, high: IntArray) -> None:
        np.subtract.at(self.bytes, *self._position(low, high))


def _unique_pairs(first: IntArray, second: IntArray) -> BoolArray:
    """Swaps none of whose two new edges is made by another swap (or twice by itself)."""
    keys = np.concatenate([first, second])
    # Only keys that share a slot of a hash table can be equal, and only those are sorted.
    bits = keys.size.bit_length() + 2
    slot = ((keys.astype(np.uint64) * ODD) >> np.uint64(64 - bits)).astype(np.int64)
    last, crowded = np.empty(2**bits, dtype=np.int32), np.zeros(2**bits, dtype=np.bool_)
    number = np.arange(keys.size, dtype=np.int32)
    last[slot] = number
    crowded[slot[last[slot] != number]] = True
    doubtful = np.flatnonzero(crowded[slot])
    order = doubtful[np.argsort(keys[doubtful])]
    twin = keys[order][1:] == keys[order][:-1]
    repeated = np.zeros(keys.size, dtype=np.bool_)
    repeated[order[1:][twin]] = True
    repeated[order[:-1][twin]] = True
    clean: BoolArray = ~(repeated[: first.size] | repeated[first.size :])
    return clean
