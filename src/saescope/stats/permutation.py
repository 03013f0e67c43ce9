"""Null of the specialization index: task labels permuted over documents."""

from dataclasses import dataclass

import numpy as np

from .arrays import AnyIntArray, Csr, FloatArray, IntArray
from .document_product import DocumentProduct, chunk_of
from .specialization import check_tasks, specialization, task_counts

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

    product = DocumentProduct(doc_counts_DF)
    rng = np.random.default_rng(seed)
    num_latents = counts_FK.shape[0]
    sum_F = np.zeros(num_latents)
    reached_F = np.zeros(num_latents, dtype=np.int64)
    draw_counts = np.zeros(edges.size - 1, dtype=np.int64)
    chunk = chunk_of(num_latents, num_tasks, permutations)
    for start in range(0, permutations, chunk):
        draws = min(chunk, permutations - start)
        label_PD = rng.permuted(np.tile(task_D, (draws, 1)), axis=1)
        member_DKP = label_PD.T[:, None, :] == np.arange(num_tasks)[None, :, None]
        tokens_KP = np.einsum("d,dkp->kp", tokens_D.astype(np.float64), member_DKP)
        # the last task is what the others leave, so it needs no product of its own
        most = product(member_DKP[:, :-1].reshape(len(task_D), -1)).reshape(num_latents, num_tasks - 1, draws)
        counts_FKP = np.empty((num_latents, num_tasks, draws))
        counts_FKP[:, :-1] = most
        counts_FKP[:, -1] = total_F[:, None] - counts_FKP[:, :-1].sum(axis=1)
        si_PF = specialization(counts_FKP.transpose(2, 0, 1), tokens_KP.T)
        sum_F += si_PF.sum(axis=0)
        reached_F += (si_PF >= observed_F - TIE).sum(axis=0)
        draw_counts += np.histogram(si_PF[np.isfinite(si_PF)], bins=edges)[0]
    p_F = np.where(total_F > 0, (1.0 + reached_F) / (permutations + 1.0), np.nan)
    return PermutationNull(sum_F / permutations, p_F, draw_counts, edges)
