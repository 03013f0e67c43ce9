"""Gradients equal autograd through sparsify's own SparseCoder, in float64."""

import pytest
import torch

from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.sae.selection import COLUMNS, GROUP, SPAN, PreActivations, Search, Spans, select
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


@pytest.mark.parametrize("shift", [0.0, -2.5, -9.0])
@pytest.mark.parametrize(
    ("latents", "k"), [(4096, 4), (4096, 32), (2304, 16), (1040, 4), (1000, 8), (1001, 8), (64, 64)]
)
def test_two_stage_top_k_is_top_k(latents, k, shift) -> None:
    torch.manual_seed(1)
    x, weight, bias = torch.randn(37, 24), torch.randn(latents, 24) / 5, torch.full((latents,), shift)
    expected = torch.addmm(bias, x, weight.T).relu().topk(k, sorted=False)
    found = select(x, weight, bias, k=k, activation="topk").main
    # a product in blocks of columns may differ in the last bit
    torch.testing.assert_close(found.acts_NK.sort(1).values, expected.values.sort(1).values)
    if shift > -9:
        same = found.latents_NK.sort(1).values == expected.indices.sort(1).values
        assert same.double().mean() > 0.999
    gathered = torch.addmm(bias, x, weight.T).relu().gather(1, found.latents_NK)
    torch.testing.assert_close(gathered, found.acts_NK)


@pytest.mark.parametrize("latents", [32, 1024, 2304, 1056, 18432])
def test_spans_hold_every_latent_once_and_groups_every_span(latents) -> None:
    search = Search(latents)
    for spans, items in ((search.spans, latents), (search.groups, latents // SPAN)):
        everything = spans.members(torch.arange(items // spans.size)[None])
        assert torch.equal(everything.sort().values[0], torch.arange(items))


def test_a_group_is_the_maximum_of_its_members() -> None:
    latents, rows = 2304, torch.randn(5, 2304)
    search = Search(latents)
    spans_NS, groups_NG = rows.new_empty(5, latents // SPAN), rows.new_empty(5, latents // SPAN // GROUP)
    for number, block in enumerate(search.spans.blocks):
        search.groups.maxima(number, search.spans.maxima(number, rows[:, block], spans_NS), groups_NG)
    every_group = torch.arange(groups_NG.shape[1]).expand(5, -1)
    spans = search.groups.members(every_group)
    of_groups = rows.gather(1, search.spans.members(spans)).view(5, groups_NG.shape[1], -1)
    assert torch.equal(of_groups.amax(2), groups_NG)


def test_pre_activations_in_blocks_are_those_of_one_product() -> None:
    latents, tokens = 2304, 5
    x, weight, bias = torch.randn(tokens, 8).double(), torch.randn(latents, 8).double(), torch.randn(latents)
    expected = x @ weight.T + bias.double()
    pre = PreActivations(x.new_empty(latents * 7), tokens, latents, Search(latents))
    pre.compute(x, weight, bias.double())
    torch.testing.assert_close(pre.whole(), expected)
    torch.testing.assert_close(pre.whole(torch.tensor([3, 1])), expected[[3, 1]])
    some = torch.tensor([0, 5, 1023, 1024, 2050, 2303])
    torch.testing.assert_close(pre.columns(some), expected[:, some])
    torch.testing.assert_close(pre.columns(some[4:]), expected[:, some[4:]])
    spans = torch.stack([torch.tensor([0, 127, 128, 200, 287])] * tokens)
    members = pre.search.spans.members(spans)
    torch.testing.assert_close(pre.of_spans(spans), expected.gather(1, members))


def test_dead_and_multi_come_from_the_same_product_in_blocks() -> None:
    latents, k = 4608, 4
    x, weight, bias = torch.randn(9, 16), torch.randn(latents, 16), torch.randn(latents)
    dead = torch.arange(7, latents, 300)
    found = select(x, weight, bias, k=k, activation="topk", dead_latents=dead, k_aux=3, multi_k=4 * k)
    pre = torch.addmm(bias, x, weight.T).relu()
    torch.testing.assert_close(found.aux.acts_NK.sort(1).values, pre[:, dead].topk(3).values.flip(1))
    torch.testing.assert_close(found.multi.acts_NK.sort(1).values, pre.topk(4 * k).values.flip(1))
    torch.testing.assert_close(found.main.acts_NK.sort(1).values, pre.topk(k).values.flip(1))
    torch.testing.assert_close(pre.gather(1, found.aux.latents_NK), found.aux.acts_NK)


def test_last_block_of_spans_may_be_smaller() -> None:
    spans = Spans(40, 4, 16)
    assert [block.stop for block in spans.blocks] == [16, 32, 40]
    assert COLUMNS % (SPAN * GROUP) == 0
    assert spans.members(torch.tensor([[1, 9]])).tolist() == [[1, 5, 9, 13, 33, 35, 37, 39]]


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


@pytest.mark.parametrize("nan", [float("nan"), -float("nan")])
def test_a_nan_among_the_pre_activations_is_not_lost(nan) -> None:
    """Both signs: processors make NaNs with the sign bit set, which compare below everything as integers."""
    x, weight, bias = torch.randn(40, 24), torch.randn(4096, 24), torch.zeros(4096)
    bias[77] = nan
    found = select(x, weight, bias, k=8, activation="topk").main
    assert (found.latents_NK == 77).any(1).all()
    assert found.acts_NK.isnan().any(1).all()
