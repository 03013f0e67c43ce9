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
