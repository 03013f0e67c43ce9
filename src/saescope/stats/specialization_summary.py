"""All specialization numbers of one run: the index of every latent, its nulls, and the si/ metrics."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.bootstrap import Intervals, bootstrap_si
from saescope.stats.jackknife import jackknife_si
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.permutation import SI_EDGES, PermutationNull, permutation_null
from saescope.stats.permutation_test import permutation_p
from saescope.stats.progress import Progress, no_progress
from saescope.stats.resampling import document_seed
from saescope.stats.row_blocks import some_columns
from saescope.stats.specialization import (
    check_tasks,
    document_dispersion,
    naive_specialization,
    rate_shares,
    shrunk_index,
    specialization,
    task_counts,
)

KEYS = (
    "mean", "median", "weighted", "null_mean", "excess", "ci_low", "ci_high", "significant_frac",
    "naive_mean", "mutual_info", "mutual_info_null_mean", "mutual_info_excess", "mutual_info_ci_low",
    "mutual_info_ci_high",
)  # fmt: skip
NULL_DRAWS = 100
"""Permutations behind the means by chance, at most: averages over thousands of latents need no more."""


@dataclass(frozen=True)
class SpecializationSettings:
    """How the null and the interval of the index are drawn."""

    permutations: int = 1000
    """Permutations of the task labels, more where p is too coarse at `fdr`; 0: neither null nor test."""
    bootstraps: int = 1000
    """Document resamples for the intervals of the means; 0 skips them."""
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
    """Shrunk by the scatter of the latent's firings between documents."""
    si_independent: FloatArray
    """Shrunk as if firings were independent: the index of saescope 0.1."""
    si_naive: FloatArray
    si_null: FloatArray
    """Mean index under permuted task labels."""
    si_excess: FloatArray
    """`si - si_null`."""
    si_p: FloatArray
    si_q: FloatArray
    """`si_p`, Benjamini-Hochberg adjusted."""
    shrinkage: FloatArray
    """lam of `specialization`, how far the shares are drawn to uniform; NaN for a latent that never fired."""
    top_task: IntArray
    """Task with the highest rate, -1 for a latent that never fired."""
    null_draw_counts: IntArray
    """Histogram of the null draws of supported latents over `permutation.SI_EDGES`."""
    metrics: dict[str, float | None]
    notes: dict[str, str]
    """Why a metric is None."""
    resamples: dict[str, FloatArray]
    """Metric key → its value in every resample of the documents [B]; empty where none were drawn."""


