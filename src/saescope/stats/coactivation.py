"""Pairs of latents that fire together more often than independence allows: the edges of the graph."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .arrays import AnyIntArray, Csr, FloatArray, IntArray
from .count_tails import hypergeometric_tail, stratified_tail
from .multiple_testing import benjamini_hochberg
from .specialization import check_tasks

BLOCK_ENTRIES = 12_000_000
"""Entries of the joint count matrix held at once, were it dense (about 150 MB)."""


@dataclass(frozen=True)
class Edges:
    """Validated edges, ``source < target``, sorted by (source, target); node numbers are columns."""

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
    """Pairs whose joint count exceeds the hypergeometric null, with PMI > 0.

    An edge has at least ``min_joint`` joint units, more than expected, and passes Benjamini-Hochberg at
    ``fdr`` over all S(S-1)/2 pairs. Without ``task_N`` the expected count is ab/N and p the exact
    hypergeometric tail (statistically validated network, Tumminello et al. 2011). With ``task_N`` (task of
    every unit) both are stratified: E = sum_t a_t b_t / T_t and the summed hypergeometric variances, so the
    edge says more than "both like the same task".

    ``active_NS``: units by latents, any non-zero means active. Joint counts are formed for ``block`` latents
    at a time and filtered at once, so memory stays bounded.
    Raises ValueError for ``min_joint`` < 1, ``fdr`` outside (0, 1), or ``task_N`` that does not fit.
    """
    if min_joint < 1:
        raise ValueError("min_joint must be at least 1")
    if not 0.0 < fdr < 1.0:
        raise ValueError("fdr must lie between 0 and 1")
    active = binary(active_NS)
    num_units, num_nodes = active.shape
    if num_nodes < 2:
        return _no_edges()
    if task_N is None:
        count_S = np.asarray(active.sum(axis=0)).ravel().astype(np.int64)
    else:
        num_tasks = int(np.max(task_N, initial=0)) + 1 if num_tasks is None else num_tasks
        task_N = check_tasks(task_N, num_units, num_tasks)
        count_SK, tokens_K = _counts_by_task(active, task_N, num_tasks)

    parts: list[tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]] = []
    for source, target, joint in _joint_counts(active, min_joint, block):
        if task_N is None:
            a, b = count_S[source], count_S[target]
            expected = a * b.astype(np.float64) / num_units
            above = joint > expected
            # no pair with p > fdr can pass Benjamini-Hochberg, so its tail need not be finished
            p = hypergeometric_tail(joint[above], a[above], b[above], num_units, ceiling=fdr)
        else:
            expected, variance = _stratified_moments(count_SK, tokens_K, source, target)
            above = joint > expected
            p = stratified_tail(joint[above], expected[above], variance[above])
        small = p <= fdr
        chosen = np.flatnonzero(above)[small]
        pmi = np.log(joint[chosen] / expected[chosen])
        parts.append((source[chosen], target[chosen], joint[chosen], pmi, p[small]))
    if not parts:
        return _no_edges()
    source, target, joint = (np.concatenate([part[i] for part in parts]) for i in range(3))
    pmi, p = (np.concatenate([part[i] for part in parts]) for i in (3, 4))
    kept = np.flatnonzero(benjamini_hochberg(p, num_nodes * (num_nodes - 1) // 2) <= fdr)
    kept = kept[np.lexsort((target[kept], source[kept]))]
    return Edges(source[kept], target[kept], joint[kept], pmi[kept], p[kept])


def collapse(active_NS: Csr, unit_N: AnyIntArray) -> Csr:
    """Any-firing per unit (chunk, document): rows with the same ``unit_N`` become one row.

    ``unit_N``: non-negative unit number of every token; rows come out in ascending order of unit number,
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
    """A csr copy with int32 ones where the input is non-zero, indices sorted."""
    result = sparse.csr_matrix(active, copy=True)
    result.data = (result.data != 0).astype(np.int32)
    result.eliminate_zeros()
    result.sum_duplicates()
    result.data[:] = 1
    return result


def _joint_counts(
    active: Csr, min_joint: int, block: int | None
) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """(source, target, joint) with source < target and joint >= min_joint, block by block."""
    num_nodes = active.shape[1]
    block = max(16, BLOCK_ENTRIES // num_nodes) if block is None else max(1, block)
    by_latent = sparse.csr_matrix(active.T)
    tail, tail_start = active, 0
    for start in range(0, num_nodes, block):
        # only later latents are needed; cutting the matrix costs a pass over it, so cut seldom
        if start - tail_start >= num_nodes // 8:
            tail, tail_start = active[:, start:], start
        counts = (by_latent[start : start + block] @ tail).tocoo()
        source, target = counts.row + start, counts.col + tail_start
        keep = (counts.data >= min_joint) & (source < target)
        yield source[keep].astype(np.int64), target[keep].astype(np.int64), counts.data[keep].astype(np.int64)


def _counts_by_task(active: Csr, task_N: IntArray, num_tasks: int) -> tuple[FloatArray, FloatArray]:
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
