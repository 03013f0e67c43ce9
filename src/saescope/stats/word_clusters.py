"""Firings on words, by latent and document: what the statistics given the word sum over."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from saescope.stats.arrays import Csr, FloatArray, IntArray
from saescope.stats.word_classes import WordClasses

BLOCK_FIRINGS, BLOCK_ENTRIES = 400_000, 3_000_000
"""Firings, and latents × classes of words, of a block of latents."""


@dataclass(frozen=True)
class Corpus:
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
    leverage_D: FloatArray
    """1 over the share of its task's tokens that a document leaves to the others; 1 if it has them all."""
    sign_BD: FloatArray
    """Random signs of the documents."""

    @classmethod
    def of(cls, doc_N: IntArray, task_D: IntArray, num_tasks: int, draws: int, seed: int) -> "Corpus":
        """From the document of each token and the task of each document, with `draws` random signs."""
        tokens_D = np.bincount(doc_N, minlength=task_D.size)
        docs_K = np.bincount(task_D, tokens_D > 0, num_tasks)
        several = docs_K > 1
        tokens_K = _totals(task_D, tokens_D.astype(np.float64), num_tasks)
        others_D = tokens_K[task_D] - tokens_D
        return cls(
            doc_N,
            task_D,
            tokens_D,
            tokens_K,
            _totals(task_D, tokens_D.astype(np.float64) ** 2, num_tasks),
            several.astype(np.float64),
            np.where(several, docs_K / np.maximum(docs_K - 1.0, 1.0), 1.0),
            np.where(others_D > 0, tokens_K[task_D] / np.maximum(others_D, 1.0), 1.0),
            np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, task_D.size)),
        )


def _totals(task_D: IntArray, values_D: FloatArray, num_tasks: int) -> FloatArray:
    totals_K: FloatArray = np.bincount(task_D, values_D, num_tasks).astype(np.float64)
    return totals_K


def latent_ranges(firings_F: IntArray, num_classes: int) -> Iterator[slice]:
    """Consecutive latents, so many at a time that a block's arrays stay small."""
    most = max(1, BLOCK_ENTRIES // max(1, num_classes))
    before = np.concatenate([[0], np.cumsum(firings_F)])
    start = 0
    while start < firings_F.size:
        stop = int(np.searchsorted(before, before[start] + BLOCK_FIRINGS, side="right")) - 1
        stop = min(max(stop, start + 1), start + most, firings_F.size)
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True)
class Firings:
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
        cls, by_latent: sparse.csc_matrix, block: slice, classes: WordClasses, corpus: Corpus
    ) -> "Firings":
        """Those of the latents (columns) `block` of 0/1 firings [N, F]."""
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
            alone_FK + product(counts, classes.share_GK),
            counts,
        )


def _by_task(latent_M: IntArray, task_M: IntArray, size: int, num_tasks: int) -> FloatArray:
    counts = np.bincount(latent_M * num_tasks + task_M, minlength=size * num_tasks)
    return counts.reshape(size, num_tasks).astype(np.float64)


@dataclass(frozen=True)
class Clusters:
    """Firings of each pair of latent and document, C; a document is a cluster."""

    firings: Firings
    corpus: Corpus
    task_C: IntArray
    tokens_C: FloatArray
    """Tokens of the document, [C, 1]."""
    fired_C: FloatArray
    gather: Csr
    """Sums over the clusters of each latent and task, [F * K, C]."""

    @classmethod
    def of(cls, firings: Firings, corpus: Corpus) -> "Clusters":
        """The clusters of a block of latents."""
        task_C = corpus.task_D[firings.doc_C]
        fired_C = np.diff(firings.start_C).astype(np.float64)
        size, num_tasks = firings.observed_FK.shape
        place = firings.latent_C * num_tasks + task_C
        gather = sparse.coo_matrix(
            (np.ones(fired_C.size), (place, np.arange(fired_C.size))), shape=(size * num_tasks, fired_C.size)
        ).tocsr()
        tokens_C = corpus.tokens_D[firings.doc_C].astype(np.float64)[:, None]
        return cls(firings, corpus, task_C, tokens_C, fired_C, gather)

    def by_class(self, values_GX: FloatArray, weight_M: FloatArray | None = None) -> FloatArray:
        """Sum over the firings of each cluster of values of their classes of words, [C, X]."""
        firings = self.firings
        weight_M = np.ones(firings.class_M.size) if weight_M is None else weight_M
        shape = self.fired_C.size, len(values_GX)
        return product(
            sparse.csr_matrix((weight_M, firings.class_M, firings.start_C), shape=shape), values_GX
        )

    def scores(self, expected_CK: FloatArray) -> FloatArray:
        """Firings of each cluster, which are all on its document's task, less those expected on each task."""
        score_CK = -expected_CK
        score_CK[np.arange(self.fired_C.size), self.task_C] += self.fired_C
        return score_CK

    def total(self, values_CX: FloatArray) -> FloatArray:
        """Sums over the documents of each task, [F, K, X]."""
        size, num_tasks = self.firings.observed_FK.shape
        return product(self.gather, values_CX).reshape(size, num_tasks, -1)

    def scatter(self, values_CX: FloatArray, mean_FKX: FloatArray) -> FloatArray:
        """sum_d (x_d - n_d mean)^2 over all documents of each task, [F, K, X]."""
        squares, cross = self.total(values_CX**2), self.total(values_CX * self.tokens_C)
        return squares - 2.0 * mean_FKX * cross + mean_FKX**2 * self.corpus.tokens2_K[:, None]

    def own_scatter(self, scores_CK: FloatArray, mean_FK: FloatArray) -> FloatArray:
        """`scatter` of each document's score for its own task, as if the document were left out, [F, K].

        A deviation is divided by 1 - h, h the share of the document in its task's tokens: the jackknife
        (CR3) correction of a clustered variance. Infinite for a task of a single document.
        """
        corpus = self.corpus
        leverage_C = corpus.leverage_D[self.firings.doc_C]
        own_C = leverage_C * scores_CK[np.arange(self.fired_C.size), self.task_C]
        tokens_C = leverage_C * self.tokens_C[:, 0]
        squares, cross = np.moveaxis(self.total(np.stack([own_C**2, own_C * tokens_C], axis=1)), -1, 0)
        tokens2_K = _totals(corpus.task_D, (corpus.leverage_D * corpus.tokens_D) ** 2, corpus.tokens_K.size)
        scatter_FK = squares - 2.0 * mean_FK * cross + mean_FK**2 * tokens2_K
        return np.where(corpus.centred_K > 0, scatter_FK, np.inf)


def product(left: Csr, right: FloatArray) -> FloatArray:
    """A sparse matrix times a dense one, [rows, X]."""
    result: FloatArray = left @ right
    return result


def per_latent(weights_FG: Csr, values_GKK: FloatArray) -> FloatArray:
    """Sum over classes of words of a K × K matrix, [F, K, K]."""
    num_classes, rows, columns = values_GKK.shape
    summed = product(weights_FG, values_GKK.reshape(num_classes, rows * columns))
    return summed.reshape(weights_FG.shape[0], rows, columns)
