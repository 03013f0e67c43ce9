"""All specialization numbers of one run: the index of every latent, its nulls, and the si/ metrics."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.bootstrap import bootstrap_mean_si
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.permutation import SI_EDGES, PermutationNull, permutation_null
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import check_tasks, naive_specialization, specialization, task_counts

KEYS = (
    "mean", "median", "weighted", "null_mean", "excess", "ci_low", "ci_high", "significant_frac",
    "naive_mean",
)  # fmt: skip


@dataclass(frozen=True)
class SpecializationSettings:
    """How the null and the interval of the index are drawn."""

    permutations: int = 1000
    """Permutations of the task labels; 0 skips the null (its metrics become None)."""
    bootstraps: int = 1000
    """Document resamples for the interval of the mean; 0 skips it."""
    fdr: float = 0.05
    """False discovery rate of si/significant_frac."""
    seed: int = 0


@dataclass(frozen=True)
class SpecializationSummary:
    """Arrays over all latents F; `si_null` to `si_q` are NaN for a latent without support."""

    counts_FK: IntArray
    """Firings of every latent on every task."""
    rates_FK: FloatArray
    """The same per token of the task."""
    si: FloatArray
    si_naive: FloatArray
    si_null: FloatArray
    """Mean index under permuted task labels."""
    si_excess: FloatArray
    """`si - si_null`."""
    si_p: FloatArray
    si_q: FloatArray
    """`si_p`, Benjamini-Hochberg adjusted."""
    top_task: IntArray
    """Task with the highest rate, -1 for a latent that never fired."""
    null_draw_counts: IntArray
    """Histogram of all null draws over `permutation.SI_EDGES`, for a plot beside that of `si`."""
    metrics: dict[str, float | None]
    notes: dict[str, str]
    """Why a metric is None."""


def summarise_specialization(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    settings: SpecializationSettings | None = None,
    progress: Progress = no_progress,
) -> SpecializationSummary:
    """The index of every latent; null and interval for the supported ones, which fire often enough.

    `doc_counts_DF`: firings of latent f in document d; `tokens_D`, `task_D`: tokens and task of each
    document. With a single task every si/ metric is None.
    Raises ValueError for a task without tokens.
    """
    settings = SpecializationSettings() if settings is None else settings
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    supported_F = np.asarray(supported_F, dtype=np.bool_)
    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks)
    tokens_K = np.bincount(task_D, weights=np.asarray(tokens_D, dtype=np.float64), minlength=num_tasks)
    rates_FK = counts_FK / np.maximum(tokens_K, 1.0)
    single_task = num_tasks < 2
    if single_task:  # nothing to compare: the other statistics of the run should still come out
        si = si_naive = np.full(counts_FK.shape[0], np.nan)
    else:
        si, si_naive = specialization(counts_FK, tokens_K), naive_specialization(counts_FK)
    fired_F = counts_FK.sum(axis=1)
    top_task = np.where(fired_F > 0, rates_FK.argmax(axis=1), -1).astype(np.int64)

    scored = np.flatnonzero(supported_F & (fired_F > 0))
    null, interval = None, None
    if scored.size and not single_task:
        documents = doc_counts_DF[:, scored], tokens_D, task_D, num_tasks
        if settings.permutations > 0:
            null = permutation_null(
                *documents, permutations=settings.permutations, seed=settings.seed, progress=progress
            )
        if settings.bootstraps > 0:
            interval = bootstrap_mean_si(
                *documents, resamples=settings.bootstraps, seed=settings.seed + 1, progress=progress
            )
    si_null, si_p, si_q = (np.full(si.shape, np.nan) for _ in range(3))
    if null is not None:
        si_null[scored], si_p[scored] = null.mean_F, null.p_F
        si_q[scored] = benjamini_hochberg(null.p_F)

    metrics: dict[str, float | None] = {f"si/{key}": None for key in KEYS}
    if (fired_F > 0).any() and not single_task:
        metrics["si/naive_mean"] = float(np.nanmean(si_naive))
    if scored.size and not single_task:
        metrics |= _score_metrics(si[scored], fired_F[scored])
    if null is not None:
        metrics |= _null_metrics(si[scored], null, si_q[scored], settings.fdr)
    if interval is not None:
        metrics["si/ci_low"], metrics["si/ci_high"] = interval
    return SpecializationSummary(
        counts_FK,
        rates_FK,
        si,
        si_naive,
        si_null,
        si - si_null,
        si_p,
        si_q,
        top_task,
        np.zeros(SI_EDGES.size - 1, dtype=np.int64) if null is None else null.draw_counts,
        metrics,
        _notes(metrics, single_task, scored.size > 0),
    )


def _score_metrics(si_S: FloatArray, fired_S: IntArray) -> dict[str, float | None]:
    """Averages of the index over the supported latents, and weighted by their firings."""
    return {
        "si/mean": float(si_S.mean()),
        "si/median": float(np.median(si_S)),
        "si/weighted": float(np.average(si_S, weights=fired_S)),
    }


def _null_metrics(
    si_S: FloatArray, null: PermutationNull, q_S: FloatArray, fdr: float
) -> dict[str, float | None]:
    """The index of the supported latents against their permutations."""
    return {
        "si/null_mean": float(null.mean_F.mean()),
        "si/excess": float((si_S - null.mean_F).mean()),
        "si/significant_frac": float((q_S <= fdr).mean()),
    }


def _notes(metrics: dict[str, float | None], single_task: bool, any_supported: bool) -> dict[str, str]:
    """Why each of the metrics that are None is None."""
    reason = "a single task" if single_task else "switched off" if any_supported else "no supported latent"
    notes = {key: reason for key, value in metrics.items() if value is None}
    if "si/naive_mean" in notes and not single_task:
        notes["si/naive_mean"] = "no latent fired"
    return notes
