"""Confidence interval of the mean specialization index: documents resampled within task."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.document_product import DocumentProduct, draw_slices, for_each_slice, latent_blocks
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import check_tasks, specialization, task_counts

LARGEST_WEIGHT = 64.0
"""Copies of one document in a resample, at most: beyond any draw of a thousand resamples."""


def bootstrap_mean_si(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
    progress: Progress = no_progress,
) -> tuple[float, float]:
    """Interval (low, high) of the mean index over the given latents (columns), from document resampling.

    Documents are drawn with replacement within their task (multinomial weights). Resampling itself adds
    small-sample bias to the index, because every draw has fewer distinct documents than the data, so the
    draws are recentred: interval = estimate + quantiles of (draw - mean draw). Clipped to [0, 1].

    Raises ValueError for no latent that fired, no resamples, or a task without documents.
    """
    if resamples < 1:
        raise ValueError("resamples must be at least 1")
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    tokens_D = np.asarray(tokens_D, dtype=np.int64)
    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks)
    if not (counts_FK.sum(axis=1) > 0).any():
        raise ValueError("no latent fired")
    tokens_K = np.bincount(task_D, weights=tokens_D, minlength=num_tasks)
    estimate = float(np.nanmean(specialization(counts_FK, tokens_K)))

    docs_of_task = [np.flatnonzero((task_D == task) & (tokens_D > 0)) for task in range(num_tasks)]
    weight_BD, tokens_BK = _drawn_documents(docs_of_task, tokens_D, counts_FK.shape[0], resamples, seed)
    sum_B, alive_B = np.zeros(resamples), np.zeros(resamples, dtype=np.int64)
    scored = 0
    progress("bootstraps", 0, resamples)
    for _, columns in latent_blocks(doc_counts_DF):
        for draws, si_BF in _resampled_si(columns, docs_of_task, weight_BD, tokens_BK):
            # a latent that lost all its documents in one draw drops out of that draw only
            alive = np.isfinite(si_BF)
            sum_B[draws] += np.where(alive, si_BF, 0.0).sum(axis=1)
            alive_B[draws] += alive.sum(axis=1)
            scored += si_BF.size
            progress("bootstraps", scored // counts_FK.shape[0], resamples)
    means = sum_B / np.maximum(1, alive_B)
    tail = (1.0 - level) / 2.0
    low, high = estimate + np.quantile(means - means.mean(), [tail, 1.0 - tail])
    return float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0))


def _drawn_documents(
    docs_of_task: list[IntArray], tokens_D: AnyIntArray, num_latents: int, resamples: int, seed: int
) -> tuple[npt.NDArray[np.int16], FloatArray]:
    """How often every document is drawn [B, D], and the tokens that each task then has [B, K]."""
    rng = np.random.default_rng(seed)
    num_tasks = len(docs_of_task)
    weight_BD = np.zeros((resamples, tokens_D.size), dtype=np.int16)
    tokens_BK = np.empty((resamples, num_tasks))
    # the order of the random numbers: slice after slice of the resamples, within it task after task
    for draws in draw_slices(num_latents, num_tasks, resamples):
        for task, docs in enumerate(docs_of_task):
            drawn_BD = rng.multinomial(
                docs.size, np.full(docs.size, 1.0 / docs.size), size=draws.stop - draws.start
            )
            weight_BD[draws, docs] = drawn_BD
            tokens_BK[draws, task] = drawn_BD @ tokens_D[docs]
    return weight_BD, tokens_BK


def _resampled_si(
    doc_counts_DF: Csr,
    docs_of_task: list[IntArray],
    weight_BD: npt.NDArray[np.int16],
    tokens_BK: FloatArray,
) -> Iterator[tuple[slice, FloatArray]]:
    """Pairs of a slice of the resamples and the index of a block of latents in them, [B, F]."""
    resamples, num_tasks = tokens_BK.shape
    num_latents = doc_counts_DF.shape[1]
    products = [DocumentProduct(doc_counts_DF[docs], LARGEST_WEIGHT) for docs in docs_of_task]

    def si_of(draws: slice) -> FloatArray:
        counts_FKB = np.empty((num_latents, num_tasks, draws.stop - draws.start))
        for task, docs in enumerate(docs_of_task):
            counts_FKB[:, task] = products[task](weight_BD[draws, docs].T)
        return specialization(counts_FKB.transpose(2, 0, 1), tokens_BK[draws])

    slices = draw_slices(num_latents, num_tasks, resamples, share=4)
    return zip(slices, for_each_slice(si_of, slices), strict=True)
