"""Pairs of latents that fire together more often than independence allows: the edges of the graph."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.compat import product
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import by_column, column_counts, fits_in_memory, is_binary, some_rows
from saescope.stats.strata import Strata
from saescope.stats.threads import in_threads, num_threads

BLOCK_ENTRIES = 12_000_000
"""Entries of the joint count matrix formed in one go, were it dense (about 150 MB)."""

GROUPS_AT_ONCE, EDGES_AT_ONCE = 4, 2_000_000
"""Graphs without a group that one pass over the joint counts finds at most, and their edges: several times as
many pairs are candidates until all are there, 40 bytes each."""


@dataclass(frozen=True)
class Edges:
    """Validated edges, `source < target`, sorted by (source, target); a node is a column of the matrix."""

    source: IntArray
    target: IntArray
    joint: IntArray
    """Units on which both are active."""
    pmi: FloatArray
    """ln(joint / expected), nats, > 0."""
    rank_tail: FloatArray
    """Upper tail probability were units independent: orders pairs, and is no p-value (`edge_p` gives one)."""

    def __len__(self) -> int:
        return int(self.source.size)


def validated_edges(
    active_NS: Csr,
    *,
    min_joint: int = 5,
    fdr: float = 0.01,
    stratum_N: AnyIntArray | None = None,
    block: int | None = None,
    progress: Progress = no_progress,
) -> Edges:
    """Pairs of latents whose joint count exceeds the hypergeometric null, with PMI > 0.

    An edge has at least `min_joint` joint units, more than expected, and passes Benjamini-Hochberg at
    `fdr` over all S(S-1)/2 pairs. Without `stratum_N` the expected count is ab/N and p the exact
    hypergeometric tail (statistically validated network, Tumminello et al. 2011). With `stratum_N`, a label
    of every unit (its task, its token id), the null holds within each label: E = sum_w a_w b_w / N_w and p is
    the tail of a sum of hypergeometrics, so an edge says more than "both like the same task". A negative
    label is unknown, and its unit no evidence.

    `active_NS`: units by latents, any non-zero means active. Joint counts are formed for `block` latents
    at a time and filtered straight away, so memory stays bounded.
    Raises ValueError for `min_joint` < 1, `fdr` outside (0, 1), or `stratum_N` that does not fit.
    """
    return edges_beyond(active_NS, [stratum_N], min_joint=min_joint, fdr=fdr, block=block, progress=progress)[
        0
    ]


def edges_beyond(
    active_NS: Csr,
    strata: Sequence[AnyIntArray | None],
    *,
    min_joint: int = 5,
    fdr: float = 0.01,
    block: int | None = None,
    progress: Progress = no_progress,
) -> list[Edges]:
    """`validated_edges` for each `stratum_N` of `strata`, the joint counts formed once."""
    if min_joint < 1:
        raise ValueError("min_joint must be at least 1")
    if not 0.0 < fdr < 1.0:
        raise ValueError("fdr must lie between 0 and 1")
    active = binary(active_NS)
    order = np.arange(active.shape[1])
    if fits_in_memory(active):  # else there is no room for a copy
        # a pair costs what its second latent has strata, so frequent latents come first
        order = np.argsort(-column_counts(active), kind="stable")
        active = active[:, order]
    columns = by_column(active)
    nulls = [Strata.of(columns, stratum_N) for stratum_N in strata]
    by_latent = sparse.csr_matrix(columns.T)
    found = _edges(active, by_latent, nulls, min_joint, fdr, block, progress)
    return [_renamed(edges, order) for edges in found]


def collapse(active_NS: Csr, unit_N: AnyIntArray) -> Csr:
    """One row per unit (chunk, document): a latent is active on a unit when it is on any of its tokens.

    `unit_N`: non-negative unit number of every token; rows come out in ascending order of unit number,
    numbers that never occur give no row. Raises ValueError for a wrong length.
    """
    active = binary(active_NS)
    if np.shape(unit_N) != (active.shape[0],):
        raise ValueError(f"expected {active.shape[0]} unit numbers, got shape {np.shape(unit_N)}")
    numbers, unit = np.unique(np.asarray(unit_N), return_inverse=True)
    tokens = np.arange(active.shape[0])
    gather = sparse.csr_matrix(
        (np.ones(tokens.size, np.int32), (unit, tokens)), shape=(numbers.size, tokens.size)
    )
    return binary(gather @ active)


def binary(active: Csr) -> Csr:
    """int32 ones where the input is non-zero, indices sorted; a copy unless the input is that already."""
    if is_binary(active):
        return active
    result = sparse.csr_matrix(active, copy=True)
    result.data = (result.data != 0).astype(np.int32)
    result.eliminate_zeros()
    result.sum_duplicates()
    result.data[:] = 1
    return result


_PairColumns: TypeAlias = tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]
"""Source, target, joint count, PMI and p of some pairs of latents."""


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
    """`validated_edges` of the units outside each group in turn, some groups from the same joint counts.

    `group_N`: group of each unit, 0 … G - 1; negative: in none, so never left out. Joint counts without a
    group are those of all units less those of the group. `num_edges`: about how many edges there will be;
    of many, fewer groups share the joint counts. Raises ValueError for a wrong length.
    """
    active = binary(active_NS)
    group_N = np.maximum(group_N, -1)
    if group_N.shape != (active.shape[0],):
        raise ValueError(f"expected {active.shape[0]} groups, got shape {group_N.shape}")
    order = np.arange(active.shape[1])
    if fits_in_memory(active):
        order = np.argsort(-column_counts(active), kind="stable")
        active = active[:, order]
    num_groups = int(group_N.max(initial=-1)) + 1
    at_once = min(GROUPS_AT_ONCE, max(1, EDGES_AT_ONCE // max(1, num_edges)))
    for first in range(0, num_groups, at_once):
        chosen = range(first, min(first + at_once, num_groups))
        others = np.flatnonzero((group_N < chosen.start) | (group_N >= chosen.stop))
        units = [others, *(np.flatnonzero(group_N == group) for group in chosen)]
        parts = [some_rows(active, numbers) for numbers in units]
        for edges in _without_each(parts, min_joint, fdr, block, progress):
            yield _renamed(edges, order)


def _without_each(
    parts: Sequence[Csr], min_joint: int, fdr: float, block: int | None, progress: Progress
) -> list[Edges]:
    """Edges of all parts of the units but one, for each but the first."""
    # the joint counts of all parts are there at once
    size = max(16, _block(parts[0].shape[1]) // len(parts)) if block is None else max(1, block)
    by_latent = [sparse.csr_matrix(by_column(part).T) for part in parts]
    counts_S, num_units = sum(column_counts(part) for part in parts), sum(part.shape[0] for part in parts)
    nulls = [
        Strata(
            sparse.csr_matrix((counts_S - column_counts(part)).astype(np.float64)[:, None]),
            np.array([num_units - part.shape[0]], dtype=np.float64),
        )
        for part in parts[1:]
    ]

    def pairs_from(start: int, tails: Sequence[Csr], tail_start: int) -> list[_PairColumns]:
        counts = [
            product(rows[start : start + size], tail) for rows, tail in zip(by_latent, tails, strict=True)
        ]
        places = [_places(count) for count in counts]
        rows, columns = counts[0].shape
        dense = np.zeros(rows * columns, dtype=np.int32)
        for count, place in zip(counts, places, strict=True):
            dense[place] += count.data
        pair = np.flatnonzero(dense >= min_joint)
        source, target = pair // columns + start, pair % columns + tail_start
        upper = source < target
        source, target, pair = source[upper], target[upper], pair[upper]
        joint = dense[pair].astype(np.int64)
        dense[:] = 0
        columns_of_nulls = []
        for null, count, place in zip(nulls, counts[1:], places[1:], strict=True):
            dense[place] = count.data
            without = joint - dense[pair]
            dense[place] = 0
            some = np.flatnonzero(without >= min_joint)
            columns_of_nulls.append(_beyond(null, source[some], target[some], without[some], fdr))
        return columns_of_nulls

    return _walk(parts, pairs_from, size, fdr, len(nulls), "pairs of latents, document groups", progress)


def _places(counts: Csr) -> IntArray:
    """Place of each entry in the matrix, were it dense and flat."""
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    place: IntArray = row * counts.shape[1] + counts.indices
    return place


def _edges(
    active: Csr,
    by_latent: Csr,
    nulls: Sequence[Strata],
    min_joint: int,
    fdr: float,
    block: int | None,
    progress: Progress,
) -> list[Edges]:
    """Edges beyond each null, from one pass over the joint counts."""
    size = _block(active.shape[1]) if block is None else max(1, block)

    def pairs_from(start: int, tails: Sequence[Csr], tail_start: int) -> list[_PairColumns]:
        source, target, joint = _joint_counts(by_latent[start : start + size], tails[0], min_joint)
        source, target = source + start, target + tail_start
        later = source < target
        source, target, joint = source[later], target[later], joint[later]
        return [_beyond(null, source, target, joint, fdr) for null in nulls]

    return _walk([active], pairs_from, size, fdr, len(nulls), "pairs of latents", progress)


def _beyond(null: Strata, source: IntArray, target: IntArray, joint: IntArray, fdr: float) -> _PairColumns:
    """The pairs that may pass Benjamini-Hochberg: none with p > fdr can."""
    above, expected, p = null.beyond(source, target, joint, fdr)
    small = p <= fdr
    passed = above[small]
    pmi = np.log(joint[passed] / expected[small])
    return source[passed], target[passed], joint[passed], pmi, p[small]


def _block(num_nodes: int) -> int:
    """Latents whose joint counts with all others are formed in one go."""
    return max(16, BLOCK_ENTRIES // max(1, num_nodes) // num_threads())


def _walk(
    matrices: Sequence[Csr],
    pairs_from: Callable[..., list[_PairColumns]],
    block: int,
    fdr: float,
    num_nulls: int,
    step_name: str,
    progress: Progress,
) -> list[Edges]:
    """Edges beyond each null from all pairs of latents, `block` latents and those after them at a time.

    `matrices`: units by latents; `pairs_from(start, tails, tail_start)`: the pairs of a block with the
    latents from `tail_start` on, whose columns are `tails`.
    """
    num_nodes = matrices[0].shape[1]
    if num_nodes < 2:
        return [no_edges() for _ in range(num_nulls)]
    parts: list[list[_PairColumns]] = []
    # Only later latents are needed; cutting a matrix costs a pass over it, so it is cut a few times only,
    # and a large one, of which memory has no room for a copy, not at all.
    step, cut = block * max(1, num_nodes // 8 // block), all(fits_in_memory(matrix) for matrix in matrices)
    num_pairs = num_nodes * (num_nodes - 1) // 2
    progress(step_name, 0, num_pairs)
    tails = list(matrices)
    for tail_start in range(0, num_nodes, step):
        tails = [tail[:, step:] for tail in tails] if tail_start and cut else tails
        starts = range(tail_start, min(tail_start + step, num_nodes), block)
        parts += in_threads(partial(pairs_from, tails=tails, tail_start=tail_start if cut else 0), starts)
        after = max(0, num_nodes - tail_start - step)
        progress(step_name, num_pairs - after * (after - 1) // 2, num_pairs)
    return [_significant([part[i] for part in parts], num_nodes, fdr) for i in range(num_nulls)]


def _significant(parts: list[_PairColumns], num_nodes: int, fdr: float) -> Edges:
    """The pairs that pass Benjamini-Hochberg over all pairs of nodes."""
    source, target, joint = (np.concatenate([part[i] for part in parts]) for i in range(3))
    pmi, p = (np.concatenate([part[i] for part in parts]) for i in (3, 4))
    validated = np.flatnonzero(benjamini_hochberg(p, num_nodes * (num_nodes - 1) // 2) <= fdr)
    return Edges(source[validated], target[validated], joint[validated], pmi[validated], p[validated])


def _joint_counts(rows: Csr, tail: Csr, min_joint: int) -> tuple[IntArray, IntArray, IntArray]:
    """(row, column, joint count) of the product, where the count is at least `min_joint`."""
    counts = product(rows, tail)
    keep = np.flatnonzero(counts.data >= min_joint)
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[keep]
    return row, counts.indices[keep].astype(np.int64), counts.data[keep].astype(np.int64)


def _renamed(edges: Edges, order: IntArray) -> Edges:
    """The edges in the numbers that the nodes had before they were put in this order, sorted."""
    first, second = order[edges.source], order[edges.target]
    source, target = np.minimum(first, second), np.maximum(first, second)
    place = np.lexsort((target, source))
    return Edges(source[place], target[place], edges.joint[place], edges.pmi[place], edges.rank_tail[place])


def no_edges() -> Edges:
    """No edge at all."""
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    return Edges(none, none, none, nothing, nothing)
