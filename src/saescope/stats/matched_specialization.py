"""SI of SAEs of different width at equal firings a latent."""

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import document_dispersion, specialization, task_counts

DRAWS = 10


def matched_specialization(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    latents: AnyIntArray,
    *,
    firings: int,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[float | None, int]:
    """Mean index of `latents` thinned to `firings` firings each, and how many of them fire that often.

    What is left of the index's bias depends on a latent's firings, and a wider SAE has fewer a latent.
    Thinned to one number the bias is the same for every SAE, so what is left of a difference is
    specialisation. As in si/mean the index is shrunk by the scatter of the firings between documents.
    `doc_counts_DF`: firings of latent f in document d; `tokens_D`, `task_D`: tokens and task of each.
    The mean is None where no latent fires often enough.
    Raises ValueError for fewer than two tasks, a task without tokens, no draws, or `firings` below 1.
    """
    if draws < 1 or firings < 1:
        raise ValueError("draws and firings must be at least 1")
    by_latent = sparse.csc_matrix(doc_counts_DF)[:, np.asarray(latents, dtype=np.int64)]
    by_latent = by_latent[:, np.asarray(by_latent.sum(axis=0)).ravel() >= firings]
    tokens_K = np.bincount(task_D, weights=tokens_D, minlength=num_tasks)
    num_latents = by_latent.shape[1]
    if not num_latents:
        return None, 0
    rng = np.random.default_rng(seed)
    means = []
    progress("SI at equal firings", 0, draws)
    for draw in range(draws):
        thinned_DF = thinned_counts(by_latent, firings, rng)
        dispersion_FK = document_dispersion(thinned_DF, tokens_D, task_D, num_tasks)
        counts_FK = task_counts(thinned_DF, task_D, num_tasks)
        means.append(float(specialization(counts_FK, tokens_K, dispersion_FK).mean()))
        progress("SI at equal firings", draw + 1, draws)
    return float(np.mean(means)), num_latents


def thinned_counts(by_latent_DF: sparse.csc_matrix, firings: int, rng: np.random.Generator) -> Csr:
    """Document counts [D, F] after thinning each latent to `firings` firings, drawn without replacement.

    Raises ValueError when a latent has fewer.
    """
    documents: list[AnyIntArray] = []
    for start, stop in zip(by_latent_DF.indptr[:-1], by_latent_DF.indptr[1:], strict=True):
        ends = np.cumsum(by_latent_DF.data[start:stop])
        total = int(ends[-1]) if ends.size else 0
        if total < firings:
            raise ValueError(f"a latent has {total} firings, fewer than the {firings} to draw")
        drawn = rng.choice(total, firings, replace=False)
        documents.append(by_latent_DF.indices[start:stop][np.searchsorted(ends, drawn, side="right")])
    rows = np.concatenate(documents) if documents else np.zeros(0, dtype=np.int64)
    columns = np.repeat(np.arange(by_latent_DF.shape[1]), firings)
    # firings of one document add up
    return sparse.csr_matrix((np.ones(rows.size, np.int64), (rows, columns)), shape=by_latent_DF.shape)
