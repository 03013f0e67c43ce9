"""Confidence interval of the mean specialization index: documents resampled within task."""

import numpy as np

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray
from saescope.stats.document_product import DocumentProduct, chunk_of, latent_blocks
from saescope.stats.specialization import check_tasks, specialization, task_counts
from saescope.stats.threads import in_threads, num_threads


def bootstrap_mean_si(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
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
    fired = counts_FK.sum(axis=1) > 0
    if not fired.any():
        raise ValueError("no latent fired")
    tokens_K = np.bincount(task_D, weights=tokens_D, minlength=num_tasks)
    estimate = float(np.nanmean(specialization(counts_FK, tokens_K)))

    rng = np.random.default_rng(seed)
    docs_of = [np.flatnonzero((task_D == task) & (tokens_D > 0)) for task in range(num_tasks)]
    num_latents = counts_FK.shape[0]
    # drawn a chunk of resamples at a time, task after task; a document is drawn at most a handful of times
    weights_BD = np.zeros((resamples, task_D.size), dtype=np.int16)
    tokens_BK = np.empty((resamples, num_tasks))
    chunk = chunk_of(num_latents, num_tasks, resamples)
    for start in range(0, resamples, chunk):
        draws = slice(start, min(start + chunk, resamples))
        for task, docs in enumerate(docs_of):
            drawn_BD = rng.multinomial(
                docs.size, np.full(docs.size, 1.0 / docs.size), size=draws.stop - start
            )
            weights_BD[draws, docs] = drawn_BD
            tokens_BK[draws, task] = drawn_BD @ tokens_D[docs]

    sum_B, alive_B = np.zeros(resamples), np.zeros(resamples, dtype=np.int64)
    for latents, columns in latent_blocks(doc_counts_DF):
        # 64 copies of one document is beyond any draw of a thousand resamples
        products = [DocumentProduct(columns[docs], largest_weight=64.0) for docs in docs_of]
        chunk = chunk_of(latents.size, num_tasks, resamples, share=4)

        def index(
            draws: slice, products: list[DocumentProduct] = products, size: int = latents.size
        ) -> FloatArray:
            counts_FKB = np.empty((size, num_tasks, draws.stop - draws.start))
            for task, docs in enumerate(docs_of):
                counts_FKB[:, task] = products[task](weights_BD[draws, docs].T)
            return specialization(counts_FKB.transpose(2, 0, 1), tokens_BK[draws])

        for start in range(0, resamples, chunk * num_threads()):
            stop = min(start + chunk * num_threads(), resamples)
            pieces = [slice(at, min(at + chunk, stop)) for at in range(start, stop, chunk)]
            for draws, si_BF in zip(pieces, in_threads(index, pieces), strict=True):
                # a latent that lost all its documents in one draw drops out of that draw only
                alive = np.isfinite(si_BF)
                sum_B[draws] += np.where(alive, si_BF, 0.0).sum(axis=1)
                alive_B[draws] += alive.sum(axis=1)
    means = sum_B / np.maximum(1, alive_B)
    tail = (1.0 - level) / 2.0
    low, high = estimate + np.quantile(means - means.mean(), [tail, 1.0 - tail])
    return float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0))
