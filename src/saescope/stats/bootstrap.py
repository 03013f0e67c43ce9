"""Confidence intervals of averages of the specialization index: documents resampled within task."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.document_product import DocumentProduct, draw_slices, for_each_slice, latent_blocks
from saescope.stats.progress import Progress, no_progress
from saescope.stats.resampling import drawn_documents
from saescope.stats.specialization import check_tasks, document_dispersion, specialization, task_counts

LARGEST_WEIGHT = 64.0
"""Copies of one document in a resample, at most: beyond any draw of a thousand resamples."""


class Intervals(NamedTuple):
    """(low, high) of two averages of the index, and the resamples behind them."""

    mean: tuple[float, float]
    """Of the plain mean over the latents scored."""
    mutual_info: tuple[float, float]
    """Of the mean over all latents by their rates."""
    mean_B: FloatArray
    """The plain mean in every resample: subtracted from that of another job, a paired difference."""
    mutual_info_B: FloatArray
    """The mean by rates in every resample."""


def bootstrap_si(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    resamples: int,
    seed: int,
    scored_F: BoolArray | None = None,
    level: float = 0.95,
    progress: Progress = no_progress,
) -> Intervals:
    """Intervals of the averages of the index over the given latents (columns), from document resampling.

    Documents are drawn with replacement within their task (multinomial weights); the dispersion of each
    latent stays that of the data. Resampling itself adds small-sample bias to the index, because every draw
    has fewer distinct documents than the data, so the draws are recentred: interval = estimate + quantiles of
    (draw - mean draw). Clipped to [0, 1]. The draws depend on the documents and `seed` alone. `scored_F`: the
    latents of the plain mean; None: all that fired.

    Raises ValueError for no scored latent that fired, no resamples, or a task without documents.
    """
    if resamples < 1:
        raise ValueError("resamples must be at least 1")
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    tokens_D = np.asarray(tokens_D, dtype=np.int64)
    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks)
    scored_F = counts_FK.sum(axis=1) > 0 if scored_F is None else scored_F
    if not (counts_FK[scored_F].sum(axis=1) > 0).any():
        raise ValueError("no latent fired")
    tokens_K = np.bincount(task_D, weights=tokens_D, minlength=num_tasks)
    dispersion_FK = document_dispersion(doc_counts_DF, tokens_D, task_D, num_tasks)
    si_F = specialization(counts_FK, tokens_K, dispersion_FK)
    rate_F = (counts_FK / tokens_K).sum(axis=1)
    mean = float(np.nanmean(si_F[scored_F]))
    mutual_info = float(np.average(np.nan_to_num(si_F), weights=rate_F))

    docs_of_task = [np.flatnonzero((task_D == task) & (tokens_D > 0)) for task in range(num_tasks)]
    weight_BD, tokens_BK = drawn_documents(docs_of_task, tokens_D, resamples, seed)
    sum_B, alive_B = np.zeros(resamples), np.zeros(resamples, dtype=np.int64)
    weighted_B, rate_B = np.zeros(resamples), np.zeros(resamples)
    scored = 0
    progress("bootstraps", 0, resamples)
    for latents, columns in latent_blocks(doc_counts_DF):
        drawn = _resampled_si(columns, docs_of_task, weight_BD, tokens_BK, dispersion_FK[latents])
        for draws, (si_BF, rate_BF) in drawn:
            # a latent that lost all its documents in one draw drops out of that draw only
            alive = rate_BF > 0
            sum_B[draws] += np.where(alive, si_BF, 0.0)[:, scored_F[latents]].sum(axis=1)
            alive_B[draws] += alive[:, scored_F[latents]].sum(axis=1)
            weighted_B[draws] += np.where(alive, rate_BF * si_BF, 0.0).sum(axis=1)
            rate_B[draws] += rate_BF.sum(axis=1)
            scored += si_BF.size
            progress("bootstraps", scored // counts_FK.shape[0], resamples)
    mean_B, mutual_info_B = sum_B / np.maximum(1, alive_B), weighted_B / np.where(rate_B > 0, rate_B, 1.0)
    return Intervals(
        _recentred(mean, mean_B, level), _recentred(mutual_info, mutual_info_B, level), mean_B, mutual_info_B
    )


def _recentred(estimate: float, means: FloatArray, level: float) -> tuple[float, float]:
    tail = (1.0 - level) / 2.0
    low, high = estimate + np.quantile(means - means.mean(), [tail, 1.0 - tail])
    return float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0))


def _resampled_si(
    doc_counts_DF: Csr,
    docs_of_task: list[IntArray],
    weight_BD: npt.NDArray[np.int16],
    tokens_BK: FloatArray,
    dispersion_FK: FloatArray,
) -> Iterator[tuple[slice, FloatArray]]:
    """Pairs of a slice of the resamples and (index, summed rate) of a block of latents in them, [2, B, F]."""
    resamples, num_tasks = tokens_BK.shape
    num_latents = doc_counts_DF.shape[1]
    products = [DocumentProduct(doc_counts_DF[docs], LARGEST_WEIGHT) for docs in docs_of_task]

    def si_of(draws: slice) -> FloatArray:
        counts_FKB = np.empty((num_latents, num_tasks, draws.stop - draws.start))
        for task, docs in enumerate(docs_of_task):
            counts_FKB[:, task] = products[task](weight_BD[draws, docs].T)
        counts_BFK = counts_FKB.transpose(2, 0, 1)
        rate_BF = np.einsum("bfk,bk->bf", counts_BFK, 1.0 / tokens_BK[draws])
        return np.stack([specialization(counts_BFK, tokens_BK[draws], dispersion_FK), rate_BF])

    slices = draw_slices(num_latents, num_tasks, resamples, share=4)
    return zip(slices, for_each_slice(si_of, slices), strict=True)
