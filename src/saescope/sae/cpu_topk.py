"""Which latents a token activates: encoder product and top-k in blocks of rows, nothing (N × F) kept.

On the CPU the k largest are searched in stages. `torch.topk` over all F latents adds 31 to 40 % to a float32
product (d_in 512, k 32, F 4,096 and 16,384, one core), the stages 4 to 15 %: the maxima of spans are taken
while a block of the product is in cache, then only the latents of k spans are compared, as integers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

# Bytes of pre-activations in memory at a time, and the least and most rows: a product of few rows is slow.
BLOCK_BYTES = {"cpu": 256 * 2**20, "cuda": 512 * 2**20}
ROWS = {"cpu": (256, 4096), "cuda": (64, 2**31)}
# Latents multiplied at a time on the CPU: rows × COLUMNS is still in cache when its maxima are taken.
COLUMNS = 1024
# The strongest latents are sought among spans of that many latents, and those among groups of spans.
SPAN, GROUP = 8, 4
INTEGERS = {
    torch.float64: torch.int64, torch.float32: torch.int32,
    torch.bfloat16: torch.int16, torch.float16: torch.int16,
}  # fmt: skip


class TopLatents(NamedTuple):
    """Activations and latent numbers [N, k] of one selection."""

    acts_NK: Tensor
    latents_NK: Tensor


class Selection(NamedTuple):
    """The selections from one encoder product."""

    main: TopLatents
    """The k latents of each token (`topk` or `groupmax`)."""

    aux: TopLatents | None
    """The strongest dead latents of each token; None without `dead_latents`."""

    multi: TopLatents | None
    """The `multi_k` strongest latents of each token; None without `multi_k`."""


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

    `dead_latents` are latent numbers in rising order. The product runs in the dtype of the arguments;
    activations come back in that dtype.
    """
    device, latents = centred_ND.device.type, len(weight_FD)
    least, most = ROWS.get(device, ROWS["cuda"])
    fit = BLOCK_BYTES.get(device, BLOCK_BYTES["cuda"]) // (weight_FD.element_size() * latents)
    rows = min(max(least, min(most, fit)), len(centred_ND))
    buffer = centred_ND.new_empty(rows * latents)
    by_stages = device == "cpu" and activation == "topk" and StagedSearch.is_faster(latents, k)
    search = StagedSearch(latents) if by_stages else None
    main: list[TopLatents] = []
    aux: list[TopLatents] = []
    multi: list[TopLatents] = []
    for x_ND in torch.split(centred_ND, max(1, rows)):
        pre = PreActivations(buffer, len(x_ND), latents, search)
        with sums_in_float32():
            pre.compute(x_ND, weight_FD, bias_F)
        if dead_latents is not None:
            acts, at = pre.columns(dead_latents).relu_().topk(k_aux, sorted=False)
            aux.append(TopLatents(acts, dead_latents[at]))
        if multi_k:
            multi.append(top_k(pre, multi_k))
        main.append(top_k(pre, k) if activation == "topk" else group_max(pre.whole(), k))
    return Selection(_joined(main), _joined(aux) if aux else None, _joined(multi) if multi else None)


