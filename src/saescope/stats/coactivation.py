"""Pairs of latents that fire together more often than independence allows: the edges of the graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.compat import product
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import by_column, column_counts, fits_in_memory, is_binary
from saescope.stats.strata import Strata
from saescope.stats.threads import in_threads, num_threads

BLOCK_ENTRIES = 12_000_000
"""Entries of the joint count matrix formed in one go, were it dense (about 150 MB)."""


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

    def beyond_nulls(start: int, source: IntArray, target: IntArray, joint: IntArray) -> list[PairColumns]:
        return [
            surprising(joint, *null.beyond(source, target, joint, fdr), source, target, fdr) for null in nulls
        ]

    parts = examined_pairs(active, by_latent, beyond_nulls, min_joint, block, progress)
    num_nodes = active.shape[1]
    edges_of_nulls = [significant([part[i] for part in parts], num_nodes, fdr) for i in range(len(nulls))]
    return [renamed(edges, order) for edges in edges_of_nulls]


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


def labels_of_units(unit_N: AnyIntArray, label_N: IntArray, labels: str) -> IntArray:
    """Label of every unit, in the order of `collapse`, from those of its tokens.

    `labels`: what they are, for the ValueError where a unit has tokens of two.
    """
    _, first_U, unit = np.unique(np.asarray(unit_N), return_index=True, return_inverse=True)
    label_U: IntArray = label_N[first_U]
    if (label_U[unit] != label_N).any():
        raise ValueError(f"a counting unit spans two {labels}")
    return label_U


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


PairColumns: TypeAlias = tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]
"""Source, target, joint count, PMI and p of some pairs of latents."""

Examine: TypeAlias = Callable[[int, IntArray, IntArray, IntArray], list[PairColumns]]
"""From the first latent of a block and the source, target and joint count of its pairs, in ascending order of
the source: the pairs that may be edges, for each graph."""


def examined_pairs(
    active: Csr, by_latent: Csr, examine: Examine, min_joint: int, block: int | None, progress: Progress
) -> list[list[PairColumns]]:
    """What `examine` gives for the pairs of each block of latents, from one pass over the joint counts.

    `active`: units by latents, `by_latent` the same the other way round, both as `binary` leaves them.
    """
    num_nodes = active.shape[1]
    block = block_size(num_nodes) if block is None else max(1, block)

    def pairs_from(start: int, tail: Csr, tail_start: int) -> list[PairColumns]:
        source, target, joint = _joint_counts(by_latent[start : start + block], tail, min_joint)
        source, target = source + start, target + tail_start
        later = source < target
        return examine(start, source[later], target[later], joint[later])

    parts: list[list[PairColumns]] = []
    # Only later latents are needed; cutting the matrix costs a pass over it, so it is cut a few times only,
    # and a large one, of which memory has no room for a copy, not at all.
    step, cut = block * max(1, num_nodes // 8 // block), fits_in_memory(active)
    num_pairs = num_nodes * (num_nodes - 1) // 2
    progress("pairs of latents", 0, num_pairs)
    tail = active
    for tail_start in range(0, num_nodes, step):
        tail = tail[:, step:] if tail_start and cut else tail
        starts = range(tail_start, min(tail_start + step, num_nodes), block)
        parts += in_threads(partial(pairs_from, tail=tail, tail_start=tail_start if cut else 0), starts)
        after = max(0, num_nodes - tail_start - step)
        progress("pairs of latents", num_pairs - after * (after - 1) // 2, num_pairs)
    return parts


def block_size(num_nodes: int) -> int:
    """Latents whose joint counts a thread forms in one go."""
    return max(16, BLOCK_ENTRIES // max(1, num_nodes) // num_threads())


def surprising(
    joint: IntArray,
    above: IntArray,
    expected: FloatArray,
    p: FloatArray,
    source: IntArray,
    target: IntArray,
    fdr: float,
) -> PairColumns:
    """The pairs at the places `above`, with these expected counts and p, whose p lets them become edges."""
    small = p <= fdr  # no pair with p > fdr can pass Benjamini-Hochberg
    passed = above[small]
    pmi = np.log(joint[passed] / expected[small])
    return source[passed], target[passed], joint[passed], pmi, p[small]


def significant(parts: list[PairColumns], num_nodes: int, fdr: float) -> Edges:
    """The pairs that pass Benjamini-Hochberg over all pairs of nodes."""
    if not parts:
        return no_edges()
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


def renamed(edges: Edges, order: IntArray) -> Edges:
    """The edges in the numbers that the nodes had before they were put in this order, sorted."""
    first, second = order[edges.source], order[edges.target]
    source, target = np.minimum(first, second), np.maximum(first, second)
    place = np.lexsort((target, source))
    return Edges(source[place], target[place], edges.joint[place], edges.pmi[place], edges.rank_tail[place])


def no_edges() -> Edges:
    """No edge at all."""
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    return Edges(none, none, none, nothing, nothing)
