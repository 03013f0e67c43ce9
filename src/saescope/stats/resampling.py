"""Documents drawn anew: the same draws in every job that measures the same documents.

Two schemes. A *bootstrap* draws documents with replacement within their task, thousands of times: for
statistics that are sums over documents. A *delete-a-group jackknife* splits the documents of every task at
random into a few groups and leaves out one group at a time: for statistics that have to be computed anew.
Neither depends on the latents, nor on the seed of a job: two jobs with the same documents are resampled
together, and their differences keep what the documents add to both.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from saescope.stats.arrays import AnyIntArray, FloatArray, IntArray

DRAWS_AT_ONCE = 64
"""Draws of a task's documents formed in one go: numpy's are eight bytes each."""


def document_seed(task_D: AnyIntArray) -> int:
    """A seed that follows from the documents: how many there are, and of which task."""
    tasks = np.ascontiguousarray(task_D, dtype="<i8")
    return int.from_bytes(hashlib.sha256(tasks.tobytes()).digest()[:8], "little")


def document_groups(task_D: AnyIntArray, num_groups: int) -> IntArray:
    """Group of every document, 0 … `num_groups` − 1, the documents of each task dealt out at random.

    −1, no group: the only document of a task, which is never left out, and all where `num_groups` < 2. Tasks
    start dealing at different groups, so that small tasks do not all fill the first ones.
    """
    task_D = np.asarray(task_D, dtype=np.int64)
    group_D = np.full(task_D.size, -1, dtype=np.int64)
    if num_groups < 2:
        return group_D
    seed, start = document_seed(task_D), 0
    for task in np.unique(task_D):
        docs = np.flatnonzero(task_D == task)
        if docs.size > 1:
            order = np.random.default_rng([seed, int(task)]).permutation(docs)
            group_D[order] = (start + np.arange(docs.size)) % num_groups
            start += docs.size
    return group_D


def some_documents(tokens_D: AnyIntArray, task_D: AnyIntArray, max_tokens: int) -> IntArray:
    """Numbers of documents with about `max_tokens` tokens in all, ascending; all where they have no more.

    Of every task the same share of tokens, so that their mix stays; at least one document. The choice is
    that of any job on the same documents.
    """
    tokens, task = np.asarray(tokens_D, dtype=np.int64), np.asarray(task_D, dtype=np.int64)
    if tokens.sum() <= max_tokens:
        return np.arange(tokens.size)
    seed, chosen = document_seed(task), []
    for number in np.unique(task):
        docs = np.flatnonzero(task == number)
        order = np.random.default_rng([seed, int(number)]).permutation(docs)
        ends = np.cumsum(tokens[order])
        fit = int(np.searchsorted(ends, ends[-1] * max_tokens / tokens.sum(), side="right"))
        chosen.append(order[: max(1, fit)])
    return np.sort(np.concatenate(chosen))


def draws_digest(weight_BD: FloatArray, tokens_D: AnyIntArray) -> str:
    """Names some draws, where they do not follow from the documents alone.

    Equal in two jobs with the same probes where the same documents, with as many tokens, are drawn as often.
    """
    digest = hashlib.sha256(np.ascontiguousarray(weight_BD, dtype="<i4").tobytes())
    digest.update(np.ascontiguousarray(tokens_D, dtype="<i8").tobytes())
    return digest.hexdigest()[:16]


def document_weights(task_D: AnyIntArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """How often every document is drawn with replacement within its task, [B, D], all from one `rng`."""
    weight_BD = np.zeros((resamples, np.size(task_D)))
    for task in np.unique(task_D):
        docs = np.flatnonzero(task_D == task)
        weight_BD[:, docs] = rng.multinomial(docs.size, np.full(docs.size, 1.0 / docs.size), size=resamples)
    return weight_BD


def drawn_documents(
    docs_of_task: list[IntArray], tokens_D: AnyIntArray, resamples: int, seed: int
) -> tuple[npt.NDArray[np.int16], FloatArray]:
    """How often every document is drawn [B, D], and the tokens that each task then has [B, K].

    Multinomial within each task; every task has a generator of its own. The first draws are the same however
    many there are.
    """
    weight_BD = np.zeros((resamples, tokens_D.size), dtype=np.int16)
    tokens_BK = np.empty((resamples, len(docs_of_task)))
    for task, docs in enumerate(docs_of_task):
        rng = np.random.default_rng([seed, task])
        share = np.full(docs.size, 1.0 / docs.size)
        for start in range(0, resamples, DRAWS_AT_ONCE):
            draws = slice(start, min(start + DRAWS_AT_ONCE, resamples))
            drawn_BD = rng.multinomial(docs.size, share, size=draws.stop - draws.start)
            weight_BD[draws, docs] = drawn_BD
            tokens_BK[draws, task] = drawn_BD @ tokens_D[docs]
    return weight_BD, tokens_BK
