"""Gradients equal autograd through sparsify's own SparseCoder, in float64."""

import pytest
import torch

from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.training.decoder_norm import remove_parallel, to_unit_norm
from saescope.training.objective import loss_terms

D, F, N = 16, 256, 50


def a_coder(**cfg) -> SparseCoder:
    torch.manual_seed(0)
    coder = SparseCoder(D, SparseCoderConfig(num_latents=F, **{"k": 4, **cfg}), dtype=torch.float64)
    coder.encoder.bias.data.normal_(std=0.1)
    coder.b_dec.data.normal_()
    coder.W_dec.data += 0.1 * torch.randn_like(coder.W_dec)
    return coder


def gradients(coder: SparseCoder, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    coder.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in coder.named_parameters()}


@pytest.mark.parametrize("dead", [0, 3, 100])
@pytest.mark.parametrize(
    "cfg",
    [
        {},
        {"k": 30},
        {"multi_topk": True},
        {"activation": "groupmax"},
        {"activation": "groupmax", "multi_topk": True},
    ],
    ids=str,
)
def test_terms_and_gradients_of_sparsify(cfg, dead) -> None:
    coder = a_coder(**cfg)
    x = torch.randn(N, D, dtype=torch.float64)
    dead_F = None
    if dead:
        dead_F = torch.zeros(F, dtype=torch.bool)
        dead_F[torch.randperm(F)[:dead]] = True
    variance = (x - x.mean(0)).pow(2).sum()
    theirs = coder(x, dead_mask=dead_F, total_variance=variance)
    expected = gradients(coder, theirs.fvu + 0.3 * theirs.auxk_loss + theirs.multi_topk_fvu / 8)

    ours = loss_terms(coder, x, total_variance=variance, dead_F=dead_F)
    found = gradients(coder, ours.fvu + 0.3 * ours.auxk + ours.multi_topk_fvu / 8)

    for mine, other in (
        (ours.fvu, theirs.fvu),
        (ours.auxk, theirs.auxk_loss),
        (ours.multi_topk_fvu, theirs.multi_topk_fvu),
    ):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-11, msg=name)
    assert set(ours.fired.tolist()) == set(theirs.latent_indices.flatten().tolist())


def test_slots_filled_with_zeros_pass_gradients_as_in_sparsify() -> None:
    """Where fewer than k are positive, sparsify lets gradients through the zeros it picked."""
    coder = a_coder(k=8)
    coder.encoder.bias.data -= 1.2
    x = torch.randn(N, D, dtype=torch.float64)
    variance = (x - x.mean(0)).pow(2).sum()
    theirs = coder(x, total_variance=variance)
    assert (theirs.latent_acts == 0).any()
    assert (theirs.latent_acts != 0).any()
    expected = gradients(coder, theirs.fvu)
    ours = loss_terms(coder, x, total_variance=variance)
    assert int(ours.active) == int((theirs.latent_acts != 0).sum())
    found = gradients(coder, ours.fvu)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-11, msg=name)


def test_decoder_steps_of_sparsify() -> None:
    coder, other = a_coder(), a_coder()
    for c in (coder, other):
        c.W_dec.grad = torch.arange(F * D, dtype=torch.float64).view(F, D).sin()
    coder.set_decoder_norm_to_unit_norm()
    to_unit_norm(other.W_dec)
    torch.testing.assert_close(other.W_dec, coder.W_dec, rtol=1e-14, atol=1e-14)
    coder.remove_gradient_parallel_to_decoder_directions()
    remove_parallel(other.W_dec, other.W_dec.grad)
    torch.testing.assert_close(other.W_dec.grad, coder.W_dec.grad, rtol=1e-12, atol=1e-12)


def test_bfloat16_product_keeps_float32_weights() -> None:
    coder = a_coder().float()
    x = torch.randn(N, D)
    variance = (x - x.mean(0)).pow(2).sum()
    exact = loss_terms(coder, x, total_variance=variance)
    rounded = loss_terms(coder, x, total_variance=variance, encoder_dtype=torch.bfloat16)
    rounded.fvu.backward()
    assert coder.encoder.weight.grad.dtype == torch.float32
    torch.testing.assert_close(rounded.fvu, exact.fvu, rtol=0.02, atol=0)
