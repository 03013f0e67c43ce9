"""Where each supported latent fires: contexts with every active token, frequent tokens, activations by size.

Free of torch. What `features.html` and `saescope-feature` show; `examples.parquet` has only the strongest
token of a few latents.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from saescope.analysis.examples import AFTER, BEFORE, by_strength, strongest_of_documents
from saescope.extraction.codes import Codes
from saescope.text.windows import Windows

log = logging.getLogger(__name__)

TOP = 5
"""Contexts of the strongest documents, one each."""
QUANTILES = (0.9, 0.5, 0.1)
"""Further contexts: the activation that this share of the latent's activations does not exceed."""
MANY = 20_000
"""With more latents than these each has half as many contexts, so that the page stays small."""
BINS = 20
"""Equal bins of activation / largest activation."""
FREQUENT = 6
"""Tokens on which the latent fires most often."""
ENTRIES = 100_000_000
"""Active latents read at most; of larger probe sets the first tokens, and a log line says so."""


@dataclass(frozen=True)
class LatentContexts:
    """L latents with C contexts, of which A tokens are active. R tokens of all windows, W windows."""

    latent_L: npt.NDArray[np.int32]
    """Latent numbers, ascending."""

    first_L: npt.NDArray[np.int64]
    """[L + 1]: latent l owns contexts first_L[l] to first_L[l + 1]."""

    row_C: npt.NDArray[np.int32]
    """Row of the token that the context is about, among the R tokens."""

    quantile_C: npt.NDArray[np.uint8]
    """0: of the strongest; 90, 50, 10: in percent, where in the latent's activations it stands."""

    first_C: npt.NDArray[np.int64]
    """[C + 1]: context c owns active tokens first_C[c] to first_C[c + 1]."""

    offset_A: npt.NDArray[np.int8]
    """Row of an active token minus that of its context, -24 to 12."""

    act_A: npt.NDArray[np.float16]
    """Its activation."""

    histogram_LB: npt.NDArray[np.uint32]
    """Active tokens by activation / largest activation, in `BINS` equal bins."""

    frequent_LT: npt.NDArray[np.int32]
    """Token ids on which the latent fires most often, -1 where there are no more."""

    share_LT: npt.NDArray[np.float16]
    """The share of its firings on each of them."""

    id_R: npt.NDArray[np.int32]
    """Token ids of all windows, laid end to end."""

    first_W: npt.NDArray[np.int64]
    """[W + 1]: first row of each window."""

    task_W: npt.NDArray[np.int16]
    """Task of each window."""

    doc_W: npt.NDArray[np.int32]
    """Document of each window."""

    tokens: int
    """Counted tokens read: all of them, or the first of a very large probe set."""


