"""All specialization numbers of one run: per latent, and the si/ metrics."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.bootstrap import bootstrap_mean_si
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.permutation import permutation_null
from saescope.stats.specialization import check_tasks, naive_specialization, specialization, task_counts


@dataclass(frozen=True)
class SpecializationSummary:
    """Arrays over all latents F; ``si_null`` to ``si_q`` are NaN for a latent without support."""

    counts_FK: IntArray
    rates_FK: FloatArray
    si: FloatArray
    si_naive: FloatArray
    si_null: FloatArray
    si_excess: FloatArray
    si_p: FloatArray
    si_q: FloatArray
    top_task: IntArray
    """Task with the highest rate, -1 for a latent that never fired."""
    null_draw_counts: IntArray
    """Histogram of all null draws over ``hist_edges``, for a plot beside that of ``si``."""
    hist_edges: FloatArray
    metrics: dict[str, float | None]
    notes: dict[str, str]
    """Why a metric is None."""


def summarise_specialization(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    *,
    permutations: int = 1000,
    bootstraps: int = 1000,
    fdr: float = 0.05,
    seed: int = 0,
    hist_edges: FloatArray | None = None,
) -> SpecializationSummary:
    """Index, document-permutation null and bootstrap interval; only supported latents meet the nulls.

    ``fdr`` is the level of si/significant_frac. ``permutations`` or ``bootstraps`` of 0 skips that part (its
    keys become None); with a single task every si/ key is None.
    Raises ValueError for a task without tokens.
    """
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    supported_F = np.asarray(supported_F, dtype=np.bool_)
    edges = np.linspace(0.0, 1.0, 51) if hist_edges is None else np.asarray(hist_edges, dtype=np.float64)
    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks)
    tokens_K = np.bincount(task_D, weights=np.asarray(tokens_D, dtype=np.float64), minlength=num_tasks)
    rates_FK = counts_FK / np.maximum(tokens_K, 1.0)
    one_task = num_tasks < 2
    if one_task:  # nothing to compare: the other statistics of the run should still come out
        si = si_naive = np.full(counts_FK.shape[0], np.nan)
    else:
        si, si_naive = specialization(counts_FK, tokens_K), naive_specialization(counts_FK)
    fired_F = counts_FK.sum(axis=1)
    top_task = np.where(fired_F > 0, rates_FK.argmax(axis=1), -1).astype(np.int64)
    si_null, si_p, si_q = (np.full(si.shape, np.nan) for _ in range(3))
    draw_counts = np.zeros(edges.size - 1, dtype=np.int64)

    keys = [
        "mean",
        "median",
        "weighted",
        "null_mean",
        "excess",
        "ci_low",
        "ci_high",
        "significant_frac",
        "naive_mean",
    ]
    metrics: dict[str, float | None] = {f"si/{key}": None for key in keys}
    notes: dict[str, str] = {}
    if (fired_F > 0).any() and not one_task:
        metrics["si/naive_mean"] = float(np.nanmean(si_naive))
    else:
        notes["si/naive_mean"] = "a single task" if one_task else "no latent fired"

    chosen = np.flatnonzero(supported_F & (fired_F > 0))
    if chosen.size and not one_task:
        columns = doc_counts_DF[:, chosen]
        metrics["si/mean"] = float(si[chosen].mean())
        metrics["si/median"] = float(np.median(si[chosen]))
        metrics["si/weighted"] = float(np.average(si[chosen], weights=fired_F[chosen]))
        if permutations > 0:
            null = permutation_null(
                columns, tokens_D, task_D, num_tasks, permutations=permutations, seed=seed, edges=edges
            )
            si_null[chosen], si_p[chosen] = null.mean_F, null.p_F
            si_q[chosen] = benjamini_hochberg(null.p_F)
            draw_counts = null.draw_counts
            metrics["si/null_mean"] = float(null.mean_F.mean())
            metrics["si/excess"] = float((si[chosen] - null.mean_F).mean())
            metrics["si/significant_frac"] = float((si_q[chosen] <= fdr).mean())
        if bootstraps > 0:
            low, high = bootstrap_mean_si(
                columns, tokens_D, task_D, num_tasks, resamples=bootstraps, seed=seed + 1
            )
            metrics["si/ci_low"], metrics["si/ci_high"] = low, high
    for key, value in metrics.items():
        if value is None and key not in notes:
            notes[key] = (
                "a single task" if one_task else "no supported latent" if not chosen.size else "switched off"
            )
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
        draw_counts,
        edges,
        metrics,
        notes,
    )
