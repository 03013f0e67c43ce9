"""Specialization index of a latent: how unevenly it fires over tasks, token counts and chance set aside."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import entr

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.row_blocks import row_blocks, rows_of

UNIFORM = 1e-14
"""Squared distance from uniform below which q counts as uniform (rounding of K terms of size 1/K)."""
ROUNDING = 1e-9
"""A share of the firings so little below 1 is all of them."""


def task_counts(doc_counts_DF: Csr, task_D: AnyIntArray, num_tasks: int) -> IntArray:
    """Firings of every latent on every task, `counts_FK` int64.

    `doc_counts_DF`: firings (tokens) of latent f in document d; `task_D`: task of each document.
    Raises ValueError when `task_D` has the wrong length or a task outside `0..num_tasks-1`.
    """
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    counts_FK = np.zeros((doc_counts_DF.shape[1], num_tasks), dtype=np.int64)
    for task in range(num_tasks):
        rows = np.flatnonzero(task_D == task)
        if rows.size:
            counts_FK[:, task] = np.asarray(doc_counts_DF[rows].sum(axis=0, dtype=np.int64)).ravel()
    return counts_FK


def document_dispersion(
    doc_counts_DF: Csr, tokens_D: AnyIntArray, task_D: AnyIntArray, num_tasks: int
) -> FloatArray:
    """Variance of each latent's firings on each task over that of independent firings, [F, K].

    With documents as clusters (ratio estimator, n_d tokens, r = c/T):
    D/(D-1) sum_d (c_d - r n_d)^2 / c. 1: independent firings; above 1: bursts within documents. Documents
    without tokens do not count. A task with one document is one cluster, c; without firings it is 1.
    """
    tokens_D = np.asarray(tokens_D, dtype=np.int64)
    task_D = check_tasks(task_D, doc_counts_DF.shape[0], num_tasks)
    counts, squares, cross = (np.zeros((doc_counts_DF.shape[1], num_tasks)) for _ in range(3))
    for rows in row_blocks(doc_counts_DF.indptr):
        moments = document_moments(rows_of(doc_counts_DF, rows), tokens_D[rows])
        for total, moment in zip((counts, squares, cross), moments, strict=True):
            total += task_counts(moment, task_D[rows], num_tasks)
    tokens_K, tokens2_K, docs_K = (
        np.bincount(task_D, weights=per_document, minlength=num_tasks)
        for per_document in (tokens_D, tokens_D**2, tokens_D > 0)
    )
    return dispersion_from_moments(counts, squares, cross, tokens_K, tokens2_K, docs_K)


def document_moments(doc_counts_DF: Csr, tokens_D: AnyIntArray) -> tuple[Csr, Csr, Csr]:
    """c_d, c_d^2 and c_d n_d, [D, F] each, int64."""
    counts = sparse.csr_matrix(doc_counts_DF, dtype=np.int64)
    squares, cross = counts.copy(), counts.copy()
    squares.data = counts.data**2
    cross.data = counts.data * np.repeat(tokens_D, np.diff(counts.indptr))
    return counts, squares, cross


def dispersion_from_moments(
    counts_FK: npt.NDArray[Any],
    squares_FK: npt.NDArray[Any],
    cross_FK: npt.NDArray[Any],
    tokens_K: npt.NDArray[Any],
    tokens2_K: npt.NDArray[Any],
    docs_K: npt.NDArray[Any],
) -> FloatArray:
    """`document_dispersion` from sums over the documents of each task: c, c^2, c n; n, n^2, 1.

    Shapes [..., F, K] and [..., K].
    """
    tokens, tokens2, docs = tokens_K[..., None, :], tokens2_K[..., None, :], docs_K[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = counts_FK / tokens
        residual = squares_FK - 2.0 * rate * cross_FK + rate**2 * tokens2
        dispersion = np.maximum(residual, 0.0) * (docs / (docs - 1.0)) / counts_FK
    dispersion = np.where(docs == 1, counts_FK, dispersion)
    return np.where(counts_FK > 0, dispersion, 1.0)


def specialization(
    counts_FK: npt.NDArray[Any],
    tokens_K: npt.NDArray[Any],
    dispersion_FK: npt.NDArray[Any] | None = None,
) -> FloatArray:
    """Rate-normalised, James-Stein shrunk index `si_F` in [0, 1]; NaN for a latent that never fired.

    r = c/T, q = r/sum r, q* = lam/K + (1-lam) q, SI = 1 - H(q*)/ln K.

    The shrinkage is Hausser & Strimmer 2009 (JMLR 10, eq. 6), lam = sum Var(q_t) / sum (1/K - q_t)^2,
    clipped to [0, 1] and 1 where undefined (one firing, or q uniform). Their Var(q_t) = q_t(1-q_t)/(n-1)
    holds for equal token counts only; for unequal ones the delta method gives, with v_t = c_t/T_t^2 and
    S = sum r, Var(q_t) = [(1-q_t)^2 v_t + q_t^2 sum_{s!=t} v_s]/S^2 * n/(n-1), which reduces to theirs.

    That is for independent firings. Bursts within documents scatter the rates more: with
    `document_dispersion` phi, v_t = phi_t c_t/T_t^2, and n is the number of clusters, c^2 / sum phi_t c_t.

    Shapes: `counts_FK` [..., F, K] firings, `dispersion_FK` the same or [F, K], `tokens_K` [..., K] tokens;
    returns [..., F].
    Raises ValueError for fewer than two tasks, negative counts, or a task without tokens.
    """
    fired, q, lam = rate_shares(counts_FK, tokens_K, dispersion_FK)
    si = shrunk_index(q, lam)
    return np.where(fired > 0, si, np.nan)


def rate_shares(
    counts_FK: npt.NDArray[Any],
    tokens_K: npt.NDArray[Any],
    dispersion_FK: npt.NDArray[Any] | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Firings [..., F], q with tasks first [K, ..., F], and lam [..., F] of `specialization`."""
    counts = np.moveaxis(
        np.asarray(counts_FK, dtype=np.float64), -1, 0
    )  # tasks first: sums become plain adds
    tokens = np.moveaxis(np.asarray(tokens_K, dtype=np.float64), -1, 0)[..., None]
    num_tasks = counts.shape[0]
    if num_tasks < 2:
        raise ValueError(f"specialization needs at least two tasks, got {num_tasks}")
    if tokens.shape[0] != num_tasks:
        raise ValueError(f"counts have {num_tasks} tasks, tokens {tokens.shape[0]}")
    if not (tokens > 0).all():
        raise ValueError("every task needs at least one token")
    if (counts < 0).any():
        raise ValueError("counts must not be negative")

    fired = counts.sum(axis=0)
    rate = counts / tokens
    total = rate.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = rate / total
        noise = rate / tokens  # v_t: variance of the rate of a Poisson count
        share = 1.0 / fired  # of one cluster in all firings, 1/n
        if dispersion_FK is not None:
            dispersion = np.moveaxis(np.broadcast_to(dispersion_FK, np.shape(counts_FK)), -1, 0)
            noise *= dispersion
            share = np.einsum("k...,k...->...", counts, dispersion) / fired**2
        noise_sum = noise.sum(axis=0)
        np.multiply(noise, q, out=noise)
        square = np.einsum("k...,k...->...", q, q)
        # sum_t of the bracket in the docstring, multiplied out
        variance = (noise_sum * (1.0 + square) - 2.0 * noise.sum(axis=0)) / total**2
        variance /= 1.0 - share
        distance = square - 1.0 / num_tasks
        lam = variance / distance
    single = share >= 1.0 - ROUNDING
    lam = np.where(single | (distance <= UNIFORM), 1.0, np.clip(lam, 0.0, 1.0))
    return fired, q, lam