def summarise_specialization(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    settings: SpecializationSettings | None = None,
    progress: Progress = no_progress,
) -> SpecializationSummary:
    """The index of every latent; test and means for the supported ones, which fire often enough.

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
        si = si_independent = si_naive = shrinkage = np.full(counts_FK.shape[0], np.nan)
    else:
        dispersion_FK = document_dispersion(doc_counts_DF, tokens_D, task_D, num_tasks)
        fired, shares_KF, lam = rate_shares(counts_FK, tokens_K, dispersion_FK)
        shrinkage = np.where(fired > 0, lam, np.nan)
        si = np.where(fired > 0, shrunk_index(shares_KF, lam), np.nan)
        si_independent, si_naive = specialization(counts_FK, tokens_K), naive_specialization(counts_FK)
    fired_F = counts_FK.sum(axis=1)
    top_task = np.where(fired_F > 0, rates_FK.argmax(axis=1), -1).astype(np.int64)

    live, scored = (np.flatnonzero(mask & (fired_F > 0)) for mask in (fired_F > 0, supported_F))
    null, intervals = None, None
    si_null, si_p, si_q = (np.full(si.shape, np.nan) for _ in range(3))
    if live.size and not single_task:
        documents = some_columns(doc_counts_DF, live), tokens_D, task_D, num_tasks
        if settings.permutations > 0:
            null = permutation_null(
                *documents,
                permutations=min(settings.permutations, NULL_DRAWS),
                seed=settings.seed,
                histogram_F=supported_F[live],
                progress=progress,
            )
            si_null[scored] = null.mean_F[supported_F[live]]
        if settings.bootstraps > 0 and scored.size:
            intervals = bootstrap_si(
                *documents,
                resamples=settings.bootstraps,
                seed=document_seed(task_D),
                scored_F=supported_F[live],
                progress=progress,
            )
            mean, by_rate = jackknife_si(*documents, scored_F=supported_F[live])
            intervals = intervals._replace(
                mean=mean.around(intervals.mean), mutual_info=by_rate.around(intervals.mutual_info)
            )
    if scored.size and null is not None:
        si_p[scored] = permutation_p(
            some_columns(doc_counts_DF, scored),
            tokens_D,
            task_D,
            num_tasks,
            permutations=settings.permutations,
            seed=settings.seed,
            fdr=settings.fdr,
            progress=progress,
        )
        si_q[scored] = benjamini_hochberg(si_p[scored])

    metrics: dict[str, float | None] = {f"si/{key}": None for key in KEYS}
    resamples: dict[str, FloatArray] = {}
    if intervals is not None:
        resamples = {"si/mean": intervals.mean_B, "si/mutual_info": intervals.mutual_info_B}
    if live.size and not single_task:
        metrics["si/naive_mean"] = float(np.nanmean(si_naive))
        mutual_info = float(np.average(si[live], weights=rates_FK[live].sum(axis=1)))
        metrics |= _mutual_info_metrics(mutual_info, null, intervals)
    if scored.size and not single_task:
        metrics |= _score_metrics(si[scored], fired_F[scored])
        if null is not None:
            metrics |= _null_metrics(si[scored], si_null[scored], si_q[scored], settings.fdr)
        if intervals is not None:
            metrics["si/ci_low"], metrics["si/ci_high"] = intervals.mean
    return SpecializationSummary(
        counts_FK,
        rates_FK,
        si,
        si_independent,
        si_naive,
        si_null,
        si - si_null,
        si_p,
        si_q,
        shrinkage,
        top_task,
        np.zeros(SI_EDGES.size - 1, dtype=np.int64) if null is None else null.draw_counts,
        metrics,
        _notes(metrics, single_task, scored.size > 0),
        resamples,
    )


def _score_metrics(si_S: FloatArray, fired_S: IntArray) -> dict[str, float | None]:
    """Averages of the index over the supported latents, and weighted by their firings."""
    return {
        "si/mean": float(si_S.mean()),
        "si/median": float(np.median(si_S)),
        "si/weighted": float(np.average(si_S, weights=fired_S)),
    }


def _null_metrics(
    si_S: FloatArray, null_S: FloatArray, q_S: FloatArray, fdr: float
) -> dict[str, float | None]:
    """The index of the supported latents against their permutations."""
    return {
        "si/null_mean": float(null_S.mean()),
        "si/excess": float((si_S - null_S).mean()),
        "si/significant_frac": float((q_S <= fdr).mean()),
    }


def _mutual_info_metrics(
    mutual_info: float, null: PermutationNull | None, intervals: Intervals | None
) -> dict[str, float | None]:
    """The mean by rate, what chance gives for it, and its interval."""
    metrics: dict[str, float | None] = {"si/mutual_info": mutual_info}
    if null is not None:
        chance = float(null.mutual_info_P.mean())
        metrics |= {"si/mutual_info_null_mean": chance, "si/mutual_info_excess": mutual_info - chance}
    if intervals is not None:
        low, high = intervals.mutual_info
        metrics |= {"si/mutual_info_ci_low": low, "si/mutual_info_ci_high": high}
    return metrics


def _notes(metrics: dict[str, float | None], single_task: bool, any_supported: bool) -> dict[str, str]:
    """Why each of the metrics that are None is None."""
    reason = "a single task" if single_task else "switched off" if any_supported else "no supported latent"
    notes = {key: reason for key, value in metrics.items() if value is None}
    if "si/naive_mean" in notes and not single_task:
        notes |= dict.fromkeys(("si/naive_mean", "si/mutual_info"), "no latent fired")
    return notes
