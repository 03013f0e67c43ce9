"""Specialization beyond words: given the word, does a latent fire more on some task?

The model: firings of latent f on word w in task t are Poisson with mean alpha_fw theta_ft N_wt, N_wt the
occurrences of the word. Given the firings on each word over all tasks, alpha drops out, and theta says which
tasks the latent prefers whatever their vocabulary. Words of a single task say nothing of it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import entr, gammaincc

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import by_column
from saescope.stats.specialization import ROUNDING, UNIFORM
from saescope.stats.threads import in_threads, num_threads
from saescope.stats.word_classes import WordClasses
from saescope.stats.word_clusters import Clusters, Corpus, Firings, latent_ranges, per_latent, product

PRIOR = 0.5
"""Firings added to observed and expected ones of every task: a task without evidence is like the others."""
STEPS, TOLERANCE = 50, 1e-3
"""Steps of the likelihood's maximisation at most; it ends when no log theta moves by more than this."""
LEAST = 1e-12
"""Variances below this are rounding."""


@dataclass(frozen=True)
class BeyondWords:
    """Specialization of each latent given the word."""

    si_F: FloatArray
    """Index of theta, shrunk; 0 where nothing is known."""
    null_F: FloatArray
    """Mean index when the sign of every document's evidence is random; NaN without draws."""
    p_F: FloatArray
    """p of theta being equal for all tasks; NaN where it was not wanted."""
    identified_F: IntArray
    """Firings on words that occur in two tasks or more."""
    lexical_FK: FloatArray
    """Firings on each task when those on a word are dealt anew among all its occurrences: expected number."""


def beyond_words(
    active_NF: Csr,
    word_N: AnyIntArray,
    doc_N: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    draws: int = 10,
    seed: int = 0,
    tested: bool = True,
    progress: Progress = no_progress,
) -> BeyondWords:
    """The index of every latent given the word of each token, its test, and its mean by chance.

    theta is the conditional maximum likelihood, by theta_t <- (O_t + 1/2)/(E_t + 1/2) with O_t the firings on
    the task and E_t = sum_w c_w N_wt / sum_s N_ws theta_s. Its variance is that of the scores summed over
    documents (sandwich), so bursts count once a document; q = theta / sum theta is shrunk as in
    `specialization`.

    The test is of the score at equal theta, U_t = O_t - E_t: T = sum_t (1 - e_t) U_t^2 / V_t, e_t the share
    of task t in E, against a gamma distribution of its mean and variance under independence. V_t is the
    quadratic mean of two variances over documents, both about the mean by length: the observed one of the
    scores, a document's score for its own task as if it were left out (CR3, Bell & McCaffrey 2002, Survey
    Methodology 28, 169), too small by chance where few documents have a burst; and that under exchange of the
    documents, of sum_i sqrt(pi_i (1 - pi_i)) over the firings i of a document on words with a share pi_i in
    the task, too small where bursts differ between tasks.

    `active_NF`: 0/1, tokens in document order; `word_N`: number of each token's word, negative where unknown;
    `draws`: sign flips of the documents behind `null_F`; `tested`: whether p is wanted.
    """
    corpus = Corpus.of(np.asarray(doc_N, np.int64), np.asarray(task_D, np.int64), num_tasks, draws, seed)
    classes = WordClasses.of(word_N, corpus.task_D[corpus.doc_N], num_tasks)
    by_latent = by_column(active_NF)
    blocks = list(latent_ranges(np.diff(by_latent.indptr), len(classes.share_GK)))
    parts: list[BeyondWords] = []
    progress("latents beyond words", 0, by_latent.shape[1])
    threads = num_threads()
    for start in range(0, len(blocks), threads):
        parts += in_threads(
            lambda block: _of_block(by_latent, block, classes, corpus, tested),
            blocks[start : start + threads],
        )
        done = blocks[min(start + threads, len(blocks)) - 1].stop
        progress("latents beyond words", done, by_latent.shape[1])
    empty = BeyondWords(*(np.zeros(0),) * 3, np.zeros(0, dtype=np.int64), np.zeros((0, num_tasks)))
    parts = parts or [empty]
    return BeyondWords(
        np.concatenate([part.si_F for part in parts]),
        np.concatenate([part.null_F for part in parts]),
        np.concatenate([part.p_F for part in parts]),
        np.concatenate([part.identified_F for part in parts]),
        np.concatenate([part.lexical_FK for part in parts]),
    )


