"""Specialization beyond words: given the word, does a latent fire more on some task?

The model: firings of latent f on word w in task t are Poisson with mean alpha_fw theta_ft N_wt, N_wt the
occurrences of the word. Given the firings on each word over all tasks, alpha drops out, and theta says which
tasks the latent prefers whatever their vocabulary. Words of a single task say nothing of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import entr, gammaincc

from saescope.stats.arrays import AnyIntArray, Csr, FloatArray, IntArray
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import ROUNDING, UNIFORM
from saescope.stats.threads import in_threads, num_threads
from saescope.stats.word_classes import WordClasses

PRIOR = 0.5
"""Firings added to observed and expected ones of every task: a task without evidence is like the others."""
STEPS, TOLERANCE = 50, 1e-3
"""Steps of the likelihood's maximisation at most; it ends when no log theta moves by more than this."""
BLOCK_FIRINGS, BLOCK_ENTRIES = 400_000, 3_000_000
"""Firings, and latents × classes of words, of a block of latents."""
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
    """p of theta being equal for all tasks."""
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
    progress: Progress = no_progress,
) -> BeyondWords:
    """The index of every latent given the word of each token, its test, and its mean by chance.

    theta is the conditional maximum likelihood, by theta_t <- (O_t + 1/2)/(E_t + 1/2) with O_t the firings on
    the task and E_t = sum_w c_w N_wt / sum_s N_ws theta_s. Its variance is that of the scores summed over
    documents (sandwich), so bursts count once a document; q = theta / sum theta is shrunk as in
    `specialization`.

    The test is of the score at equal theta, U_t = O_t - E_t: T = sum_t (1 - e_t) U_t^2 / V_t, e_t the share
    of task t in E, against a gamma distribution of its mean and variance under independence. V_t is the mean
    of two variances over documents, both about the mean by length: the observed one of the scores, too small
    by chance where few documents have a burst, and that under exchange of the documents, of
    sum_i sqrt(pi_i (1 - pi_i)) over the firings i of a document on words with a share pi_i in the task, too
    small where bursts differ between tasks.

    `active_NF`: 0/1, tokens in document order; `word_N`: number of each token's word, negative where unknown;
    `draws`: sign flips of the documents behind `null_F`.
    """
    corpus = _Corpus.of(np.asarray(doc_N, np.int64), np.asarray(task_D, np.int64), num_tasks, draws, seed)
    classes = WordClasses.of(word_N, corpus.task_D[corpus.doc_N], num_tasks)
    by_latent = sparse.csc_matrix(active_NF)
    blocks = list(_blocks(np.diff(by_latent.indptr), len(classes.share_GK)))
    parts: list[BeyondWords] = []
    progress("latents beyond words", 0, by_latent.shape[1])
    threads = num_threads()
    for start in range(0, len(blocks), threads):
        parts += in_threads(
            lambda block: _of_block(by_latent, block, classes, corpus), blocks[start : start + threads]
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


@dataclass(frozen=True)
class _Corpus:
    """Documents and tasks."""

    doc_N: IntArray
    task_D: IntArray
    tokens_D: IntArray
    tokens_K: FloatArray
    tokens2_K: FloatArray
    """Sum over documents of tokens squared."""
    centred_K: FloatArray
    """1, or 0 for a task of one document, which is a cluster of its own."""
    scale_K: FloatArray
    """D/(D - 1) for a task of D documents."""
    sign_BD: FloatArray
    """Random signs of the documents."""

    @classmethod
    def of(cls, doc_N: IntArray, task_D: IntArray, num_tasks: int, draws: int, seed: int) -> "_Corpus":
        tokens_D = np.bincount(doc_N, minlength=task_D.size)
        docs_K = np.bincount(task_D, tokens_D > 0, num_tasks)
        several = docs_K > 1
        return cls(
            doc_N,
            task_D,
            tokens_D,
            _totals(task_D, tokens_D.astype(np.float64), num_tasks),
            _totals(task_D, tokens_D.astype(np.float64) ** 2, num_tasks),
            several.astype(np.float64),
            np.where(several, docs_K / np.maximum(docs_K - 1.0, 1.0), 1.0),
            np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, task_D.size)),
        )

    def scatter(self, squares: FloatArray, cross: FloatArray, mean: FloatArray) -> FloatArray:
        """sum_d (x_d - n_d mean)^2 over the documents of each task, from sum x^2 and sum x n."""
        return squares - 2.0 * mean * cross + mean**2 * self.tokens2_K[:, None]


def _totals(task_D: IntArray, values_D: FloatArray, num_tasks: int) -> FloatArray:
    totals_K: FloatArray = np.bincount(task_D, values_D, num_tasks).astype(np.float64)
    return totals_K


