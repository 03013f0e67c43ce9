"""Data with known structure, shared by tests and benchmarks."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from saescope.stats.arrays import Csr, FloatArray, IntArray

ZIPF = 0.8


@dataclass(frozen=True)
class Planted:
    """Activations with planted modules."""

    active_NF: Csr
    task_N: IntArray
    module_F: IntArray
    """Task a latent belongs to; -1 for a general latent."""


def noise(num_latents: int, k: int, num_tokens: int, *, seed: int) -> Csr:
    """G0: k latents a token without replacement from Zipf 0.8 rates, tokens independent; no structure."""
    rng = np.random.default_rng(seed)
    weight_TF: FloatArray = (np.arange(1.0, num_latents + 1) ** -ZIPF)[None, :]
    return _top_k(weight_TF, np.zeros(num_tokens, dtype=np.int64), k, rng)


def planted(
    num_latents: int,
    k: int,
    num_tokens: int,
    *,
    boost: float,
    seed: int,
    num_tasks: int = 6,
    share: float = 0.5,
) -> Planted:
    """G1: as G0 with ranks permuted; a latent of task t gets `boost` on its logit on tokens of task t.

    A latent belongs to a task with probability `share`, every token to one at random.
    """
    rng = np.random.default_rng(seed)
    rank = rng.permutation(num_latents) + 1.0
    module = np.where(rng.random(num_latents) < share, rng.integers(num_tasks, size=num_latents), -1)
    task = rng.integers(num_tasks, size=num_tokens)
    weight_TF: FloatArray = rank**-ZIPF * np.exp(boost * (module == np.arange(num_tasks)[:, None]))
    return Planted(_top_k(weight_TF, task, k, rng), task, module)


def bursty(
    num_latents: int,
    docs_per_task: int,
    *,
    seed: int,
    num_tasks: int = 6,
    doc_tokens: int = 128,
    doc_share: float = 0.05,
    rate: float = 0.2,
) -> tuple[Csr, IntArray, IntArray]:
    """Each latent is on in a random 5 % of documents, whatever their task, at rate 0.2 there.

    Returns (doc_counts_DF, tokens_D, task_D).
    """
    rng = np.random.default_rng(seed)
    num_docs = num_tasks * docs_per_task
    on = rng.random((num_docs, num_latents)) < doc_share
    on[rng.integers(num_docs, size=num_latents), np.arange(num_latents)] = True
    counts = sparse.csr_matrix(np.where(on, rng.binomial(doc_tokens, rate, size=on.shape), 0))
    return counts, np.full(num_docs, doc_tokens), np.repeat(np.arange(num_tasks), docs_per_task)


def documents(active_NF: Csr, task_N: IntArray, doc_tokens: int) -> tuple[Csr, IntArray, IntArray]:
    """Consecutive tokens of one task gathered into documents: (doc_counts_DF, tokens_D, task_D)."""
    order = np.argsort(task_N, kind="stable")
    within = np.arange(order.size) - np.searchsorted(task_N[order], task_N[order])
    starts = np.flatnonzero(within % doc_tokens == 0)
    doc = np.repeat(np.arange(starts.size), np.diff(np.append(starts, order.size)))
    gather = sparse.csr_matrix((np.ones(order.size, np.int64), (doc, order)), shape=(starts.size, order.size))
    return sparse.csr_matrix(gather @ active_NF), np.bincount(doc), task_N[order][starts]


@dataclass(frozen=True)
class WordCorpus:
    """Documents of words; tasks have words of their own, and documents theirs."""

    word_N: IntArray
    doc_N: IntArray
    task_D: IntArray
    num_words: int

    @property
    def task_N(self) -> IntArray:
        """Task of each token."""
        task_N: IntArray = self.task_D[self.doc_N]
        return task_N


def word_corpus(
    num_docs: int, *, seed: int, num_words: int = 3000, num_tasks: int = 6, doc_tokens: int = 300
) -> WordCorpus:
    """Zipf words whose frequencies differ by task, a third of them rare in each; bursts within documents.

    Tasks have 6 to 30 % of the documents, whose lengths are log-normal around `doc_tokens`.
    """
    rng = np.random.default_rng(seed)
    share = np.linspace(5.0, 1.0, num_tasks)
    sizes = np.maximum(4, np.round(share / share.sum() * num_docs)).astype(np.int64)
    task_D = np.repeat(np.arange(num_tasks), sizes)
    chance_KW = np.exp(rng.standard_normal((num_tasks, num_words))) / np.arange(1, num_words + 1)
    chance_KW = np.where(rng.random(chance_KW.shape) < 0.3, chance_KW * 1e-3, chance_KW)
    chance_KW /= chance_KW.sum(axis=1, keepdims=True)
    tokens_D = np.clip(rng.lognormal(np.log(doc_tokens), 0.6, task_D.size), 30, 3000).astype(np.int64)
    words = []
    for task, tokens in zip(task_D, tokens_D, strict=True):
        chance_W = rng.gamma(np.maximum(1000.0 * chance_KW[task], 1e-6))
        words.append(rng.choice(num_words, tokens, p=chance_W / chance_W.sum()))
    return WordCorpus(np.concatenate(words), np.repeat(np.arange(task_D.size), tokens_D), task_D, num_words)


def word_detectors(
    corpus: WordCorpus, num_latents: int, *, seed: int, burst: str = "none", effect: float = 0.0
) -> Csr:
    """Latents that fire on 1 to 60 words each, with a probability of the word's own; [N, F].

    `burst`: `always` fires on every occurrence; `on_off` in 15 to 60 % of documents only; `gamma` by
    gamma-distributed factors of documents; `two_tasks` is on in 30 % of the documents of two tasks at the
    same mean rate; `none`. `effect`: log of how much more they fire on one task than on the others. Only
    latents with 50 firings in 10 documents are kept.
    """
    rng = np.random.default_rng(seed)
    occurrences_W = np.bincount(corpus.word_N, minlength=corpus.num_words)
    num_docs, num_tasks = corpus.task_D.size, int(corpus.task_D.max()) + 1
    columns: list[IntArray] = []
    for _ in range(100 * num_latents):
        if len(columns) == num_latents:
            break
        size = int(np.exp(rng.uniform(0.0, np.log(60.0))))
        words = rng.choice(corpus.num_words, size, replace=False, p=occurrences_W / occurrences_W.sum())
        chance_W = np.zeros(corpus.num_words)
        chance_W[words] = 1.0 if burst == "always" else rng.uniform(0.2, 0.9, size)
        factor_D = np.ones(num_docs)
        if burst == "on_off":
            factor_D = (rng.random(num_docs) < rng.uniform(0.15, 0.6)).astype(np.float64)
        elif burst == "gamma":
            shape = np.exp(rng.uniform(np.log(0.3), np.log(5.0)))
            factor_D = rng.gamma(shape, 1.0 / shape, num_docs)
        elif burst == "two_tasks":
            bursty_D = np.isin(corpus.task_D, rng.choice(num_tasks, 2, replace=False))
            factor_D = 0.3 * np.where(bursty_D, (rng.random(num_docs) < 0.3) / 0.3, 1.0)
        if effect:
            factor_D = np.where(
                corpus.task_D == rng.integers(num_tasks), factor_D, factor_D * np.exp(-effect)
            )
        chance_N = np.minimum(1.0, chance_W[corpus.word_N] * factor_D[corpus.doc_N])
        fired = np.flatnonzero(rng.random(chance_N.size) < chance_N)
        if fired.size >= 50 and np.unique(corpus.doc_N[fired]).size >= 10:
            columns.append(fired)
    ends = np.cumsum([0, *(column.size for column in columns)])
    ones = np.ones(ends[-1], dtype=np.int64)
    rows = np.concatenate(columns)
    return sparse.csc_matrix((ones, rows, ends), shape=(corpus.word_N.size, len(columns))).tocsr()


def hidden_modules(
    corpus: WordCorpus,
    num_latents: int,
    *,
    boost: float,
    seed: int,
    num_modules: int = 6,
    num_themes: int = 6,
    stretch: int = 20,
) -> tuple[Csr, IntArray, IntArray]:
    """Latents that read words, and modules that words do not tell: (active [N, F], module [F], theme [F]).

    A latent fires on 20 words of its theme, each with a probability of 0.4 to 0.9, and on 20 of the 40 most
    frequent words, which belong to no theme, with 0.01 to 0.05. Every stretch of tokens is in the state of
    one module, whatever its words, and in the state of its module the logits of a latent are higher by
    `boost`; with boost 0 it is a pure token detector. Themes and modules are independent.
    """
    rng = np.random.default_rng(seed)
    state_N = np.repeat(rng.integers(num_modules, size=corpus.word_N.size // stretch + 1), stretch)
    state_N = state_N[: corpus.word_N.size]
    by_frequency = np.argsort(-np.bincount(corpus.word_N, minlength=corpus.num_words), kind="stable")
    frequent, others = by_frequency[:40], by_frequency[40:]
    theme_of_other = rng.integers(num_themes, size=others.size)
    module_F, theme_F = (
        rng.integers(num_modules, size=num_latents),
        rng.integers(num_themes, size=num_latents),
    )
    columns: list[IntArray] = []
    for module, theme in zip(module_F, theme_F, strict=True):
        logit_W = np.full(corpus.num_words, -np.inf)
        for words, low, high in (
            (frequent, 0.01, 0.05),
            (others[theme_of_other == theme], 0.4, 0.9),
        ):
            chosen = rng.choice(words, min(20, words.size), replace=False)
            chance = rng.uniform(low, high, chosen.size)
            logit_W[chosen] = np.log(chance / (1.0 - chance))
        logit_N = logit_W[corpus.word_N] + boost * (state_N == module)
        columns.append(np.flatnonzero(rng.logistic(size=logit_N.size) < logit_N))
    ends = np.cumsum([0, *(column.size for column in columns)])
    ones = np.ones(ends[-1], dtype=np.int64)
    shape = (corpus.word_N.size, num_latents)
    active = sparse.csc_matrix((ones, np.concatenate(columns), ends), shape=shape).tocsr()
    return active, module_F, theme_F


def _top_k(weight_TF: FloatArray, kind_N: IntArray, k: int, rng: np.random.Generator) -> Csr:
    """The k largest of log weight + Gumbel noise, drawn as the k smallest of exponential / weight."""
    num_latents, num_tokens = weight_TF.shape[1], kind_N.size
    scale_TF = (1.0 / weight_TF).astype(np.float32)
    latent_NK = np.empty((num_tokens, k), dtype=np.int32)
    step = max(1, 8_000_000 // num_latents)
    for start in range(0, num_tokens, step):
        kinds = kind_N[start : start + step]
        keys = rng.standard_exponential((kinds.size, num_latents), dtype=np.float32) * scale_TF[kinds]
        latent_NK[start : start + step] = np.argpartition(keys, k - 1, axis=1)[:, :k]
    latent_NK.sort(axis=1)
    indptr = np.arange(0, (num_tokens + 1) * k, k)
    return sparse.csr_matrix(
        (np.ones(latent_NK.size, np.int32), latent_NK.ravel(), indptr), shape=(num_tokens, num_latents)
    )