@contextmanager
def sums_in_float32() -> Iterator[None]:
    """While open, no CUDA product of 16-bit numbers adds up parts of a sum in 16 bits, as cuBLAS may."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = before[0]
        matmul.allow_fp16_reduced_precision_reduction = before[1]


class Spans:
    """`items` numbers in spans of `size`, block by block; the members of span s are step_S[s] apart.

    The first is first_S[s], in the block that begins at start_S[s]. Not neighbours, because maxima over a
    middle dimension are the fast ones.
    """

    def __init__(self, items: int, size: int, columns: int) -> None:
        """`items` and `columns` are multiples of `size`."""
        self.size = size
        self.blocks = [slice(at, min(at + columns, items)) for at in range(0, items, columns)]
        steps = [(block.stop - block.start) // size for block in self.blocks]
        starts, steps_B = torch.tensor([b.start for b in self.blocks]), torch.tensor(steps)
        self.first_S = torch.cat([start + torch.arange(n) for start, n in zip(starts, steps, strict=True)])
        self.start_S = torch.repeat_interleave(starts, steps_B)
        self.step_S = torch.repeat_interleave(steps_B, steps_B)

    def members(self, spans_NK: Tensor) -> Tensor:
        """Numbers in k spans a row [N, k × size]."""
        first, step = self.first_S.take(spans_NK), self.step_S.take(spans_NK)
        return (first[..., None] + step[..., None] * torch.arange(self.size)).flatten(1)

    def maxima(self, block: int, values_NC: Tensor, out_NS: Tensor) -> Tensor:
        """The largest of each span in one block's columns, into its part of `out_NS`, which is returned."""
        columns = self.blocks[block]
        part = out_NS[:, columns.start // self.size : columns.stop // self.size]
        return torch.amax(values_NC.view(len(values_NC), self.size, part.shape[1]), 1, out=part)


class StagedSearch:
    """Latents in spans, spans in groups."""

    def __init__(self, latents: int) -> None:
        self.spans = Spans(latents, SPAN, COLUMNS)
        self.groups = Spans(latents // SPAN, GROUP, COLUMNS // SPAN)

    @staticmethod
    def is_faster(latents: int, k: int) -> bool:
        """Whether the search by stages beats `torch.topk`: each stage must leave out at least half."""
        return latents % (SPAN * GROUP) == 0 and latents >= 2 * k * SPAN * GROUP


class PreActivations:
    """W x + b of N tokens, each block of columns [N, width] in one piece of memory.

    In rows of F it is 5 to 11 % slower at 16,384 latents and more: each row of a block would be another page.
    """

    def __init__(self, buffer: Tensor, tokens: int, latents: int, search: StagedSearch | None) -> None:
        """`buffer` [≥ tokens × latents] is overwritten. With `search` also the peaks are computed."""
        self.flat, self.tokens, self.latents, self.search = buffer, tokens, latents, search
        self.blocks = search.spans.blocks if search else [slice(0, latents)]
        self.parts = [
            buffer[tokens * block.start : tokens * block.stop].view(tokens, block.stop - block.start)
            for block in self.blocks
        ]
        if search:
            self.spans_NS = buffer.new_empty(tokens, len(search.spans.first_S))
            self.groups_NG = buffer.new_empty(tokens, len(search.groups.first_S))

    def compute(self, x_ND: Tensor, weight_FD: Tensor, bias_F: Tensor) -> None:
        """The product, and the peaks of a block while it is in cache."""
        for number, block in enumerate(self.blocks):
            torch.addmm(bias_F[block], x_ND, weight_FD[block].T, out=self.parts[number])
            if self.search:
                peaks = self.search.spans.maxima(number, self.parts[number], self.spans_NS)
                self.search.groups.maxima(number, peaks, self.groups_NG)

    def whole(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """All latents of some tokens [n, F]."""
        return self.parts[0][rows] if len(self.parts) == 1 else torch.cat([p[rows] for p in self.parts], 1)

    def columns(self, rising: Tensor) -> Tensor:
        """Some latents of all tokens [N, n]; a copy."""
        if len(self.parts) == 1:
            return self.parts[0][:, rising]
        ends = torch.searchsorted(rising, torch.tensor([b.stop for b in self.blocks], device=rising.device))
        sizes = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
        pieces = zip(self.parts, self.blocks, torch.split(rising, sizes), strict=True)
        return torch.cat([part[:, some - block.start] for part, block, some in pieces], 1)

    def strongest_spans(self, k: int) -> Tensor:
        """The k spans of each token with the largest peaks [N, k]; they lie in the k strongest groups."""
        assert self.search is not None
        spans_NK = self.search.groups.members(positive_topk(self.groups_NG, k).latents_NK)
        return spans_NK.gather(1, positive_topk(self.spans_NS.gather(1, spans_NK), k).latents_NK)

    def of_spans(self, spans_NK: Tensor) -> Tensor:
        """The values in k spans of each token [N, k × SPAN]."""
        assert self.search is not None
        spans = self.search.spans
        # of a latent in a block from b on: tokens × b for the blocks before, then its row, then latent − b
        origin_S = self.tokens * spans.start_S + spans.first_S - spans.start_S
        row_N = torch.arange(self.tokens)[:, None]
        step_NK = spans.step_S.take(spans_NK)
        first_NK = origin_S.take(spans_NK) + row_N * SPAN * step_NK
        at = first_NK[..., None] + step_NK[..., None] * torch.arange(SPAN)
        return self.flat.index_select(0, at.flatten()).view(self.tokens, spans_NK.shape[1] * SPAN)


def top_k(pre: PreActivations, k: int) -> TopLatents:
    """The k largest of ReLU(pre) in each row, in any order.

    By stages: the k largest lie in the k spans with the largest peaks. Rows with fewer than k positive
    entries tie at 0, and sparsify passes gradients to whichever zeros `torch.topk` picks; those rows
    therefore go through the same `torch.topk`, and everything does where a NaN is among the values.
    """
    if pre.search is None or not StagedSearch.is_faster(pre.latents, k) or bool(pre.groups_NG.amax().isnan()):
        return TopLatents(*pre.whole().relu().topk(k, sorted=False))
    spans_NK = pre.strongest_spans(k)
    acts, at = positive_topk(pre.of_spans(spans_NK), k)
    chosen = pre.search.spans.members(spans_NK).gather(1, at)
    short = (acts <= 0).any(1).nonzero().flatten()
    if len(short):
        acts[short], chosen[short] = pre.whole(short).relu_().topk(k, sorted=False)
    return TopLatents(acts, chosen)


def positive_topk(values_NS: Tensor, k: int) -> TopLatents:
    """The k largest of each row, where that many are positive; else the positive ones and any others.

    Positive floats have the order of their bits read as integers, and no NaN to look out for: `topk` of the
    integers takes 25 to 33 % less time.
    """
    bits, at = values_NS.view(INTEGERS[values_NS.dtype]).topk(k, sorted=False)
    return TopLatents(bits.view(values_NS.dtype), at)


def group_max(pre_NF: Tensor, k: int) -> TopLatents:
    """The largest of ReLU(pre) in each of k groups of neighbouring latents."""
    acts, at = pre_NF.relu().view(len(pre_NF), k, -1).max(dim=-1)
    return TopLatents(acts, at + torch.arange(0, pre_NF.shape[1], pre_NF.shape[1] // k, device=at.device))


def _joined(parts: list[TopLatents]) -> TopLatents:
    return TopLatents(*(torch.cat(field) for field in zip(*parts, strict=True)))
