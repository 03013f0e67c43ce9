"""The top-k by stages is `torch.topk` of one product."""

import pytest
import torch

from saescope.sae.cpu_topk import COLUMNS, GROUP, SPAN, PreActivations, Spans, StagedSearch, select


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
    search = StagedSearch(latents)
    for spans, items in ((search.spans, latents), (search.groups, latents // SPAN)):
        everything = spans.members(torch.arange(items // spans.size)[None])
        assert torch.equal(everything.sort().values[0], torch.arange(items))


def test_a_group_is_the_maximum_of_its_members() -> None:
    latents, rows = 2304, torch.randn(5, 2304)
    search = StagedSearch(latents)
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
    pre = PreActivations(x.new_empty(latents * 7), tokens, latents, StagedSearch(latents))
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


@pytest.mark.parametrize("nan", [float("nan"), -float("nan")])
def test_a_nan_among_the_pre_activations_is_not_lost(nan) -> None:
    """Both signs: processors make NaNs with the sign bit set, which compare below everything as integers."""
    x, weight, bias = torch.randn(40, 24), torch.randn(4096, 24), torch.zeros(4096)
    bias[77] = nan
    found = select(x, weight, bias, k=8, activation="topk").main
    assert (found.latents_NK == 77).any(1).all()
    assert found.acts_NK.isnan().any(1).all()


def test_a_token_does_not_depend_on_its_batch() -> None:
    """Nor does a massive activation beside it change its rounding."""
    x, weight, bias = torch.randn(1024, 384), torch.randn(2 * COLUMNS, 384), torch.randn(2 * COLUMNS)
    others = x.clone()
    others[512:] *= 1000
    first, second = (select(batch, weight, bias, k=8, activation="topk").main for batch in (x, others))
    assert torch.equal(first.acts_NK[:512], second.acts_NK[:512])
    assert torch.equal(first.latents_NK[:512], second.latents_NK[:512])
