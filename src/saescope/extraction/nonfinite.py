"""Tokens whose activations are NaN or infinite: how many, and in which documents. Free of torch."""

import numpy as np
import numpy.typing as npt

from saescope.errors import choices

SHOWN = 12
"""Documents listed at most."""


def nonfinite_message(
    window_N: npt.NDArray[np.int64], doc_W: npt.NDArray[np.int64], task_D: npt.NDArray[np.int64],
    tasks: tuple[str, ...], hookpoint: str,
) -> str:  # fmt: skip
    """Part of a message: number of tokens and which documents. `window_N`: window of each such token."""
    docs = np.unique(doc_W[window_N])
    first_K = np.searchsorted(task_D, np.arange(len(tasks)))  # documents are numbered task after task
    names = [f"{tasks[task_D[doc]]} {doc - first_K[task_D[doc]] + 1}" for doc in docs]
    return (
        f"NaN or infinite activations at {hookpoint} on {len(window_N):,} tokens of {len(docs):,} documents, "
        f"counted from 1 within each task: {choices(names, SHOWN)}"
    )