def _of_block(
    by_latent: sparse.csc_matrix, block: slice, classes: WordClasses, corpus: Corpus, tested: bool
) -> BeyondWords:
    firings = Firings.of(by_latent, block, classes, corpus)
    theta_FK = _theta(firings, classes.share_GK)
    clusters = Clusters.of(firings, corpus)
    evidence = _Evidence.of(clusters, theta_FK, classes.share_GK)
    q_FK = theta_FK / theta_FK.sum(axis=1, keepdims=True)
    known = firings.observed_FK.sum(axis=1) > 0
    si_F = np.where(known, _index(q_FK, evidence), 0.0)
    null_F = np.full(si_F.size, np.nan)
    if len(corpus.sign_BD):
        null_F = np.where(known, np.mean([_index(q, evidence) for q in evidence.flipped], axis=0), 0.0)
    return BeyondWords(
        si_F,
        null_F,
        _score_test(clusters, classes.share_GK) if tested else np.full(si_F.size, np.nan),
        firings.observed_FK.sum(axis=1).astype(np.int64),
        firings.lexical_FK,
    )


def _theta(firings: Firings, share_GK: FloatArray) -> FloatArray:
    """Preferences of each latent for the tasks, of mean 1, by conditional maximum likelihood."""
    counts = firings.counts_FG
    row, share_EK = _rows(counts), share_GK[counts.indices]
    theta_FK = np.ones_like(firings.observed_FK)
    for _ in range(STEPS):
        mixed_E = np.einsum("ek,ek->e", theta_FK[row], share_EK)
        weights = sparse.csr_matrix((counts.data / mixed_E, counts.indices, counts.indptr), counts.shape)
        following = (firings.observed_FK + PRIOR) / (product(weights, share_GK) + PRIOR)
        following /= following.mean(axis=1, keepdims=True)
        moved = np.abs(np.log(following / theta_FK)).max(initial=0.0)
        theta_FK = following
        if moved < TOLERANCE:
            break
    return theta_FK


def _rows(matrix: Csr) -> IntArray:
    """Row of each entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _score_test(clusters: Clusters, share_GK: FloatArray) -> FloatArray:
    """p of equal theta (see `beyond_words`)."""
    counts_FG, observed_FK = clusters.firings.counts_FG, clusters.firings.observed_FK
    tokens_K1 = clusters.corpus.tokens_K[:, None]
    deviation_GK = np.sqrt(share_GK * (1.0 - share_GK))
    expected_FK = product(counts_FG, share_GK)
    independent_FKK = np.eye(share_GK.shape[1]) * expected_FK[:, :, None] - per_latent(
        counts_FG, share_GK[:, :, None] * share_GK[:, None, :]
    )
    scores_CK = clusters.scores(clusters.by_class(share_GK))
    mean_FKK = independent_FKK / tokens_K1
    own_FK = clusters.own_scatter(scores_CK, np.diagonal(mean_FKK, axis1=1, axis2=2))
    others_FKK = clusters.scatter(scores_CK, mean_FKK) * (1.0 - np.eye(share_GK.shape[1]))
    observed = np.maximum(others_FKK.sum(axis=1), 0.0) + np.maximum(own_FK, 0.0)
    mean_exchange = per_latent(counts_FG, share_GK[:, :, None] * deviation_GK[:, None, :]) / tokens_K1
    exchange = clusters.scatter(clusters.by_class(deviation_GK), mean_exchange).sum(axis=1)
    variance_FK = np.sqrt(0.5 * (observed**2 + exchange**2))
    return _p(observed_FK - expected_FK, variance_FK, expected_FK, independent_FKK)


@dataclass(frozen=True)
class _Evidence:
    """How well the documents know theta, for a block of latents."""

    covariance_FKK: FloatArray
    """Of log theta."""
    share_F: FloatArray
    """Of one cluster in all firings: 1 over the number of clusters."""
    flipped: list[FloatArray]
    """q [F, K] of each draw in which the documents' scores have random signs."""

    @classmethod
    def of(cls, clusters: Clusters, theta_FK: FloatArray, share_GK: FloatArray) -> "_Evidence":
        firings, corpus = clusters.firings, clusters.corpus
        size, num_tasks = theta_FK.shape
        mixed_M = np.einsum("mk,mk->m", theta_FK[firings.latent_M], share_GK[firings.class_M])
        expected_CK = clusters.by_class(share_GK, 1.0 / mixed_M)
        score_CK = clusters.scores(expected_CK * theta_FK[firings.latent_C])
        tokens_K1, centred_K1, scale_K1 = (
            values[:, None] for values in (corpus.tokens_K, corpus.centred_K, corpus.scale_K)
        )
        mean = clusters.total(score_CK) / tokens_K1 * centred_K1
        first, second = np.triu_indices(num_tasks)
        cross = clusters.total(score_CK * clusters.tokens_C)
        upper = scale_K1 * (
            clusters.total(score_CK[:, first] * score_CK[:, second])
            - mean[..., first] * cross[..., second]
            - mean[..., second] * cross[..., first]
            + mean[..., first] * mean[..., second] * corpus.tokens2_K[:, None]
        )
        meat_FKK = np.empty((size, num_tasks, num_tasks))
        meat_FKK[:, first, second] = meat_FKK[:, second, first] = upper.sum(axis=1)
        bread_FKK = np.linalg.inv(_information(firings.counts_FG, theta_FK, share_GK))

        fired = firings.observed_FK.sum(axis=1)
        mean_fired = firings.observed_FK[:, :, None] / tokens_K1 * centred_K1
        spread = (scale_K1 * clusters.scatter(clusters.fired_C[:, None], mean_fired)).sum(axis=(1, 2))
        flipped = []
        for sign_D in corpus.sign_BD:
            root_D = sign_D * np.sqrt(corpus.scale_K)[corpus.task_D]
            signed = clusters.total(score_CK * root_D[firings.doc_C][:, None])
            tokens_signed = np.bincount(corpus.task_D, root_D * corpus.tokens_D, num_tasks)
            signed_FK = (signed - mean * tokens_signed[:, None]).sum(axis=1)
            flipped.append(_softmax(np.einsum("fkl,fl->fk", bread_FKK, signed_FK)))
        return cls(bread_FKK @ meat_FKK @ bread_FKK, spread / np.maximum(fired, 1.0) ** 2, flipped)