def shrunk_index(q_KF: FloatArray, lam_F: FloatArray) -> FloatArray:
    """1 - H(q*)/ln K of shares with tasks first, [K, ..., F]; overwrites them."""
    num_tasks = len(q_KF)
    q_KF *= 1.0 - lam_F
    q_KF += lam_F / num_tasks
    si: FloatArray = np.clip(1.0 - entr(q_KF, out=q_KF).sum(axis=0) / np.log(num_tasks), 0.0, 1.0)
    return si


def naive_specialization(counts_FK: npt.NDArray[Any]) -> FloatArray:
    """Plug-in 1 - H(c/n)/ln K from raw counts, for comparison only; NaN for a latent that never fired.

    Confounds specialisation with the token mix and is biased up by about (K-1)/(2 n ln K).
    Raises ValueError for fewer than two tasks.
    """
    counts = np.asarray(counts_FK, dtype=np.float64)
    if counts.shape[-1] < 2:
        raise ValueError(f"specialization needs at least two tasks, got {counts.shape[-1]}")
    with np.errstate(invalid="ignore"):
        share = counts / counts.sum(axis=-1, keepdims=True)
    si: FloatArray = np.clip(1.0 - entr(share).sum(axis=-1) / np.log(counts.shape[-1]), 0.0, 1.0)
    return si


def check_tasks(task: AnyIntArray, length: int, num_tasks: int) -> IntArray:
    """`task` as int64 after checking its length and range; ValueError otherwise."""
    labels: IntArray = np.asarray(task, dtype=np.int64)
    if labels.shape != (length,):
        raise ValueError(f"expected {length} task labels, got shape {labels.shape}")
    if length and not (labels.min() >= 0 and labels.max() < num_tasks):
        raise ValueError(f"task labels must lie in 0..{num_tasks - 1}")
    return labels
