"""Averages of the specialization index less the bias that few documents give them, and their standard errors.

Each document is left out in turn, within its task (Efron & Stein 1981, Annals of Statistics 9, 586; strata as
in Jones 1974, Journal of Statistical Computation and Simulation 3, 121).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy import stats as scipy_stats

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.specialization import check_tasks, document_dispersion, specialization, task_counts

BLOCK_PAIRS = 500_000
"""Pairs of a document and a latent that fires in it, at a time."""


@dataclass(frozen=True)
class Jackknifed:
    """One average of the index over latents."""

    plain: float
    """The average itself."""
    corrected: float
    """Less its bias of the order of 1 over the number of documents."""
    half_width: float
    """Of the interval: a quantile of t times the standard error."""

    def around(self, bootstrap: tuple[float, float]) -> tuple[float, float]:
        """The interval (low, high): about the corrected average, on each side as wide as the wider of both.

        `bootstrap`: interval of the average by resampled documents. It sees the range's edges, but not how
        uncertain the shrinkage is; the jackknife is the other way round. The average itself is always inside.
        """
        low, high = bootstrap
        below, above = max(self.plain - low, self.half_width), max(high - self.plain, self.half_width)
        return (
            max(0.0, min(self.corrected - below, self.plain)),
            min(1.0, max(self.corrected + above, self.plain)),
        )


def jackknife_si(
    doc_counts_DF: Csr,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    scored_F: BoolArray | None = None,
    level: float = 0.95,
) -> tuple[Jackknifed, Jackknifed]:
    """The plain mean over the scored latents, and the mean over all latents by their rates.

    With theta_d the average without document d and D_t the documents of task t, the bias is
    sum_d (1 - 1/D_t) (theta_d - theta), the variance sum_d (1 - 1/D_t) (theta_d - mean theta of the task)^2.
    The dispersion of each latent stays that of all documents. t has Satterthwaite's degrees of freedom.

    A latent is recomputed for each document it fires in; in the others, where only tokens go, the change is
    that of a document of mean length, in proportion to how much the task's rates grow. A task of a single
    document says nothing of bias and error. `scored_F`: None for all that fired.

    Raises ValueError for a task without tokens.
    """
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    tokens_D = np.asarray(tokens_D, dtype=np.int64)
    counts_DF = sparse.csr_matrix(doc_counts_DF, dtype=np.float64)
    counts_FK = task_counts(doc_counts_DF, task_D, num_tasks).astype(np.float64)
    tokens_K = np.bincount(task_D, tokens_D, num_tasks).astype(np.float64)
    dispersion_FK = document_dispersion(doc_counts_DF, tokens_D, task_D, num_tasks)
    fired_F = counts_FK.sum(axis=1) > 0
    scored_F = fired_F if scored_F is None else scored_F & fired_F

    si_F = np.nan_to_num(specialization(counts_FK, tokens_K, dispersion_FK))
    rate_F = (counts_FK / tokens_K).sum(axis=1)
    full = np.stack([scored_F * si_F, scored_F * 1.0, rate_F * si_F, rate_F], axis=1)  # sums of two ratios

    docs_K = np.bincount(task_D, tokens_D > 0, num_tasks)
    less_K = tokens_K / np.maximum(docs_K, 1.0)
    silent_FKX = np.zeros((si_F.size, num_tasks, 4))
    for shorter in np.flatnonzero(docs_K > 1):
        left_K = tokens_K - less_K * (np.arange(num_tasks) == shorter)
        si = np.nan_to_num(specialization(counts_FK, left_K, dispersion_FK))
        rate = (counts_FK / left_K).sum(axis=1)
        silent_FKX[:, shorter] = np.stack([scored_F * si, scored_F * 1.0, rate * si, rate], axis=1) - full

    left_D = np.maximum(tokens_K[task_D] - tokens_D, 1.0)  # rates grow by n/(T - n)
    share_D = tokens_D / left_D * (np.maximum(docs_K, 2) - 1.0)[task_D]
    without_DX = full.sum(axis=0) + share_D[:, None] * silent_FKX.sum(axis=0)[task_D]
    pair_doc = np.repeat(np.arange(counts_DF.shape[0]), np.diff(counts_DF.indptr))
    for start in range(0, pair_doc.size, BLOCK_PAIRS):
        part = slice(start, start + BLOCK_PAIRS)
        doc, latent, fired = pair_doc[part], counts_DF.indices[part], counts_DF.data[part]
        several = docs_K[task_D[doc]] > 1
        doc, latent, fired = doc[several], latent[several], fired[several]
        task, rows = task_D[doc], np.arange(doc.size)
        left_PK, tokens_PK = counts_FK[latent], np.repeat(tokens_K[None], doc.size, axis=0)
        left_PK[rows, task] -= fired
        tokens_PK[rows, task] -= tokens_D[doc]
        si = specialization(left_PK[:, None], tokens_PK, dispersion_FK[latent][:, None])[:, 0]
        alive, si = left_PK.sum(axis=1) > 0, np.nan_to_num(si)
        rate, scored = (left_PK / tokens_PK).sum(axis=1), scored_F[latent] & alive
        change = np.stack([scored * si, scored * 1.0, rate * si, rate], axis=1) - full[latent]
        change -= share_D[doc][:, None] * silent_FKX[latent, task]
        for column in range(4):
            without_DX[:, column] += np.bincount(doc, change[:, column], without_DX.shape[0])
    total = full.sum(axis=0)
    counted = (tokens_D > 0) & (docs_K[task_D] > 1)
    mean, mutual_info = (
        _jackknifed(without_DX[counted, at : at + 2], total[at : at + 2], task_D[counted], docs_K, level)
        for at in (0, 2)
    )
    return mean, mutual_info


def _jackknifed(
    without_D2: FloatArray, full_2: FloatArray, task_D: IntArray, docs_K: IntArray, level: float
) -> Jackknifed:
    """From the two sums whose ratio the average is, without each document and of all."""
    plain = float(full_2[0] / full_2[1])
    left = without_D2[:, 1] > 1e-9 * full_2[1]  # else only this document has firings
    without_D = np.where(left, without_D2[:, 0] / np.where(left, without_D2[:, 1], 1.0), plain)
    several_K = np.maximum(docs_K, 2)
    factor_K = 1.0 - 1.0 / several_K
    mean_K = np.bincount(task_D, without_D, docs_K.size) / several_K
    variance_K = factor_K * np.bincount(task_D, (without_D - mean_K[task_D]) ** 2, docs_K.size)
    variance = float(variance_K.sum())
    corrected = plain - float((factor_K[task_D] * (without_D - plain)).sum())
    if variance <= 0.0:
        return Jackknifed(plain, corrected, 0.0)
    freedom = variance**2 / float((variance_K**2 / (several_K - 1.0)).sum())
    quantile = float(scipy_stats.t.ppf(0.5 + level / 2.0, freedom))
    return Jackknifed(plain, corrected, quantile * variance**0.5)
