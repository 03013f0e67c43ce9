"""The test of a latent's specialization: does its index exceed that of permuted task labels?"""

import numpy as np

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.document_product import DocumentProduct, draw_slices, for_each_slice, latent_blocks
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.permutation import counts_by_task, documents_with_tokens, permuted_labels, sums_by_task
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import specialization, task_counts

TIE = 1e-12
"""A null draw this little below the observed value counts as reaching it (rounding)."""
MOST_PERMUTATIONS = 20_000
"""Permutations of a latent at most: with a tenth of a percent of the latents at the floor of p, all of them
are significant by then."""
STAGE = 2000
"""Permutations drawn on in one go."""


def permutation_p(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    permutations: int,
    seed: int,
    fdr: float | None = None,
    progress: Progress = no_progress,
) -> FloatArray:
    """p of every latent, (1 + draws reaching the observed index) / (draws + 1); NaN where it never fired.

    Task labels move with whole documents (`permutation_null`), which keeps bursts; the index compared is
    the one for independent firings, so that draws need no variance of their own.

    No p is below 1/(permutations + 1). Where a few latents stand at that floor, Benjamini-Hochberg calls none
    of them significant however strong they are; with `fdr`, latents with p <= fdr are drawn on until those at
    the floor are significant, none is left there, or `MOST_PERMUTATIONS` are done. Their p stays valid: a
    latent that is drawn on has p <= fdr already, and its p counts all of its draws.

    Raises ValueError for fewer than one permutation, fewer than two tasks, or a task without tokens.
    """
    if permutations < 1:
        raise ValueError("permutations must be at least 1")
    doc_counts_DF, tokens_D, task_D = documents_with_tokens(doc_counts_DF, tokens_D, task_D, num_tasks)
    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks)
    observed_F = specialization(counts_FK, np.bincount(task_D, weights=tokens_D, minlength=num_tasks))
    fired = np.flatnonzero(counts_FK.sum(axis=1) > 0)
    rng = np.random.default_rng(seed)

    def reached(latents: IntArray, draws: int, shown: Progress) -> IntArray:
        label_PD = permuted_labels(task_D, num_tasks, draws, rng)
        tokens_PK = sums_by_task(label_PD, tokens_D, num_tasks)
        columns = doc_counts_DF if latents.size == observed_F.size else doc_counts_DF[:, latents]
        return _reached(columns, observed_F[latents], label_PD, tokens_PK, shown)

    reached_F, draws_F = np.zeros(observed_F.size, dtype=np.int64), np.full(observed_F.size, permutations)
    if fired.size:
        reached_F[fired] = reached(fired, permutations, progress)
    total = permutations
    while fdr is not None and fired.size and total < MOST_PERMUTATIONS:
        p = (1.0 + reached_F[fired]) / (draws_F[fired] + 1.0)
        floor = reached_F[fired] == 0
        if not floor.any() or benjamini_hochberg(p)[floor].min() <= fdr:
            break
        settled = min(max(int(np.ceil(fired.size / (fdr * floor.sum()))), total + 1), MOST_PERMUTATIONS)
        stage = min(settled - total, STAGE)
        small = fired[p <= fdr]
        shown = _further(progress, total - permutations, settled - permutations)
        reached_F[small] += reached(small, stage, shown)
        total += stage
        draws_F[small] = total
    p_F: FloatArray = np.full(observed_F.size, np.nan)
    p_F[fired] = (1.0 + reached_F[fired]) / (draws_F[fired] + 1.0)
    return p_F


def _reached(
    doc_counts_DF: Csr,
    observed_F: FloatArray,
    label_PD: AnyIntArray,
    tokens_PK: IntArray,
    progress: Progress,
) -> IntArray:
    """Permutations in which the index of each latent reaches the observed one."""
    permutations, num_tasks = tokens_PK.shape
    reached_F = np.zeros(observed_F.size, dtype=np.int64)
    scored = 0
    progress("permutations", 0, permutations)
    for latents, columns in latent_blocks(doc_counts_DF):
        product = DocumentProduct(columns)

        def si_of(draws: slice, product: DocumentProduct = product) -> FloatArray:
            counts_PFK = counts_by_task(product, label_PD[draws], num_tasks)
            return specialization(counts_PFK, tokens_PK[draws])

        slices = draw_slices(latents.size, num_tasks, permutations, share=4)
        for si_PF in for_each_slice(si_of, slices):
            reached_F[latents] += (si_PF >= observed_F[latents] - TIE).sum(axis=0)
            scored += si_PF.size
            progress("permutations", scored // observed_F.size, permutations)
    return reached_F


def _further(progress: Progress, before: int, total: int) -> Progress:
    """Progress of a stage of the permutations drawn on, `before` of which are done."""
    return lambda _, done, __: progress("more permutations", before + done, total)
