"""Top-activating contexts of the most specialised latents of each task."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from saescope.extraction.codes import Codes
from saescope.text.windows import Windows

BEFORE, AFTER = 24, 12
"""Tokens shown before and after the one that a context is about; contexts stay inside their window."""
COLUMNS = [
    "latent",
    "rank",
    "task",
    "doc",
    "position",
    "activation",
    "token",
    "context_before",
    "context_after",
]


def choose_latents(features: pd.DataFrame, tasks: tuple[str, ...], per_task: int) -> list[int]:
    """Supported latents with the highest SI of each task they prefer, significant ones first."""
    chosen: list[int] = []
    live = features[features.supported & features.si.notna()].assign(
        weak=lambda table: ~(table.si_q <= 0.05), descending=lambda table: -table.si
    )
    for task in tasks:
        of_task = live[live.top_task == task].sort_values(["weak", "descending", "latent"])
        chosen += [int(latent) for latent in of_task.latent[:per_task]]
    return chosen


def by_strength(tokens: npt.NDArray[Any], acts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Places of a latent's active tokens, the strongest first, of equal ones the earlier."""
    return np.lexsort((tokens, -acts)).astype(np.int64)


def strongest_of_documents(
    docs: npt.NDArray[Any], order: npt.NDArray[np.int64], number: int
) -> npt.NDArray[np.int64]:
    """Places of the strongest token of each of the `number` strongest documents, strongest first.

    `docs`: document of each active token; `order`: `by_strength`.
    """
    _, first_of_doc = np.unique(docs[order], return_index=True)
    return order[np.sort(first_of_doc)[:number]]


def top_contexts(
    codes: Codes, windows: Windows, latents: list[int], contexts: int, decode: Callable[[Any], str]
) -> pd.DataFrame:
    """`examples.parquet`: for each latent its strongest token in each of its `contexts` strongest documents.

    One context per document, so that a repetitive text cannot fill the list. `position` counts from the start
    of the document; contexts stay inside the window, which is all the model saw.
    """
    act_NL = codes.acts_of(np.array(latents, dtype=np.int64))
    rows: list[dict[str, Any]] = []
    for place, latent in enumerate(latents):
        part = slice(act_NL.indptr[place], act_NL.indptr[place + 1])
        tokens, acts = act_NL.indices[part], act_NL.data[part]
        for rank, at in enumerate(
            strongest_of_documents(codes.doc_N[tokens], by_strength(tokens, acts), contexts)
        ):
            token = int(tokens[at])
            window, position = int(codes.window_N[token]), int(codes.position_N[token])
            ids = windows.ids[window]
            rows.append(
                {
                    "latent": latent,
                    "rank": rank,
                    "task": codes.tasks[codes.task_N[token]],
                    "doc": int(codes.doc_N[token]),
                    "position": int(windows.start_W[window]) + position,
                    "activation": float(acts[at]),
                    "token": decode(ids[position : position + 1]),
                    "context_before": decode(ids[max(0, position - BEFORE) : position]),
                    "context_after": decode(ids[position + 1 : position + 1 + AFTER]),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)