def find_contexts(codes: Codes, windows: Windows, latents: Sequence[int]) -> LatentContexts:
    """Contexts, frequent tokens and activation histograms of `latents`."""
    latent_L = np.array(sorted(latents), dtype=np.int32)
    first_W = np.concatenate([[0], np.cumsum([len(ids) for ids in windows.ids])]).astype(np.int64)
    num_tokens = int(np.searchsorted(codes.indptr, ENTRIES, side="right")) - 1
    num_tokens = max(1, min(num_tokens, codes.num_tokens))
    if num_tokens < codes.num_tokens:
        log.info("contexts: of the first %d of %d tokens", num_tokens, codes.num_tokens)
    end = int(codes.indptr[num_tokens])
    act_NF = sp.csr_matrix(
        (np.asarray(codes.acts[:end]), np.asarray(codes.latents[:end]), codes.indptr[: num_tokens + 1]),
        shape=(num_tokens, codes.num_latents),
    )
    act_FN = act_NF.tocsc()
    row_N = first_W[codes.window_N[:num_tokens]] + codes.position_N[:num_tokens]
    id_R = np.concatenate(windows.ids).astype(np.int32)
    many = len(latent_L) > MANY
    top, quantiles = (TOP // 2, QUANTILES[1:2]) if many else (TOP, QUANTILES)
    rows: list[npt.NDArray[np.int64]] = []
    marks: list[npt.NDArray[np.uint8]] = []
    offsets: list[npt.NDArray[np.int8]] = []
    acts: list[npt.NDArray[np.float16]] = []
    sizes_C: list[int] = []
    histogram_LB = np.zeros((len(latent_L), BINS), dtype=np.uint32)
    frequent_LT = np.full((len(latent_L), FREQUENT), -1, dtype=np.int32)
    share_LT = np.zeros((len(latent_L), FREQUENT), dtype=np.float16)
    for at, latent in enumerate(latent_L):
        part = slice(act_FN.indptr[latent], act_FN.indptr[latent + 1])
        token_A, act_A = act_FN.indices[part], act_FN.data[part]
        if not len(token_A):
            rows.append(np.zeros(0, dtype=np.int64))
            continue
        chosen, mark = _choose(token_A, act_A, codes.doc_N, top, quantiles)
        row_A = row_N[token_A]
        rows.append(row_A[chosen])
        marks.append(mark)
        # rows ascend with tokens: the active ones of a context stand in one range
        low = np.searchsorted(row_A, row_A[chosen] - BEFORE)
        high = np.searchsorted(row_A, row_A[chosen] + AFTER, side="right")
        for place, a, b in zip(chosen, low, high, strict=True):
            window = codes.window_N[token_A[place]]
            same = codes.window_N[token_A[a:b]] == window
            offsets.append((row_A[a:b][same] - row_A[place]).astype(np.int8))
            acts.append(act_A[a:b][same].astype(np.float16))
            sizes_C.append(int(same.sum()))
        largest = float(act_A.max())
        bins = np.minimum((act_A * (BINS / largest)).astype(np.int64), BINS - 1)
        histogram_LB[at] = np.bincount(bins, minlength=BINS)
        ids, counts = np.unique(id_R[row_A], return_counts=True)
        order = np.lexsort((ids, -counts))[:FREQUENT]
        frequent_LT[at, : len(order)] = ids[order]
        share_LT[at, : len(order)] = counts[order] / len(row_A)
    return LatentContexts(
        latent_L=latent_L,
        first_L=_ends([len(part) for part in rows]),
        row_C=_joined(rows, np.int32),
        quantile_C=_joined(marks, np.uint8),
        first_C=_ends(sizes_C),
        offset_A=_joined(offsets, np.int8),
        act_A=_joined(acts, np.float16),
        histogram_LB=histogram_LB,
        frequent_LT=frequent_LT,
        share_LT=share_LT,
        id_R=id_R,
        first_W=first_W,
        task_W=windows.task_W.astype(np.int16),
        doc_W=windows.doc_W.astype(np.int32),
        tokens=num_tokens,
    )


def _choose(
    token_A: npt.NDArray[Any],
    act_A: npt.NDArray[Any],
    doc_N: npt.NDArray[Any],
    top: int,
    quantiles: Sequence[float],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Places among a latent's A active tokens, with their marks.

    The strongest token of each of the `top` strongest documents, then for each quantile the token whose
    activation stands there. A token is shown once.
    """
    order = by_strength(token_A, act_A)
    chosen = strongest_of_documents(doc_N[token_A], order, top).tolist()
    marks = [0] * len(chosen)
    for quantile in quantiles:
        place = int(order[min(len(order) - 1, int((1.0 - quantile) * len(order)))])
        if place not in chosen:
            chosen.append(place)
            marks.append(round(100 * quantile))
    return np.array(chosen, dtype=np.int64), np.array(marks, dtype=np.uint8)


def _ends(sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.array(sizes, dtype=np.int64))]).astype(np.int64)


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype)


def strings_of(
    ids: npt.NDArray[np.int32], decode: Callable[[list[int]], str]
) -> tuple[npt.NDArray[np.int32], list[str]]:
    """The distinct ids, ascending, and the text of each."""
    distinct = np.unique(ids[ids >= 0]).astype(np.int32)
    return distinct, [decode([int(number)]) for number in distinct]