def _information(counts_FG: Csr, theta_FK: FloatArray, share_GK: FloatArray) -> FloatArray:
    """Of log theta, with that of the prior, [F, K, K]."""
    weights = counts_FG.copy()
    mixed_E = np.einsum("ek,ek->e", theta_FK[_rows(weights)], share_GK[weights.indices])
    weights.data = weights.data / mixed_E**2
    outer_FKK = per_latent(weights, share_GK[:, :, None] * share_GK[:, None, :])
    outer_FKK *= theta_FK[:, :, None] * theta_FK[:, None, :]
    information: FloatArray = (
        np.eye(theta_FK.shape[1]) * (outer_FKK.sum(axis=2) + PRIOR)[:, :, None] - outer_FKK
    )
    return information


def _p(
    score_FK: FloatArray, variance_FK: FloatArray, expected_FK: FloatArray, independent_FKK: FloatArray
) -> FloatArray:
    """p of the scores; `independent_FKK`, their covariance for independent firings, gives correlations."""
    diagonal_FK = np.maximum(np.diagonal(independent_FKK, axis1=1, axis2=2), 0.0)
    fired = np.maximum(expected_FK.sum(axis=1, keepdims=True), LEAST)
    weight_FK = np.where(diagonal_FK > 1e-9 * fired, 1.0 - expected_FK / fired, 0.0)
    root = np.sqrt(np.maximum(diagonal_FK, LEAST))
    squared = (independent_FKK / (root[:, :, None] * root[:, None, :])) ** 2
    statistic = (weight_FK * score_FK**2 / np.maximum(variance_FK, LEAST)).sum(axis=1)
    mean = weight_FK.sum(axis=1)
    variance = 2.0 * np.einsum("fk,fkl,fl->f", weight_FK, squared, weight_FK)
    tested = variance > 0
    ratio = mean / np.where(tested, variance, 1.0)
    return np.where(tested, gammaincc(np.where(tested, mean * ratio, 1.0), statistic * ratio), 1.0)


def _index(q_FK: FloatArray, evidence: _Evidence) -> FloatArray:
    """1 - H(q*)/ln K, q* shrunk by the variance of q that the covariance of its logarithm gives."""
    num_tasks = q_FK.shape[1]
    slope_FKK = np.eye(num_tasks) * q_FK[:, :, None] - q_FK[:, :, None] * q_FK[:, None, :]
    spread = np.einsum("fij,fjk,fik->f", slope_FKK, evidence.covariance_FKK, slope_FKK)
    distance = (q_FK**2).sum(axis=1) - 1.0 / num_tasks
    with np.errstate(divide="ignore", invalid="ignore"):
        lam = spread / (1.0 - evidence.share_F) / distance
    nothing = (distance <= UNIFORM) | (evidence.share_F >= 1.0 - ROUNDING)
    lam = np.where(nothing, 1.0, np.clip(lam, 0.0, 1.0))[:, None]
    shrunk = lam / num_tasks + (1.0 - lam) * q_FK
    si_F: FloatArray = np.clip(1.0 - entr(shrunk).sum(axis=1) / np.log(num_tasks), 0.0, 1.0)
    return si_F


def _softmax(log_FK: FloatArray) -> FloatArray:
    raised = np.exp(log_FK - log_FK.max(axis=1, keepdims=True))
    q_FK: FloatArray = raised / raised.sum(axis=1, keepdims=True)
    return q_FK
