"""Which latents a token activates: encoder product and top-k in blocks of rows, nothing (N × F) kept."""

from typing import NamedTuple

import torch
from torch import Tensor

# A block of pre-activations of this size stays in the last-level cache between the product and the top-k.
BLOCK_BYTES = {"cpu": 32 * 2**20, "cuda": 512 * 2**20}
# Latents compared per first-stage maximum.
SPAN = 8


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
    main: list[Chosen] = []
    aux: list[Chosen] = []
    multi: list[Chosen] = []
    for x_ND in torch.split(centred_ND, rows):
        pre_NF = torch.addmm(bias_F, x_ND, weight_FD.T, out=buffer[: len(x_ND)])
        if dead_latents is not None:
            acts, at = pre_NF[:, dead_latents].relu_().topk(k_aux, sorted=False)
            aux.append(Chosen(acts, dead_latents[at]))
        if multi_k:
            multi.append(top_k(pre_NF, multi_k))
        main.append(top_k(pre_NF, k) if activation == "topk" else group_max(pre_NF, k))
    return Selection(_joined(main), _joined(aux) if aux else None, _joined(multi) if multi else None)


def top_k(pre_NF: Tensor, k: int) -> Chosen:
    """The k largest of ReLU(pre) in each row, in any order.

    On the CPU in two stages: the k largest lie in the k spans with the largest maxima. Rows with fewer than
    k positive entries tie at 0, and sparsify passes gradients to whichever zeros `torch.topk` picks; those
    rows therefore go through the same `torch.topk`.
    """
    latents = pre_NF.shape[1]
    if pre_NF.device.type != "cpu" or latents % SPAN or latents < 4 * SPAN * k:
        return Chosen(*pre_NF.relu().topk(k, sorted=False))
    spans = latents // SPAN
    offsets = torch.arange(SPAN) * spans
    peaks = pre_NF.view(-1, SPAN, spans).amax(1)
    candidates = (peaks.topk(k, sorted=False).indices[:, :, None] + offsets).flatten(1)
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
