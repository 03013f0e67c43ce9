"""Pairs of latents that fire together more often than independence allows: the edges of the graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.compat import product
from saescope.stats.count_tails import hypergeometric_tail, stratified_tail
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import by_column, column_counts, fits_in_memory, is_binary
from saescope.stats.specialization import check_tasks
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
    p: FloatArray
    """Upper tail probability under independence."""

    def __len__(self) -> int:
        return int(self.source.size)


def validated_edges(
    active_NS: Csr,
    *,
    min_joint: int = 5,
    fdr: float = 0.01,
    task_N: AnyIntArray | None = None,
    num_tasks: int | None = None,
    block: int | None = None,
) -> Edges:
    """Pairs of latents whose joint count exceeds the hypergeometric null, with PMI > 0.

    An edge has at least `min_joint` joint units, more than expected, and passes Benjamini-Hochberg at
    `fdr` over all S(S-1)/2 pairs. Without `task_N` the expected count is ab/N and p the exact
    hypergeometric tail (statistically validated network, Tumminello et al. 2011). With `task_N` (task of
    every unit) both are stratified: E = sum_t a_t b_t / T_t and the summed hypergeometric variances, so the
    edge says more than "both like the same task".

    `active_NS`: units by latents, any non-zero means active. Joint counts are formed for `block` latents
    at a time and filtered straight away, so memory stays bounded.
    Raises ValueError for `min_joint` < 1, `fdr` outside (0, 1), or `task_N` that does not fit.
    """
    if min_joint < 1:
        raise ValueError("min_joint must be at least 1")
    if not 0.0 < fdr < 1.0:
        raise ValueError("fdr must lie between 0 and 1")
    active = binary(active_NS)
    null: _Null = _Independent(active) if task_N is None else _WithinTasks(active, task_N, num_tasks)
    return _edges(active, [null], min_joint, fdr, block)[0]


def both_edges(
    active_NS: Csr,
    task_N: AnyIntArray,
    num_tasks: int,
    *,
    min_joint: int = 5,
    fdr: float = 0.01,
    progress: Progress = no_progress,
) -> tuple[Edges, Edges]:
    """`validated_edges` without and with `task_N`, the joint counts formed once."""
    active = binary(active_NS)
    nulls: list[_Null] = [_Independent(active), _WithinTasks(active, task_N, num_tasks)]
    plain, within = _edges(active, nulls, min_joint, fdr, None, progress)
    return plain, within


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
_Null: TypeAlias = Callable[[IntArray, IntArray, IntArray, float], tuple[IntArray, FloatArray, FloatArray]]
"""(source, target, joint, ceiling) → places of the pairs above expectation, their expected counts, their p.
A p above the ceiling need not be exact."""


class _Independent:
    """Expected ab/N, exact hypergeometric tail."""

    def __init__(self, active: Csr) -> None:
        self.num_units = active.shape[0]
        self.count_S = column_counts(active)

    def __call__(
        self, source: IntArray, target: IntArray, joint: IntArray, ceiling: float
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        a, b = self.count_S[source], self.count_S[target]
        expected = a * b.astype(np.float64) / self.num_units
        above = np.flatnonzero(joint > expected)
        p = hypergeometric_tail(joint[above], a[above], b[above], self.num_units, ceiling=ceiling)
        return above, expected[above], p


class _WithinTasks:
    """Expected count and variance summed over tasks, tail of the matched binomial."""

    def __init__(self, active: Csr, task_N: AnyIntArray, num_tasks: int | None) -> None:
        num_tasks = int(np.max(task_N, initial=0)) + 1 if num_tasks is None else num_tasks
        self.count_SK, self.tokens_K = _counts_by_task(
            active, check_tasks(task_N, active.shape[0], num_tasks), num_tasks
        )

    def __call__(
        self, source: IntArray, target: IntArray, joint: IntArray, ceiling: float
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        expected, variance = _stratified_moments(self.count_SK, self.tokens_K, source, target)
        above = np.flatnonzero(joint > expected)
        p = stratified_tail(joint[above], expected[above], variance[above], ceiling=ceiling)
        return above, expected[above], p


def _edges(
    active: Csr,
    nulls: Sequence[_Null],
    min_joint: int,
    fdr: float,
    block: int | None,
    progress: Progress = no_progress,
) -> list[Edges]:
    """Edges beyond each null, from one pass over the joint counts."""
    num_nodes = active.shape[1]
    if num_nodes < 2:
        return [_no_edges() for _ in nulls]
    by_latent = sparse.csr_matrix(by_column(active).T)
    block = max(16, BLOCK_ENTRIES // num_nodes // num_threads()) if block is None else max(1, block)

    def pairs_from(start: int, tail: Csr, tail_start: int) -> list[_PairColumns]:
        source, target, joint = _joint_counts(by_latent[start : start + block], tail, min_joint)
        source, target = source + start, target + tail_start
        later = source < target
        source, target, joint = source[later], target[later], joint[later]
        columns_of_nulls = []
        for null in nulls:
            # no pair with p > fdr can pass Benjamini-Hochberg
            above, expected, p = null(source, target, joint, fdr)
            small = p <= fdr
            passed = above[small]
            pmi = np.log(joint[passed] / expected[small])
            columns_of_nulls.append((source[passed], target[passed], joint[passed], pmi, p[small]))
        return columns_of_nulls

    parts: list[list[_PairColumns]] = []
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
    return [_significant([part[i] for part in parts], num_nodes, fdr) for i in range(len(nulls))]


def _significant(parts: list[_PairColumns], num_nodes: int, fdr: float) -> Edges:
    """The pairs that pass Benjamini-Hochberg over all pairs of nodes, sorted."""
    source, target, joint = (np.concatenate([part[i] for part in parts]) for i in range(3))
    pmi, p = (np.concatenate([part[i] for part in parts]) for i in (3, 4))
    validated = np.flatnonzero(benjamini_hochberg(p, num_nodes * (num_nodes - 1) // 2) <= fdr)
    validated = validated[np.lexsort((target[validated], source[validated]))]
    return Edges(source[validated], target[validated], joint[validated], pmi[validated], p[validated])


def _joint_counts(rows: Csr, tail: Csr, min_joint: int) -> tuple[IntArray, IntArray, IntArray]:
    """(row, column, joint count) of the product, where the count is at least `min_joint`."""
    counts = product(rows, tail)
    keep = np.flatnonzero(counts.data >= min_joint)
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[keep]
    return row, counts.indices[keep].astype(np.int64), counts.data[keep].astype(np.int64)


def _counts_by_task(active: Csr, task_N: IntArray, num_tasks: int) -> tuple[FloatArray, FloatArray]:
    """Units on which a latent is active, by task [S, K], and units of each task [K]; no empty task."""
    units = np.arange(task_N.size)
    member_KN = sparse.csr_matrix(
        (np.ones(units.size, np.int32), (task_N, units)), shape=(num_tasks, units.size)
    )
    count_SK = np.asarray((member_KN @ active).todense(), dtype=np.float64).T
    tokens_K = np.bincount(task_N, minlength=num_tasks).astype(np.float64)
    return np.ascontiguousarray(count_SK[:, tokens_K > 0]), tokens_K[tokens_K > 0]


def _stratified_moments(
    count_SK: FloatArray, tokens_K: FloatArray, source: IntArray, target: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the joint count of pairs: hypergeometric within each task, summed over tasks."""
    expected, variance = np.zeros(source.size), np.zeros(source.size)
    for task, tokens in enumerate(tokens_K):
        a, b = count_SK[source, task], count_SK[target, task]
        mean = a * b / tokens
        expected += mean
        if tokens > 1:
            variance += mean * (1.0 - a / tokens) * (tokens - b) / (tokens - 1.0)
    return expected, variance


def _no_edges() -> Edges:
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    return Edges(none, none, none, nothing, nothing)
