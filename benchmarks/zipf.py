"""Codes with Zipf rates and planted tasks for benchmarks/stats.py and size.py, drawn in time linear in the
tokens; large ones lie in files, as a job's do."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from saescope.stats import scratch
from saescope.stats.row_blocks import entry_blocks
from saescope.stats.synthetic import ZIPF

TASKS = 6
DOC_TOKENS = 128
DRAWN_AT_ONCE = 250_000
"""Tokens whose latents are drawn in one go."""


@dataclass(frozen=True)
class ZipfCodes:
    """Tokens in document order, documents in task order."""

    active_NF: sparse.csr_matrix
    task_N: np.ndarray
    doc_N: np.ndarray

    @property
    def documents(self) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
        """(doc_counts_DF, tokens_D, task_D)."""
        starts = np.flatnonzero(np.diff(self.doc_N, prepend=-1))
        tokens_D = np.diff(np.append(starts, self.doc_N.size))
        ones, ends = np.ones(self.doc_N.size, np.int32), np.append(starts, self.doc_N.size)
        gather = sparse.csr_matrix((ones, np.arange(ones.size), ends), shape=(starts.size, self.doc_N.size))
        return sparse.csr_matrix(gather @ self.active_NF), tokens_D, self.task_N[starts]


def zipf_codes(
    num_tokens: int, num_latents: int, k: int = 32, boost: float = 2.0, seed: int = 0, power: float = ZIPF
) -> ZipfCodes:
    """The model of `saescope.stats.synthetic.planted`: half of the latents prefer a task by e^boost.

    Latents are drawn with replacement and repeats of a token drawn again, which is the same distribution as
    its Gumbel top-k, at a cost of N × k instead of N × F.
    """
    rng = np.random.default_rng(seed)
    rank = rng.permutation(num_latents) + 1.0
    module = np.where(rng.random(num_latents) < 0.5, rng.integers(TASKS, size=num_latents), -1)
    task_N = np.sort(np.arange(num_tokens) // DOC_TOKENS % TASKS)
    latents_NK = scratch.empty(num_tokens * k, np.int32).reshape(num_tokens, k)
    for task in range(TASKS):
        weight = rank**-power * np.exp(boost * (module == task))
        below = np.cumsum(weight) / weight.sum()
        first, end = (int(at) for at in np.searchsorted(task_N, [task, task + 1]))
        for start in range(first, end, DRAWN_AT_ONCE):
            stop = min(start + DRAWN_AT_ONCE, end)
            latents_NK[start:stop] = np.sort(_distinct(below, stop - start, k, rng), axis=1)
    ones = scratch.empty(latents_NK.size, np.int32)
    for entries in entry_blocks(ones.size):
        ones[entries] = 1
    active = sparse.csr_matrix(
        (ones, latents_NK.ravel(), np.arange(0, latents_NK.size + 1, k)), shape=(num_tokens, num_latents)
    )
    within = np.arange(num_tokens) - np.searchsorted(task_N, task_N)
    doc_N = np.cumsum(within % DOC_TOKENS == 0) - 1
    return ZipfCodes(active, task_N, doc_N)


def _distinct(below: np.ndarray, rows: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """k different latents a row: the first k of a sequence of draws that are new in their row."""
    chosen = np.empty((rows, k), dtype=np.int32)
    todo, draws = np.arange(rows), k + k // 2
    while todo.size:
        drawn = np.searchsorted(below, rng.random((todo.size, draws))).astype(np.int32)
        drawn = np.minimum(drawn, below.size - 1)
        order = np.argsort(drawn, axis=1, kind="stable")
        ranked = np.take_along_axis(drawn, order, 1)
        first = np.ones(drawn.shape, dtype=bool)
        np.put_along_axis(first, order[:, 1:], ranked[:, 1:] != ranked[:, :-1], 1)
        full = first.sum(1) >= k
        place = np.cumsum(first[full], axis=1)
        kept = first[full] & (place <= k)
        chosen[todo[full]] = drawn[full][kept].reshape(-1, k)
        todo, draws = todo[~full], 2 * draws
    return chosen
