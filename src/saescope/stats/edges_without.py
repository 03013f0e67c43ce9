"""Edges without a group of the units, for each group: what a jackknife of the graph needs."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, IntArray
from saescope.stats.coactivation import (
    Edges,
    PairColumns,
    binary,
    block_size,
    examined_pairs,
    renamed,
    significant,
    surprising,
)
from saescope.stats.compat import product
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import by_column, column_counts, rows_of, some_rows
from saescope.stats.strata import beyond_independence

EDGES_AT_ONCE = 5_000_000
"""Edges of all graphs that one pass over the joint counts finds: several times as many pairs are candidates
until all are there, 40 bytes each."""


def edges_without_each(
    active_NS: Csr,
    group_N: AnyIntArray,
    *,
    min_joint: int = 5,
    fdr: float = 0.01,
    block: int | None = None,
    num_edges: int = 0,
    progress: Progress = no_progress,
) -> Iterator[Edges]:
    """`validated_edges` of the units outside each group, 0 to G - 1.

    `group_N`: group of each unit, negative: in every graph. The joint counts of a group's units are taken
    off those of all units, so twelve graphs cost about four times as much as one. `num_edges`: about how
    many edges a graph has; where they are many, fewer graphs share the joint counts.
    Raises ValueError for a wrong length.
    """
    group = np.asarray(group_N, dtype=np.int64)
    if group.shape != (active_NS.shape[0],):
        raise ValueError(f"expected {active_NS.shape[0]} groups of units, got shape {group.shape}")
    num_groups, num_nodes = int(group.max(initial=-1)) + 1, active_NS.shape[1]
    order = np.argsort(group, kind="stable")
    active = some_rows(binary(active_NS), order)
    by_latent = sparse.csr_matrix(by_column(active).T)
    ends = np.searchsorted(group, np.arange(num_groups + 1), sorter=order)
    groups = [slice(int(start), int(stop)) for start, stop in pairwise(ends)]
    at_once = min(max(1, num_groups), max(1, EDGES_AT_ONCE // max(1, num_edges)))
    for first in range(0, num_groups, at_once):
        chosen = groups[first : first + at_once]
        for edges in _without_each(active, by_latent, chosen, min_joint, fdr, block, progress):
            yield renamed(edges, np.arange(num_nodes))


def _without_each(
    active: Csr,
    by_latent: Csr,
    groups: Sequence[slice],
    min_joint: int,
    fdr: float,
    block: int | None,
    progress: Progress,
) -> list[Edges]:
    """Edges of the units outside each group, which is a slice of the rows, from one pass."""
    num_nodes, count_S = active.shape[1], column_counts(active)
    remaining_GS = [count_S - column_counts(rows_of(active, units)) for units in groups]

    def pairs_without(start: int, source: IntArray, target: IntArray, joint: IntArray) -> list[PairColumns]:
        stop = int(source.max(initial=start - 1)) + 1
        place = np.zeros((stop - start) * num_nodes, dtype=np.int32)  # 1 + that of each pair, 0: no such pair
        place[(source - start) * num_nodes + target] = np.arange(1, source.size + 1)
        rows = by_latent[start:stop]
        graphs = []
        for units, remaining_S in zip(groups, remaining_GS, strict=True):
            counts = product(rows[:, units], rows_of(active, units))
            row = np.repeat(np.arange(stop - start), np.diff(counts.indptr))
            at = place[row * num_nodes + counts.indices]
            left = joint.copy()
            left[at[at > 0] - 1] -= counts.data[at > 0]
            often = np.flatnonzero(left >= min_joint)
            pairs = source[often], target[often]
            num_units = active.shape[0] - (units.stop - units.start)
            above = beyond_independence(*pairs, left[often], remaining_S, num_units, fdr)
            graphs.append(surprising(left[often], *above, *pairs, fdr))
        return graphs

    # half as many latents at a time: a group's joint counts lie beside those of all units
    block = block_size(num_nodes) // 2 if block is None else block
    parts = examined_pairs(active, by_latent, pairs_without, min_joint, block, progress)
    return [significant([part[i] for part in parts], num_nodes, fdr) for i in range(len(groups))]
