"""sparsify's loss terms (`SparseCoder.forward`) on top of the sparse gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from saescope.sae.coder import SparseCoder
from saescope.sae.cpu_topk import TopLatents, select
from saescope.training.gradients import Skip, Slots, encode_at, squared_error


class LossTerms(NamedTuple):
    """The loss terms of some rows; each is divided by the variance of the whole batch."""

    fvu: Tensor
    auxk: Tensor
    multi_topk_fvu: Tensor
    fired: Tensor
    """Latent numbers that count as fired, with repeats."""

    active: Tensor
    """Number of activations that are not 0."""


def loss_terms(
    coder: SparseCoder,
    x_ND: Tensor,
    *,
    y_ND: Tensor | None = None,
    total_variance: Tensor,
    dead_F: Tensor | None = None,
    encoder_dtype: torch.dtype | None = None,
) -> LossTerms:
    """Loss terms of rows [N, d_in] in the dtype of the weights.

    `y_ND` is what a transcoder predicts. With `dead_F` (bool), AuxK is computed. `encoder_dtype` is that of
    the encoder product; weights, activations and gradients stay as they are.
    """
    cfg = coder.cfg
    weight, bias, W_dec, b_dec = coder.encoder.weight, coder.encoder.bias, coder.W_dec, coder.b_dec
    assert W_dec is not None
    centred = ((x_ND if y_ND is None else y_ND) - b_dec).detach()
    inputs = centred if y_ND is None else x_ND
    skip = Skip(coder.W_skip, x_ND) if coder.W_skip is not None else None
    dead = dead_F.nonzero().flatten() if dead_F is not None else None
    if dead is not None and not len(dead):
        dead = None
    k_aux = x_ND.shape[-1] // 2
    chosen = select(
        inputs.to(encoder_dtype or weight.dtype),
        weight.detach().to(encoder_dtype or weight.dtype),
        bias.detach().to(encoder_dtype or weight.dtype),
        k=cfg.k,
        activation=cfg.activation,
        dead_latents=dead,
        k_aux=min(k_aux, len(dead)) if dead is not None else 0,
        multi_k=4 * cfg.k if cfg.multi_topk else 0,
    )

    slots = Slots(chosen.main.latents_NK, coder.num_latents)
    through_b_dec = b_dec if y_ND is None else None
    acts = encode_at(chosen.main.acts_NK.to(weight.dtype), inputs, weight, bias, through_b_dec, slots)
    target = centred if skip is None else centred - (x_ND @ skip.W_skip.mT).detach()
    main = squared_error(acts, W_dec, target, slots, b_dec, skip)
    fired = chosen.main.latents_NK

    auxk = multi = x_ND.new_zeros(())
    if chosen.aux is not None and dead is not None:
        scale = min(len(dead) / k_aux, 1.0)
        # of the residual x − reconstruction; the encoder gets no gradient from these terms, as in sparsify
        auxk = scale * _error(coder, chosen.aux, -main.error_ND, None)
    if chosen.multi is not None:
        multi = _error(coder, chosen.multi, centred, b_dec)  # without the skip connection, as in sparsify
        fired = chosen.multi.latents_NK  # sparsify counts firings on these when it has them
    fvu, auxk, multi = (total / total_variance for total in (main.total, auxk, multi))
    return LossTerms(fvu, auxk, multi, fired.flatten(), acts.detach().count_nonzero())


def _error(coder: SparseCoder, chosen: TopLatents, target_ND: Tensor, b_dec: Tensor | None) -> Tensor:
    slots = Slots(chosen.latents_NK, coder.num_latents)
    acts = chosen.acts_NK.to(coder.W_dec.dtype)
    return squared_error(acts, coder.W_dec, target_ND, slots, b_dec).total
