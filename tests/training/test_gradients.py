"""Gradients equal autograd through sparsify's own SparseCoder, in float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.training.decoder_norm import keep_near, remove_parallel, to_unit_norm
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
    return {name: p.grad.clone() for name, p in coder.named_parameters() if p.grad is not None}


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


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
@pytest.mark.parametrize("dead", [0, 3, 100])
@pytest.mark.parametrize("cfg", [{}, {"multi_topk": True}, {"activation": "groupmax"}], ids=str)
def test_terms_and_gradients_of_a_transcoder_are_sparsify_s(cfg, dead, skip) -> None:
    coder = a_coder(**cfg, transcode=True, skip_connection=skip)
    coder.W_dec.data.normal_(std=0.3)
    if skip:
        coder.W_skip.data.normal_(std=0.3)
    x, y = torch.randn(2, N, D, dtype=torch.float64)
    dead_F = None
    if dead:
        dead_F = torch.zeros(F, dtype=torch.bool)
        dead_F[torch.randperm(F)[:dead]] = True
    variance = (y - y.mean(0)).pow(2).sum()
    theirs = coder(x, y, dead_mask=dead_F, total_variance=variance)
    expected = gradients(coder, theirs.fvu + 0.3 * theirs.auxk_loss + theirs.multi_topk_fvu / 8)
    assert ("W_skip" in expected) == skip

    ours = loss_terms(coder, x, y_ND=y, total_variance=variance, dead_F=dead_F)
    computed = gradients(coder, ours.fvu + 0.3 * ours.auxk + ours.multi_topk_fvu / 8)

    for mine, other in (
        (ours.fvu, theirs.fvu),
        (ours.auxk, theirs.auxk_loss),
        (ours.multi_topk_fvu, theirs.multi_topk_fvu),
    ):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    assert computed.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(computed[name], gradient, rtol=0, atol=1e-11, msg=name)


class Operations(TorchDispatchMode):
    """Names of the operations that run while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(str(operation))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("frozen", ["W_dec", "encoder.weight"])
def test_a_frozen_weight_costs_no_gradient_and_changes_no_other(frozen) -> None:
    """Each gradient of a weight [F, d] is one sum of rows (`embedding_bag`)."""

    def sums_of_rows(coder: SparseCoder) -> tuple[int, dict[str, torch.Tensor]]:
        with Operations() as operations:
            terms = loss_terms(coder, x, total_variance=variance)
            computed = gradients(coder, terms.fvu)
        return sum("embedding_bag" in name for name in operations.names), computed

    coder = a_coder()
    x = torch.randn(N, D, dtype=torch.float64)
    variance = (x - x.mean(0)).pow(2).sum()
    all_sums, all_gradients = sums_of_rows(coder)
    coder.get_parameter(frozen).requires_grad_(False)
    sums, some_gradients = sums_of_rows(coder)
    assert (sums, all_sums) == (2, 3)
    assert some_gradients.keys() == all_gradients.keys() - {frozen}
    for name, gradient in some_gradients.items():
        assert torch.equal(gradient, all_gradients[name]), name


def test_rows_are_turned_to_the_edge_of_their_cone_and_no_further() -> None:
    torch.manual_seed(0)
    units = torch.nn.functional.normalize(torch.randn(F, D, dtype=torch.float64), dim=1)
    rows = units + 0.2 * torch.randn(F, D, dtype=torch.float64)
    rows[:3] = torch.stack([-units[0], 5 * units[1], -2 * units[2] + units[3]])
    before = rows.clone()
    keep_near(rows, units, 0.8)
    cosine = torch.cosine_similarity(rows, units)
    near = torch.cosine_similarity(before, units) >= 0.8
    assert 0.2 < near.double().mean() < 0.8
    assert torch.equal(rows[near], before[near])
    torch.testing.assert_close(cosine[~near][1:], torch.full_like(cosine[~near][1:], 0.8))
    norms = torch.linalg.vector_norm(rows, dim=1)
    torch.testing.assert_close(norms[1:], torch.linalg.vector_norm(before, dim=1)[1:])
    # in the plane of the row and its initial direction
    planes = torch.stack([units, before, rows], 1)[~near][1:]
    assert torch.linalg.svdvals(planes)[:, -1].max() < 1e-12
    torch.testing.assert_close(rows[0], 0.8 * units[0])  # opposite: no way round is nearer than another


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
