"""Tokens of the same word, and how each word is spread over the tasks."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, FloatArray, IntArray

NO_WORDS = "token ids are not known: only activations were given"
"""Why nothing is said beyond words."""


@dataclass(frozen=True)
class WordClasses:
    """Words that occur in two tasks or more; words spread over the tasks in one ratio are one class, G."""

    class_N: IntArray
    """Class of each token; -1 where its word occurs in a single task, or is not known."""
    share_GK: FloatArray
    """Share of a class's occurrences in each task."""

    @classmethod
    def of(cls, word_N: AnyIntArray, task_N: AnyIntArray, num_tasks: int) -> "WordClasses":
        """From the word and the task of each token; a negative word is an unknown one."""
        known = np.flatnonzero(np.asarray(word_N) >= 0)
        _, word = np.unique(np.asarray(word_N)[known], return_inverse=True)
        num_words = int(word.max(initial=-1)) + 1
        counts_WK = np.bincount(
            word * num_tasks + np.asarray(task_N)[known], minlength=num_words * num_tasks
        ).reshape(num_words, num_tasks)
        shared = np.flatnonzero((counts_WK > 0).sum(axis=1) >= 2)
        ratio_WK = counts_WK[shared] // np.gcd.reduce(counts_WK[shared], axis=1, keepdims=True)
        ratio_GK, class_of_shared = np.unique(ratio_WK, axis=0, return_inverse=True)
        class_W = np.full(num_words, -1, dtype=np.int64)
        class_W[shared] = class_of_shared.ravel()
        class_N = np.full(len(word_N), -1, dtype=np.int64)
        class_N[known] = class_W[word]
        return cls(class_N, ratio_GK / ratio_GK.sum(axis=1, keepdims=True))


def bigrams(previous_N: AnyIntArray, token_N: AnyIntArray) -> IntArray:
    """A number for each pair of token ids; -1 where there is no previous one (`previous_N` negative)."""
    previous, token = np.asarray(previous_N, dtype=np.int64), np.asarray(token_N, dtype=np.int64)
    pair_N: IntArray = np.where(previous < 0, -1, previous * (token.max(initial=0) + 1) + token)
    return pair_N
