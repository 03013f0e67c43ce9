"""Which latents a token activates: encoder product and top-k in blocks of rows, nothing (N × F) kept."""

from typing import NamedTuple

import torch
from torch import Tensor

# Pre-activations held at a time.
BLOCK_BYTES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}
# Latents multiplied at a time on the CPU: rows × COLUMNS is still in cache when its maxima are taken.
COLUMNS = 1024
# The strongest latents are sought among spans of that many latents, and those among groups of spans.
SPAN, GROUP = 8, 4
# Rows multiplied at a time at least: a product of fewer is slow.
ROWS = {"cpu": 256, "cuda": 64}


class Chosen(NamedTuple):
    """Activations and latent numbers [N, k] of one selection."""

    acts_NK: Tensor
    latents_NK: Tensor


class Selection(NamedTuple):
    """What one encoder product gives."""

    main: Chosen
    """The k latents of each token (`topk` or `groupmax`)."""

    aux: Chosen | None
    """The strongest dead latents of each token, when asked for."""

    multi: Chosen | None
    """The 4k strongest latents, when asked for."""


@torch.no_grad()
def select(
    centred_ND: Tensor,
    weight_FD: Tensor,
    bias_F: Tensor,
    *,
    k: int,
    activation: str,
    dead_latents: Tensor | None = None,
    k_aux: int = 0,
    multi_k: int = 0,
) -> Selection:
    """ReLU(W x + b), then the choices sparsify's `fused_encoder` and loss make from it.

    `dead_latents` holds latent numbers. The product runs in the dtype of the arguments; activations come
    back in that dtype.
    """
    limit = BLOCK_BYTES.get(centred_ND.device.type, BLOCK_BYTES["cuda"])
    least = ROWS.get(centred_ND.device.type, ROWS["cuda"])
    rows = max(least, limit // (weight_FD.element_size() * len(weight_FD)))
    buffer = centred_ND.new_empty(min(rows, len(centred_ND)), len(weight_FD))
    on_cpu = centred_ND.device.type == "cpu" and len(weight_FD) % (SPAN * GROUP) == 0
    search = Search(len(weight_FD)) if on_cpu else None
    main: list[Chosen] = []
    aux: list[Chosen] = []
    multi: list[Chosen] = []
    for x_ND in torch.split(centred_ND, rows):
        pre_NF = buffer[: len(x_ND)]
        peaks = pre_activations(x_ND, weight_FD, bias_F, pre_NF, search)
        if dead_latents is not None:
            acts, at = pre_NF[:, dead_latents].relu_().topk(k_aux, sorted=False)
            aux.append(Chosen(acts, dead_latents[at]))
        if multi_k:
            multi.append(top_k(pre_NF, multi_k, peaks))
        main.append(top_k(pre_NF, k, peaks) if activation == "topk" else group_max(pre_NF, k))
    return Selection(_joined(main), _joined(aux) if aux else None, _joined(multi) if multi else None)


class Spans:
    """`items` numbers in spans of `size`, block by block; the members of span s are step_S[s] apart.

    The first is first_S[s]: maxima over a middle dimension are the fast ones.
    """

    def __init__(self, items: int, size: int, columns: int) -> None:
        """`items` and `columns` are multiples of `size`."""
        self.size = size
        self.blocks = [slice(at, min(at + columns, items)) for at in range(0, items, columns)]
        steps = [(block.stop - block.start) // size for block in self.blocks]
        self.first_S = torch.cat(
            [torch.arange(b.start, b.start + n) for b, n in zip(self.blocks, steps, strict=True)]
        )
        self.step_S = torch.repeat_interleave(torch.tensor(steps), torch.tensor(steps))

    def members(self, spans_NK: Tensor) -> Tensor:
        """Numbers in k spans a row [N, k × size]."""
        first, step = self.first_S[spans_NK, None], self.step_S[spans_NK, None]
        return (first + step * torch.arange(self.size)).flatten(1)

    def maxima(self, block: int, values_NC: Tensor, out_NS: Tensor) -> Tensor:
        """The largest of each span in one block's columns, into its part of `out_NS`, which is returned."""
        columns = self.blocks[block]
        part = out_NS[:, columns.start // self.size : columns.stop // self.size]
        return torch.amax(values_NC.view(len(values_NC), self.size, -1), 1, out=part)


class Search:
    """Latents in spans, spans in groups."""

    def __init__(self, latents: int) -> None:
        self.spans = Spans(latents, SPAN, COLUMNS)
        self.groups = Spans(latents // SPAN, GROUP, COLUMNS // SPAN)


class Peaks(NamedTuple):
    """The largest pre-activation of each span [N, S] and of each group of spans [N, G]."""

    search: Search
    spans_NS: Tensor
    groups_NG: Tensor

    def strongest(self, k: int) -> Tensor:
        """Latents of the k spans with the largest peaks [N, k × SPAN]."""
        spans_NK = self.search.groups.members(self.groups_NG.topk(k, sorted=False).indices)
        at = self.spans_NS.gather(1, spans_NK).topk(k, sorted=False).indices
        return self.search.spans.members(spans_NK.gather(1, at))


def pre_activations(
    x_ND: Tensor, weight_FD: Tensor, bias_F: Tensor, out_NF: Tensor, search: Search | None
) -> Peaks | None:
    """W x + b into `out_NF`; with `search` also the peaks, taken while a block of columns is in cache."""
    if search is None:
        torch.addmm(bias_F, x_ND, weight_FD.T, out=out_NF)
        return None
    spans, groups = search.spans, search.groups
    peaks = Peaks(
        search,
        out_NF.new_empty(len(x_ND), len(spans.first_S)),
        out_NF.new_empty(len(x_ND), len(groups.first_S)),
    )
    for number, block in enumerate(spans.blocks):
        part = out_NF[:, block]
        torch.addmm(bias_F[block], x_ND, weight_FD[block].T, out=part)
        groups.maxima(number, spans.maxima(number, part, peaks.spans_NS), peaks.groups_NG)
    return peaks


def top_k(pre_NF: Tensor, k: int, peaks: Peaks | None = None) -> Chosen:
    """The k largest of ReLU(pre) in each row, in any order.

    Where the peaks are known, by stages: the k largest lie in the k spans with the largest peaks, and these
    in the k groups with the largest. Rows with fewer than k positive entries tie at 0, and sparsify passes
    gradients to whichever zeros `torch.topk` picks; those rows therefore go through the same `torch.topk`.
    """
    if peaks is None or peaks.groups_NG.shape[1] < 2 * k:
        return Chosen(*pre_NF.relu().topk(k, sorted=False))
    candidates = peaks.strongest(k)
    acts, at = pre_NF.gather(1, candidates).topk(k, sorted=False)
    chosen = candidates.gather(1, at)
    short = (acts <= 0).any(1).nonzero().flatten()
    if len(short):
        acts[short], chosen[short] = pre_NF[short].relu_().topk(k, sorted=False)
    return Chosen(acts, chosen)


def group_max(pre_NF: Tensor, k: int) -> Chosen:
    """The largest of ReLU(pre) in each of k groups of neighbouring latents."""
    acts, at = pre_NF.relu().view(len(pre_NF), k, -1).max(dim=-1)
    return Chosen(acts, at + torch.arange(0, pre_NF.shape[1], pre_NF.shape[1] // k, device=at.device))


def _joined(parts: list[Chosen]) -> Chosen:
    return Chosen(*(torch.cat(field) for field in zip(*parts, strict=True)))