def _blocks(firings_F: IntArray, num_classes: int) -> Iterator[slice]:
    """Consecutive latents, so many at a time that a block's arrays stay small."""
    most = max(1, BLOCK_ENTRIES // max(1, num_classes))
    before = np.concatenate([[0], np.cumsum(firings_F)])
    start = 0
    while start < firings_F.size:
        stop = int(np.searchsorted(before, before[start] + BLOCK_FIRINGS, side="right")) - 1
        stop = min(max(stop, start + 1), start + most, firings_F.size)
        yield slice(start, stop)
        start = stop


def _of_block(
    by_latent: sparse.csc_matrix, block: slice, classes: WordClasses, corpus: _Corpus
) -> BeyondWords:
    firings = _Firings.of(by_latent, block, classes, corpus)
    theta_FK = _theta(firings, classes.share_GK)
    evidence = _Evidence.of(firings, theta_FK, classes.share_GK, corpus)
    q_FK = theta_FK / theta_FK.sum(axis=1, keepdims=True)
    known = firings.observed_FK.sum(axis=1) > 0
    si_F = np.where(known, _index(q_FK, evidence), 0.0)
    null_F = np.full(si_F.size, np.nan)
    if len(corpus.sign_BD):
        null_F = np.where(known, np.mean([_index(q, evidence) for q in evidence.flipped], axis=0), 0.0)
    return BeyondWords(
        si_F, null_F, evidence.p_F, firings.observed_FK.sum(axis=1).astype(np.int64), firings.lexical_FK
    )


@dataclass(frozen=True)
class _Firings:
    """Firings of a block of latents on identified words, latent by latent, document by document."""

    latent_M: IntArray
    class_M: IntArray
    start_C: IntArray
    """First firing of each pair of latent and document with a firing, and the end."""
    latent_C: IntArray
    doc_C: IntArray
    observed_FK: FloatArray
    lexical_FK: FloatArray
    counts_FG: Csr
    """Firings on each class of words."""

    @classmethod
    def of(
        cls, by_latent: sparse.csc_matrix, block: slice, classes: WordClasses, corpus: _Corpus
    ) -> "_Firings":
        size, num_tasks, num_classes = block.stop - block.start, corpus.tokens_K.size, len(classes.share_GK)
        ends = by_latent.indptr[block.start : block.stop + 1]
        token = by_latent.indices[ends[0] : ends[-1]]
        latent = np.repeat(np.arange(size), np.diff(ends))
        word_class, doc = classes.class_N[token], corpus.doc_N[token]
        identified = word_class >= 0

        task = corpus.task_D[doc]
        alone_FK = _by_task(latent[~identified], task[~identified], size, num_tasks)
        latent, word_class, doc = latent[identified], word_class[identified], doc[identified]
        observed_FK = _by_task(latent, task[identified], size, num_tasks)
        counts = sparse.coo_matrix(
            (np.ones(latent.size), (latent, word_class)), shape=(size, num_classes)
        ).tocsr()
        new = np.ones(latent.size, dtype=np.bool_)
        new[1:] = (np.diff(latent) != 0) | (np.diff(doc) != 0)
        start = np.flatnonzero(new)
        return cls(
            latent,
            word_class,
            np.append(start, latent.size),
            latent[start],
            doc[start],
            observed_FK,
            alone_FK + _product(counts, classes.share_GK),
            counts,
        )


def _by_task(latent_M: IntArray, task_M: IntArray, size: int, num_tasks: int) -> FloatArray:
    counts = np.bincount(latent_M * num_tasks + task_M, minlength=size * num_tasks)
    return counts.reshape(size, num_tasks).astype(np.float64)


def _theta(firings: _Firings, share_GK: FloatArray) -> FloatArray:
    """Preferences of each latent for the tasks, of mean 1, by conditional maximum likelihood."""
    counts = firings.counts_FG
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    theta_FK = np.ones_like(firings.observed_FK)
    for _ in range(STEPS):
        mixed_FG = theta_FK @ share_GK.T
        weights = sparse.csr_matrix(
            (counts.data / mixed_FG[row, counts.indices], counts.indices, counts.indptr), shape=counts.shape
        )
        following = (firings.observed_FK + PRIOR) / (_product(weights, share_GK) + PRIOR)
        following /= following.mean(axis=1, keepdims=True)
        moved = np.abs(np.log(following / theta_FK)).max(initial=0.0)
        theta_FK = following
        if moved < TOLERANCE:
            break
    return theta_FK


@dataclass(frozen=True)
class _Evidence:
    """What the documents say of theta, for a block of latents."""

    p_F: FloatArray
    covariance_FKK: FloatArray
    """Of log theta."""
    share_F: FloatArray
    """Of one cluster in all firings: 1 over the number of clusters."""
    flipped: list[FloatArray]
    """q [F, K] of each draw in which the documents' scores have random signs."""

    @classmethod
    def of(
        cls, firings: _Firings, theta_FK: FloatArray, share_GK: FloatArray, corpus: _Corpus
    ) -> "_Evidence":
        size, num_tasks = theta_FK.shape
        task_C = corpus.task_D[firings.doc_C]
        tokens_C = corpus.tokens_D[firings.doc_C].astype(np.float64)[:, None]
        fired_C = np.diff(firings.start_C).astype(np.float64)
        mixed_FG = theta_FK @ share_GK.T
        of_cluster = sparse.csr_matrix(
            (np.ones(firings.class_M.size), firings.class_M, firings.start_C),
            shape=(fired_C.size, len(share_GK)),
        )
        scatter_GK = np.sqrt(share_GK * (1.0 - share_GK))
        equal_CK, exchange_CK = -(_product(of_cluster, share_GK)), _product(of_cluster, scatter_GK)
        of_cluster.data = 1.0 / mixed_FG[firings.latent_M, firings.class_M]
        score_CK = -(_product(of_cluster, share_GK)) * theta_FK[firings.latent_C]
        here = np.arange(fired_C.size), task_C
        equal_CK[here] += fired_C
        score_CK[here] += fired_C

        # sums over the documents of each task, [F, K of the document, columns]
        gather = sparse.coo_matrix(
            (np.ones(fired_C.size), (firings.latent_C * num_tasks + task_C, np.arange(fired_C.size))),
            shape=(size * num_tasks, fired_C.size),
        ).tocsr()

        def total(values_C: FloatArray) -> FloatArray:
            return _product(gather, values_C).reshape(size, num_tasks, -1)

        expected_FK = _product(firings.counts_FG, share_GK)
        pairs_GKK = share_GK[:, :, None] * share_GK[:, None, :]
        pairs_FKK = _per_latent(firings.counts_FG, pairs_GKK)
        tokens = corpus.tokens_K[:, None]
        mean_equal = (np.eye(num_tasks) * expected_FK[:, :, None] - pairs_FKK) / tokens
        mean_exchange = _per_latent(firings.counts_FG, share_GK[:, :, None] * scatter_GK[:, None, :]) / tokens
        observed_FK, exchange_FK = (
            corpus.scatter(total(values**2), total(values * tokens_C), mean).sum(axis=1)
            for values, mean in ((equal_CK, mean_equal), (exchange_CK, mean_exchange))
        )
        p_F = _p(
            firings.observed_FK - expected_FK,
            0.5 * (observed_FK + exchange_FK),
            expected_FK,
            np.eye(num_tasks) * expected_FK[:, :, None] - pairs_FKK,
        )

        scale = corpus.scale_K[:, None]
        mean_score = total(score_CK) / tokens * corpus.centred_K[:, None]
        first, second = np.triu_indices(num_tasks)
        squares = total(score_CK[:, first] * score_CK[:, second])
        cross = total(score_CK * tokens_C)
        upper = scale * (
            squares
            - mean_score[..., first] * cross[..., second]
            - mean_score[..., second] * cross[..., first]
            + mean_score[..., first] * mean_score[..., second] * corpus.tokens2_K[:, None]
        )
        meat_FKK = np.empty((size, num_tasks, num_tasks))
        meat_FKK[:, first, second] = meat_FKK[:, second, first] = upper.sum(axis=1)
        weights = firings.counts_FG.copy()
        row = np.repeat(np.arange(size), np.diff(weights.indptr))
        weights.data = weights.data / mixed_FG[row, weights.indices] ** 2
        outer = _per_latent(weights, pairs_GKK) * theta_FK[:, :, None] * theta_FK[:, None, :]
        information = np.eye(num_tasks) * (outer.sum(axis=2) + PRIOR)[:, :, None] - outer
        bread_FKK = np.linalg.inv(information)

        fired = firings.observed_FK.sum(axis=1)
        mean_fired = firings.observed_FK[:, :, None] / tokens * corpus.centred_K[:, None]
        fired_C1 = fired_C[:, None]
        clusters = scale * corpus.scatter(total(fired_C1**2), total(fired_C1 * tokens_C), mean_fired)
        flipped = []
        for sign_D in corpus.sign_BD:
            root_D = sign_D * np.sqrt(corpus.scale_K)[corpus.task_D]
            signed = total(score_CK * root_D[firings.doc_C][:, None]).sum(axis=1)
            tokens_signed = np.bincount(corpus.task_D, root_D * corpus.tokens_D, num_tasks)
            signed -= (mean_score * tokens_signed[:, None]).sum(axis=1)
            log_theta = np.einsum("fkl,fl->fk", bread_FKK, signed)
            flipped.append(_softmax(log_theta))
        return cls(
            p_F,
            bread_FKK @ meat_FKK @ bread_FKK,
            clusters.sum(axis=(1, 2)) / np.maximum(fired, 1.0) ** 2,
            flipped,
        )


def _product(left: Csr, right: FloatArray) -> FloatArray:
    product: FloatArray = left @ right
    return product


def _per_latent(weights_FG: Csr, values_GKK: FloatArray) -> FloatArray:
    """Sum over classes of words of a K × K matrix, [F, K, K]."""
    num_classes, rows, columns = values_GKK.shape
    summed = _product(weights_FG, values_GKK.reshape(num_classes, rows * columns))
    return summed.reshape(weights_FG.shape[0], rows, columns)


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
