"""Null of the specialization index: task labels permuted over documents."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.document_product import DocumentProduct, chunk_of, latent_blocks
from saescope.stats.specialization import check_tasks, specialization, task_counts
from saescope.stats.threads import in_threads, num_threads

TIE = 1e-12
"""A null draw this little below the observed value counts as reaching it (rounding)."""


@dataclass(frozen=True)
class PermutationNull:
    """What the permutations say about each latent."""

    mean_F: FloatArray
    """Mean index over permutations; NaN for a latent that never fired."""
    p_F: FloatArray
    """(1 + draws reaching the observed index) / (permutations + 1); NaN for a latent that never fired."""
    draw_counts: IntArray
    """Histogram of all draws of all latents over ``edges``."""
    edges: FloatArray
    """Bin edges of ``draw_counts``."""


def permutation_null(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    permutations: int,
    seed: int,
    edges: FloatArray | None = None,
) -> PermutationNull:
    """Recompute ``specialization`` with task labels permuted over documents.

    Labels move with whole documents, because firings come in bursts within a document; shuffling tokens
    rejects almost every bursty latent. The number of documents of a task stays, its number
    of tokens is recomputed. Documents without tokens are left out.

    Raises ValueError for fewer than one permutation, fewer than two tasks, or a task without tokens.
    """
    if permutations < 1:
        raise ValueError("permutations must be at least 1")
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    tokens_D = np.asarray(tokens_D, dtype=np.int64)
    kept = np.flatnonzero(tokens_D > 0)
    if kept.size < tokens_D.size:
        doc_counts_DF, tokens_D, task_D = doc_counts_DF[kept], tokens_D[kept], task_D[kept]
    edges = np.linspace(0.0, 1.0, 51) if edges is None else np.asarray(edges, dtype=np.float64)

    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks)
    tokens_K = np.bincount(task_D, weights=tokens_D, minlength=num_tasks)
    observed_F = specialization(counts_FK, tokens_K)
    total_F = counts_FK.sum(axis=1)

    rng = np.random.default_rng(seed)
    label_PD = np.empty((permutations, task_D.size), dtype=np.min_scalar_type(num_tasks))
    for draw in range(permutations):
        label_PD[draw] = rng.permuted(task_D)
    tokens_PK = np.stack([(label_PD == task) @ tokens_D for task in range(num_tasks)], axis=1)

    num_latents = counts_FK.shape[0]
    sum_F = np.zeros(num_latents)
    reached_F = np.zeros(num_latents, dtype=np.int64)
    draw_counts = np.zeros(edges.size - 1, dtype=np.int64)
    for latents, columns in latent_blocks(doc_counts_DF):
        product, total, observed = DocumentProduct(columns), total_F[latents], observed_F[latents]
        chunk = chunk_of(latents.size, num_tasks, permutations, share=4)

        def index(draws: slice, product: DocumentProduct = product, total: IntArray = total) -> FloatArray:
            counts_FKP = np.empty((total.size, num_tasks, draws.stop - draws.start))
            # the last task is what the others leave, so it needs no product of its own
            counts_FKP[:, :-1] = product.by_task(label_PD[draws].T, num_tasks)
            counts_FKP[:, -1] = total[:, None] - counts_FKP[:, :-1].sum(axis=1)
            return specialization(counts_FKP.transpose(2, 0, 1), tokens_PK[draws])

        for start in range(0, permutations, chunk * num_threads()):
            stop = min(start + chunk * num_threads(), permutations)
            pieces = [slice(at, min(at + chunk, stop)) for at in range(start, stop, chunk)]
            for si_PF in in_threads(index, pieces):
                sum_F[latents] += si_PF.sum(axis=0)
                reached_F[latents] += (si_PF >= observed - TIE).sum(axis=0)
                draw_counts += np.histogram(si_PF[np.isfinite(si_PF)], bins=edges)[0]
    p_F = np.where(total_F > 0, (1.0 + reached_F) / (permutations + 1.0), np.nan)
    return PermutationNull(sum_F / permutations, p_F, draw_counts, edges)
