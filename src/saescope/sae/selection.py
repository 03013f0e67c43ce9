"""Which latents a token activates: encoder product and top-k in blocks of rows, nothing (N × F) kept."""

from typing import NamedTuple

import torch
from torch import Tensor

# Pre-activations held at a time.
BLOCK_BYTES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}
# Latents multiplied at a time on the CPU: rows × COLUMNS is still in cache when its maxima are taken.
COLUMNS = 1024
# Latents compared per first-stage maximum.
SPAN = 16


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
    rows = max(64, limit // (weight_FD.element_size() * len(weight_FD)))
    buffer = centred_ND.new_empty(min(rows, len(centred_ND)), len(weight_FD))
    on_cpu = centred_ND.device.type == "cpu" and len(weight_FD) % SPAN == 0
    spans = Spans(len(weight_FD)) if on_cpu else None
    main: list[Chosen] = []
    aux: list[Chosen] = []
    multi: list[Chosen] = []
    for x_ND in torch.split(centred_ND, rows):
        pre_NF = buffer[: len(x_ND)]
        peaks_NS = pre_activations(x_ND, weight_FD, bias_F, pre_NF, spans)
        if dead_latents is not None:
            acts, at = pre_NF[:, dead_latents].relu_().topk(k_aux, sorted=False)
            aux.append(Chosen(acts, dead_latents[at]))
        if multi_k:
            multi.append(top_k(pre_NF, multi_k, spans, peaks_NS))
        main.append(top_k(pre_NF, k, spans, peaks_NS) if activation == "topk" else group_max(pre_NF, k))
    return Selection(_joined(main), _joined(aux) if aux else None, _joined(multi) if multi else None)


class Spans:
    """Latents in spans of SPAN, block of columns by block: span s holds first_S[s], + step_S[s], …"""

    def __init__(self, latents: int) -> None:
        """`latents` is a multiple of SPAN."""
        starts = range(0, latents, COLUMNS)
        self.blocks = [slice(start, min(start + COLUMNS, latents)) for start in starts]
        steps = [(block.stop - block.start) // SPAN for block in self.blocks]
        self.first_S = torch.cat(
            [torch.arange(b.start, b.start + n) for b, n in zip(self.blocks, steps, strict=True)]
        )
        self.step_S = torch.repeat_interleave(torch.tensor(steps), torch.tensor(steps))

    def members(self, spans_NK: Tensor) -> Tensor:
        """Latents of k spans a row [N, k × SPAN]."""
        first, step = self.first_S[spans_NK, None], self.step_S[spans_NK, None]
        return (first + step * torch.arange(SPAN)).flatten(1)


def pre_activations(
    x_ND: Tensor, weight_FD: Tensor, bias_F: Tensor, out_NF: Tensor, spans: Spans | None
) -> Tensor | None:
    """W x + b into `out_NF`; with `spans` also the largest of each span [N, S]."""
    if spans is None:
        torch.addmm(bias_F, x_ND, weight_FD.T, out=out_NF)
        return None
    peaks_NS = out_NF.new_empty(len(x_ND), len(spans.first_S))
    for block in spans.blocks:
        part = out_NF[:, block]
        torch.addmm(bias_F[block], x_ND, weight_FD[block].T, out=part)
        here = slice(block.start // SPAN, block.stop // SPAN)
        torch.amax(part.view(len(part), SPAN, -1), 1, out=peaks_NS[:, here])
    return peaks_NS


def top_k(pre_NF: Tensor, k: int, spans: Spans | None = None, peaks_NS: Tensor | None = None) -> Chosen:
    """The k largest of ReLU(pre) in each row, in any order.

    Where the maxima of all spans are known, in two stages: the k largest lie in the k spans with the largest
    maxima. Rows with fewer than k positive entries tie at 0, and sparsify passes gradients to whichever zeros
    `torch.topk` picks; those rows therefore go through the same `torch.topk`.
    """
    if spans is None or peaks_NS is None or peaks_NS.shape[1] < 4 * k:
        return Chosen(*pre_NF.relu().topk(k, sorted=False))
    candidates = spans.members(peaks_NS.topk(k, sorted=False).indices)
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
