"""Null of the specialization index: task labels permuted over documents."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.document_product import DocumentProduct, draw_slices, for_each_slice, latent_blocks
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import check_tasks, specialization, task_counts

SI_EDGES: FloatArray = np.linspace(0.0, 1.0, 51)
"""Bins of the index shared by every run, so that histograms of different runs lie on one axis."""
TIE = 1e-12
"""A null draw this little below the observed value counts as reaching it (rounding)."""


@dataclass(frozen=True)
class PermutationNull:
    """The index of each latent under permuted task labels, against the observed index."""

    mean_F: FloatArray
    """Mean index over permutations; NaN for a latent that never fired."""
    p_F: FloatArray
    """(1 + draws reaching the observed index) / (permutations + 1); NaN for a latent that never fired."""
    draw_counts: IntArray
    """Histogram of all draws of all latents over `SI_EDGES`."""


def permutation_null(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    permutations: int,
    seed: int,
    progress: Progress = no_progress,
) -> PermutationNull:
    """The index of every latent with task labels permuted over documents, `permutations` times.

    Labels move with whole documents, because firings come in bursts within a document; shuffling tokens
    rejects almost every bursty latent. The number of documents of a task stays, its number
    of tokens is recomputed. Documents without tokens are left out.

    Raises ValueError for fewer than one permutation, fewer than two tasks, or a task without tokens.
    """
    if permutations < 1:
        raise ValueError("permutations must be at least 1")
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    tokens_D = np.asarray(tokens_D, dtype=np.int64)
    with_tokens = np.flatnonzero(tokens_D > 0)
    if with_tokens.size < tokens_D.size:
        doc_counts_DF, tokens_D, task_D = (
            doc_counts_DF[with_tokens],
            tokens_D[with_tokens],
            task_D[with_tokens],
        )
    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks)
    tokens_K = np.bincount(task_D, weights=tokens_D, minlength=num_tasks)
    observed_F = specialization(counts_FK, tokens_K)
    total_F = counts_FK.sum(axis=1)
    label_PD = _permuted_labels(task_D, num_tasks, permutations, seed)
    tokens_PK = np.stack([(label_PD == task) @ tokens_D for task in range(num_tasks)], axis=1)

    sum_F = np.zeros(total_F.size)
    reached_F = np.zeros(total_F.size, dtype=np.int64)
    draw_counts = np.zeros(SI_EDGES.size - 1, dtype=np.int64)
    scored = 0
    progress("permutations", 0, permutations)
    for latents, columns in latent_blocks(doc_counts_DF):
        observed = observed_F[latents]
        for si_PF in _permuted_si(columns, total_F[latents], label_PD, tokens_PK):
            sum_F[latents] += si_PF.sum(axis=0)
            reached_F[latents] += (si_PF >= observed - TIE).sum(axis=0)
            draw_counts += np.histogram(si_PF[np.isfinite(si_PF)], bins=SI_EDGES)[0]
            scored += si_PF.size
            progress("permutations", scored // total_F.size, permutations)
    p_F = np.where(total_F > 0, (1.0 + reached_F) / (permutations + 1.0), np.nan)
    return PermutationNull(sum_F / permutations, p_F, draw_counts)


def _permuted_labels(task_D: IntArray, num_tasks: int, permutations: int, seed: int) -> AnyIntArray:
    """Task of every document under every permutation, [P, D], in the smallest integer type that fits."""
    rng = np.random.default_rng(seed)
    label_PD = np.empty((permutations, task_D.size), dtype=np.min_scalar_type(num_tasks))
    for draw in range(permutations):
        label_PD[draw] = rng.permuted(task_D)
    return label_PD


def _permuted_si(
    doc_counts_DF: Csr, total_F: IntArray, label_PD: AnyIntArray, tokens_PK: AnyIntArray
) -> Iterator[FloatArray]:
    """The index of a block of latents under the permutations, a few permutations [P, F] at a time."""
    permutations, num_tasks = tokens_PK.shape
    product = DocumentProduct(doc_counts_DF)

    def si_of(draws: slice) -> FloatArray:
        counts_FKP = np.empty((total_F.size, num_tasks, draws.stop - draws.start))
        # the last task has the firings that the others leave, so it needs no product of its own
        counts_FKP[:, :-1] = product.by_task(label_PD[draws].T, num_tasks)
        counts_FKP[:, -1] = total_F[:, None] - counts_FKP[:, :-1].sum(axis=1)
        return specialization(counts_FKP.transpose(2, 0, 1), tokens_PK[draws])

    return for_each_slice(si_of, draw_slices(total_F.size, num_tasks, permutations, share=4))
