"""The specialization index by chance: task labels permuted over documents."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.document_product import (
    BLOCK_LATENTS,
    DocumentProduct,
    draw_slices,
    for_each_slice,
    latent_blocks,
)
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import (
    check_tasks,
    dispersion_from_moments,
    document_moments,
    specialization,
)

SI_EDGES: FloatArray = np.linspace(0.0, 1.0, 51)
"""Bins of the index shared by every run, so that histograms of different runs lie on one axis."""


@dataclass(frozen=True)
class PermutationNull:
    """The index of each latent under permuted task labels."""

    mean_F: FloatArray
    """Mean index over permutations; NaN for a latent that never fired."""
    draw_counts: IntArray
    """Histogram of the draws of the latents asked for over `SI_EDGES`."""
    mutual_info_P: FloatArray
    """The index averaged over all latents by their rates, of each permutation; NaN when none fired."""


def permutation_null(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    permutations: int,
    seed: int,
    histogram_F: BoolArray | None = None,
    progress: Progress = no_progress,
) -> PermutationNull:
    """The index of every latent with task labels permuted over documents, `permutations` times.

    Labels move with whole documents, because firings come in bursts within a document; the number of
    documents of a task stays, its number of tokens and the dispersion of each latent are computed anew.
    Documents without tokens are left out. `histogram_F`: latents whose draws the histogram has; None: all.

    Raises ValueError for fewer than one permutation, fewer than two tasks, or a task without tokens.
    """
    if permutations < 1:
        raise ValueError("permutations must be at least 1")
    doc_counts_DF, tokens_D, task_D = documents_with_tokens(doc_counts_DF, tokens_D, task_D, num_tasks)
    num_latents = doc_counts_DF.shape[1]
    histogram_F = np.ones(num_latents, dtype=np.bool_) if histogram_F is None else histogram_F
    label_PD = permuted_labels(task_D, num_tasks, permutations, np.random.default_rng(seed))
    tokens_PK, tokens2_PK = (sums_by_task(label_PD, values, num_tasks) for values in (tokens_D, tokens_D**2))
    docs_K = np.bincount(task_D, minlength=num_tasks)

    sum_F, draw_counts = np.zeros(num_latents), np.zeros(SI_EDGES.size - 1, dtype=np.int64)
    weighted_P, rate_P = np.zeros(permutations), np.zeros(permutations)
    slices, scored = draw_slices(min(num_latents, BLOCK_LATENTS), num_tasks, permutations, share=12), 0
    progress("null draws", 0, permutations)
    for latents, columns in latent_blocks(doc_counts_DF):
        products = [DocumentProduct(moment) for moment in document_moments(columns, tokens_D)]

        def draw(draws: slice, products: list[DocumentProduct] = products) -> FloatArray:
            counts, squares, cross = (
                counts_by_task(product, label_PD[draws], num_tasks) for product in products
            )
            tokens = tokens_PK[draws]
            dispersion = dispersion_from_moments(
                counts, squares, cross, tokens, tokens2_PK[draws], np.broadcast_to(docs_K, tokens.shape)
            )
            si = specialization(counts, tokens, dispersion)
            return np.stack([si, np.einsum("pfk,pk->pf", counts, 1.0 / tokens)])

        for draws, (si_PF, rate_PF) in zip(slices, for_each_slice(draw, slices), strict=True):
            sum_F[latents] += si_PF.sum(axis=0)
            weighted_P[draws] += np.where(rate_PF > 0, rate_PF * si_PF, 0.0).sum(axis=1)
            rate_P[draws] += rate_PF.sum(axis=1)
            shown = si_PF[:, histogram_F[latents]]
            draw_counts += np.histogram(shown[np.isfinite(shown)], bins=SI_EDGES)[0]
            scored += si_PF.size
            progress("null draws", scored // num_latents, permutations)
    with np.errstate(invalid="ignore"):
        return PermutationNull(sum_F / permutations, draw_counts, weighted_P / rate_P)


def documents_with_tokens(
    doc_counts_DF: Csr, tokens_D: AnyIntArray, task_D: AnyIntArray, num_tasks: int
) -> tuple[Csr, IntArray, IntArray]:
    """Counts, tokens and task of the documents that have tokens. Raises ValueError for bad labels."""
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    tokens: IntArray = np.asarray(tokens_D, dtype=np.int64)
    rows = np.flatnonzero(tokens > 0)
    if rows.size < tokens.size:
        return doc_counts_DF[rows], tokens[rows], task_D[rows]
    return doc_counts_DF, tokens, task_D


def permuted_labels(
    task_D: IntArray, num_tasks: int, permutations: int, rng: np.random.Generator
) -> AnyIntArray:
    """Task of every document under every permutation, [P, D], in the smallest integer type that fits."""
    label_PD = np.empty((permutations, task_D.size), dtype=np.min_scalar_type(num_tasks))
    for draw in range(permutations):
        label_PD[draw] = rng.permuted(task_D)
    return label_PD


def sums_by_task(label_PD: AnyIntArray, values_D: IntArray, num_tasks: int) -> IntArray:
    """Sum of a number of each document over the documents of each task, [P, K]."""
    return np.stack([(label_PD == task) @ values_D for task in range(num_tasks)], axis=1)


def counts_by_task(product: DocumentProduct, label_PD: AnyIntArray, num_tasks: int) -> FloatArray:
    """Counts of a block of latents in each task under some permutations, [P, F, K]."""
    counts_FKP = np.empty((product.num_latents, num_tasks, len(label_PD)))
    # the last task has the firings that the others leave, so it needs no product of its own
    counts_FKP[:, :-1] = product.by_task(label_PD.T, num_tasks)
    counts_FKP[:, -1] = product.total_F[:, None] - counts_FKP[:, :-1].sum(axis=1)
    return counts_FKP.transpose(2, 0, 1)
