"""Smaller reads of sparse codes: nested prefixes, and cuts that give tokens as many latents as they need.

Every read is "keep the entries whose key reaches a cut". Dropped entries stay in place with activation 0: an
SAE that can decode only its latest codes can then decode every read of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from saescope.sae.base import SparseCodes


class Point(NamedTuple):
    """One read: entries whose key reaches the cut."""

    selector: str
    """Which of `KEYS`."""
    k: float
    """Fraction of the SAE's k, or of its mean L0 where k varies."""
    cut: float


def ranks(codes: SparseCodes) -> Tensor:
    """Place of each entry in its token's order of |activation|, 0 the largest; ties in order of entries."""
    row_E, start_E = _rows(codes)
    order = torch.argsort(codes.acts.abs(), descending=True, stable=True)
    order = order[torch.argsort(row_E[order], stable=True)]
    rank_E = torch.empty_like(order)
    rank_E[order] = torch.arange(len(order), device=order.device)
    return rank_E - start_E


def prefix_key(codes: SparseCodes) -> Tensor:
    """`topk`: minus the rank; a cut of 1 − k′ keeps the k′ largest."""
    return -ranks(codes).float()


def act_key(codes: SparseCodes) -> Tensor:
    """`threshold`: |activation|, one cut for all tokens (as BatchTopK SAEs at inference, 2412.06410)."""
    return codes.acts.abs()


def top_p_key(codes: SparseCodes) -> Tensor:
    """`top_p`: minus the share of larger entries in the token's Σ activation².

    A cut of −p keeps the smallest set whose share exceeds p, and always the largest entry.
    """
    row_E, start_E = _rows(codes)
    place_E = start_E + ranks(codes)
    acts_E = codes.acts.double() ** 2
    sorted_E = torch.empty_like(acts_E)
    sorted_E[place_E] = acts_E
    before_E = torch.cumsum(sorted_E, 0) - sorted_E
    before_E = before_E - before_E[start_E] if len(before_E) else before_E
    total_N = torch.zeros(len(codes.sizes_N), dtype=torch.float64, device=acts_E.device)
    total_N = total_N.index_add(0, row_E, acts_E)
    share_E = before_E / total_N[row_E]  # in sorted order, where rows are the same
    return -share_E[place_E].clamp(0, 1).float()


def rel_max_key(codes: SparseCodes) -> Tensor:
    """`rel_max`: |activation| over the token's largest (D2DMoE's dynk_max, 2310.04361)."""
    row_E, _ = _rows(codes)
    acts_E = codes.acts.abs()
    largest_N = torch.zeros(len(codes.sizes_N), device=acts_E.device)
    largest_N = largest_N.scatter_reduce(0, row_E, acts_E, "amax")
    return acts_E / largest_N[row_E]


KEYS: dict[str, Callable[[SparseCodes], Tensor]] = {
    "topk": prefix_key,
    "threshold": act_key,
    "top_p": top_p_key,
    "rel_max": rel_max_key,
}


def read(codes: SparseCodes, key_E: Tensor, cut: float) -> SparseCodes:
    """The codes with the entries below the cut set to 0."""
    return codes._replace(acts=codes.acts * (key_E >= cut))


def cut_for(key_E: Tensor, entries: int) -> float:
    """The cut that keeps `entries` of the calibration entries (more where keys tie); all: minus infinity."""
    if entries >= len(key_E):
        return float("-inf")
    return float(torch.topk(key_E, max(1, entries)).values[-1])


def _rows(codes: SparseCodes) -> tuple[Tensor, Tensor]:
    """Token of each entry, and the first entry of that token."""
    device = codes.acts.device
    row_N = torch.arange(len(codes.sizes_N), device=device)
    # with its size, for which a GPU would have to be waited for
    row_E = torch.repeat_interleave(row_N, codes.sizes_N, output_size=len(codes.acts))
    start_N = torch.cumsum(codes.sizes_N, 0) - codes.sizes_N
    return row_E, start_N[row_E]
