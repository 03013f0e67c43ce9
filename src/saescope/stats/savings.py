"""What structure saves: the share of a gap it recovers, the worth of a task's own mask, and how unions grow.

Losses are sums of nats per document, so resampling documents resamples everything said about them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.resampling import document_weights
from saescope.stats.specialization import check_tasks


@dataclass(frozen=True)
class Recovered:
    """eta, the share of a gap that is recovered, with its interval and its place among random partitions."""

    eta: float
    low: float
    """Lower end of the 95 % interval over documents; NaN for a single document."""
    high: float
    null_R: FloatArray
    """eta of each random partition against the mean of the others: what luck gives."""
    p: float
    """(1 + random partitions at least as good) / (R + 1)."""


def recovered_share(
    random_RD: FloatArray, structured_D: FloatArray, bound_D: FloatArray, *, resamples: int, seed: int
) -> Recovered | None:
    """eta = (random - structured) / (random - bound): 0 no better than chance, 1 as good as the bound.

    `random_RD`: losses under R >= 2 random partitions of the same sizes. None where the bound does not beat
    chance: where the gap is not positive in all but 5 % of the resamples, eta would divide by noise.
    Raises ValueError for a single partition, or lengths that disagree.
    """
    if random_RD.ndim != 2 or len(random_RD) < 2:
        raise ValueError("at least two random partitions are needed")
    if not random_RD.shape[1] == len(structured_D) == len(bound_D):
        raise ValueError("losses of the same documents are needed")
    mean_D = random_RD.mean(axis=0)
    gap = float((mean_D - bound_D).sum())
    weight_BD = _document_weights(len(bound_D), resamples, np.random.default_rng(seed))
    gap_B = weight_BD @ (mean_D - bound_D)
    positive = gap_B > 0
    if gap <= 0 or positive.mean() < 0.95:
        return None
    eta_B = (weight_BD @ (mean_D - structured_D))[positive] / gap_B[positive]
    low, high = np.quantile(eta_B, [0.025, 0.975]) if len(bound_D) > 1 else (np.nan, np.nan)
    total_R, draws = random_RD.sum(axis=1), len(random_RD)
    others_R = (total_R.sum() - total_R) / (draws - 1)
    return Recovered(
        float((mean_D - structured_D).sum()) / gap,
        float(low),
        float(high),
        (others_R - total_R) / (others_R - bound_D.sum()),
        permutation_p(-float(structured_D.sum()), -total_R),
    )


def other_tasks(task_D: AnyIntArray, num_tasks: int, seed: int) -> IntArray:
    """For every document a task that is not its own, all others equally often (up to rounding).

    Raises ValueError for fewer than two tasks.
    """
    task_D = check_tasks(task_D, len(task_D), num_tasks)
    if num_tasks < 2:
        raise ValueError("another task needs at least two tasks")
    rng = np.random.default_rng(seed)
    other_D = np.empty_like(task_D)
    for task in range(num_tasks):
        docs_of_task = np.flatnonzero(task_D == task)
        step = rng.permutation(docs_of_task.size) % (num_tasks - 1) + 1
        other_D[docs_of_task] = (task + step) % num_tasks
    return other_D


def mean_by_task(
    loss_MD: FloatArray, tokens_D: npt.NDArray[Any], task_D: AnyIntArray, num_tasks: int
) -> FloatArray:
    """Mean loss per token of each task under each of M masks, [M, K], from the sums `loss_MD` per document.

    Raises ValueError for a task without tokens.
    """
    task_D = check_tasks(task_D, len(tokens_D), num_tasks)
    tokens_K = np.bincount(task_D, weights=np.asarray(tokens_D), minlength=num_tasks)
    if not (tokens_K > 0).all():
        raise ValueError("every task needs at least one token")
    member_DK = task_D[:, None] == np.arange(num_tasks)
    means: FloatArray = np.asarray(loss_MD, dtype=np.float64) @ member_DK / tokens_K
    return means


def mean_interval(
    value_D: FloatArray, tokens_D: npt.NDArray[Any], *, resamples: int, seed: int
) -> tuple[float, float]:
    """95 % interval (low, high) of sum(value) / sum(tokens), documents resampled.

    NaN where fewer than two documents have tokens: drawn anew they are always the same, and an interval of no
    width would look exact.
    """
    if (np.asarray(tokens_D) > 0).sum() < 2:
        return float("nan"), float("nan")
    weight_BD = _document_weights(len(value_D), resamples, np.random.default_rng(seed))
    tokens_B = weight_BD @ np.asarray(tokens_D, dtype=np.float64)
    has_tokens = tokens_B > 0
    low, high = np.quantile((weight_BD @ value_D)[has_tokens] / tokens_B[has_tokens], [0.025, 0.975])
    return float(low), float(high)


def permutation_p(observed: float, draws: npt.ArrayLike) -> float:
    """One-sided p-value of a permutation test: (1 + draws that reach `observed`) / (draws + 1)."""
    null = np.asarray(draws, dtype=np.float64)
    tie = 1e-9 * max(1.0, abs(observed))
    return (1 + int((null >= observed - tie).sum())) / (null.size + 1)


def union_growth(
    needed_NF: Csr, group_N: AnyIntArray, sizes: Sequence[int], *, draws: int, seed: int
) -> FloatArray:
    """Mean share of the F neurons that B tokens of one group need together, for every B in `sizes`.

    `needed_NF`: non-zero where a token needs a neuron. A batch is drawn without replacement from a group
    chosen by its number of tokens; groups of fewer than B tokens have none. NaN where no group has B tokens.
    """
    group_N = np.asarray(group_N)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(group_N == group) for group in np.unique(group_N)]
    share_B = np.full(len(sizes), np.nan)
    for place, size in enumerate(sizes):
        fitting = [tokens for tokens in members if tokens.size >= size]
        if not fitting:
            continue
        weight = np.array([tokens.size for tokens in fitting], dtype=np.float64)
        total = 0
        for choice in rng.choice(len(fitting), size=draws, p=weight / weight.sum()):
            batch = rng.choice(fitting[choice], size=size, replace=False)
            total += np.unique(needed_NF[batch].indices).size
        share_B[place] = total / draws / needed_NF.shape[1]
    return share_B


def independent_union(rate_F: FloatArray, sizes: Sequence[int]) -> FloatArray:
    """Mean over neurons of 1 - (1 - rate)^B: what tokens drawn independently of each other need together."""
    return np.array([(1.0 - (1.0 - np.asarray(rate_F)) ** size).mean() for size in sizes])


def _document_weights(documents: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    if resamples < 1 or documents < 1:
        raise ValueError("at least one document and one resample are needed")
    return document_weights(np.zeros(documents, dtype=np.int64), resamples, rng)
