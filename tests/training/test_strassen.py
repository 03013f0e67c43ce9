"""The encoder product of training in seven products: same values up to rounding, within the stated bound."""

import pytest
import torch

from saescope.sae.selection import COLUMNS, PreActivations, Search, select
from saescope.sae.strassen import LEAST_D_IN, LEAST_TOKENS, Halves, Strassen


def inputs(tokens: int, d_in: int, latents: int, dtype=torch.float32) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    x, weight = torch.randn(tokens, d_in, dtype=dtype), torch.randn(latents, d_in, dtype=dtype)
    return x, weight, torch.randn(latents, dtype=dtype)


def multiplied(x, weight, bias, columns: int) -> torch.Tensor:
    """W x + b of all whole pairs."""
    pairs, halves = Strassen(weight, bias, columns), Halves(x)
    blocks = [x.new_full((len(x), columns), torch.nan) for _ in range(2 * pairs.count)]
    for pair in range(pairs.count):
        halves.product(pairs, pair, *blocks[2 * pair : 2 * pair + 2])
    return torch.cat(blocks, 1)


def test_two_by_two_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    weight = torch.tensor([[5.0, 6.0], [7.0, 8.0]])
    bias = torch.tensor([0.5, -0.5])
    # 1·5 + 2·6 = 17, 1·7 + 2·8 = 23, 3·5 + 4·6 = 39, 3·7 + 4·8 = 53
    assert multiplied(x, weight, bias, 1).tolist() == [[17.5, 22.5], [39.5, 52.5]]


def test_integers_are_exact() -> None:
    torch.manual_seed(1)
    x, weight = (torch.randint(-9, 10, size, dtype=torch.float64) for size in ((14, 6), (30, 6)))
    bias = torch.randint(-9, 10, (30,), dtype=torch.float64)
    # pairs of 2 × 4 latents: the last 6 have no whole pair
    assert torch.equal(multiplied(x, weight, bias, 4), (x @ weight.T + bias)[:, :24])


def test_error_is_within_the_bound_of_higham_and_near_the_plain_one() -> None:
    d = 512
    x, weight, _ = inputs(1024, d, 2 * COLUMNS)
    bias = torch.zeros(len(weight))
    exact = x.double() @ weight.double().T
    off, plain = multiplied(x, weight, bias, COLUMNS) - exact, x @ weight.T - exact
    unit = torch.finfo(x.dtype).eps / 2
    assert off.abs().max() <= (4.5 * d**2 + 48 * d) * unit * x.abs().max() * weight.abs().max()
    assert off.pow(2).mean().sqrt() < 3.5 * plain.pow(2).mean().sqrt()


def test_a_token_is_rounded_relative_to_its_partner() -> None:
    """A massive activation costs the one token it is added to 1,000 roundings, and no other."""
    x, weight, bias = inputs(1024, 512, 2 * COLUMNS)
    x[3] *= 1000
    exact = x.double() @ weight.double().T + bias.double()
    off_N = (multiplied(x, weight, bias, COLUMNS) - exact).abs().amax(1)
    partner = 3 + len(x) // 2
    others = torch.ones(len(x), dtype=torch.bool)
    others[[3, partner]] = False
    assert off_N[others].max() < 3e-4 < off_N[partner] < 0.3


@pytest.mark.parametrize("blocks", [2, 3, 5])
@pytest.mark.parametrize("last", [COLUMNS, 512])
def test_blocks_without_a_partner_are_multiplied_plainly(blocks: int, last: int) -> None:
    x, weight, bias = inputs(LEAST_TOKENS, LEAST_D_IN, (blocks - 1) * COLUMNS + last)
    latents = len(weight)
    outcomes = []
    for pairs in (None, Strassen(weight, bias, COLUMNS)):
        pre = PreActivations(torch.full((len(x) * latents,), torch.nan), len(x), latents, Search(latents))
        pre.compute(x, weight, bias, pairs)
        outcomes.append(pre)
    plain, fewer = outcomes
    for mine, other in ((fewer.whole(), plain.whole()), (fewer.spans_NS, plain.spans_NS)):
        torch.testing.assert_close(mine, other, rtol=0, atol=3e-4)
    spans = fewer.of_spans(torch.arange(latents // 8).expand(len(x), -1)).view(len(x), -1, 8)
    assert torch.equal(spans.amax(2), fewer.spans_NS)
    assert torch.equal(fewer.groups_NG.amax(1), fewer.whole().amax(1))
    alone = latents // (2 * COLUMNS) * 2 * COLUMNS
    assert torch.equal(fewer.whole()[:, :alone], plain.whole()[:, :alone]) == (alone == 0)
    assert torch.equal(fewer.whole()[:, alone:], plain.whole()[:, alone:])


@pytest.mark.parametrize(
    ("tokens", "d_in", "latents", "dtype"),
    [
        (LEAST_TOKENS - 2, LEAST_D_IN, 2 * COLUMNS, torch.float32),
        (LEAST_TOKENS + 1, LEAST_D_IN, 2 * COLUMNS, torch.float32),
        (LEAST_TOKENS, LEAST_D_IN - 2, 2 * COLUMNS, torch.float32),
        (LEAST_TOKENS, LEAST_D_IN + 1, 2 * COLUMNS, torch.float32),
        (LEAST_TOKENS, LEAST_D_IN, COLUMNS, torch.float32),
        (LEAST_TOKENS, LEAST_D_IN, 2 * COLUMNS, torch.bfloat16),
    ],
)
def test_other_sizes_stay_with_the_plain_product(tokens, d_in, latents, dtype) -> None:
    assert not Strassen.pays(tokens, torch.empty(latents, d_in, dtype=dtype), COLUMNS)
    assert Strassen.pays(LEAST_TOKENS, torch.empty(2 * COLUMNS, LEAST_D_IN), COLUMNS)
    x, weight, bias = inputs(tokens, d_in, latents, dtype)
    plain, fewer = (
        select(x, weight, bias, k=8, activation="topk", strassen=strassen) for strassen in (False, True)
    )
    assert torch.equal(plain.main.acts_NK, fewer.main.acts_NK)


def test_the_same_latents_are_chosen() -> None:
    """In float64 nothing ties within rounding; tokens after the last full block of rows too."""
    x, weight, bias = inputs(4096 + 1500, LEAST_D_IN, 3 * COLUMNS, torch.float64)
    dead = torch.arange(0, len(weight), 7)
    plain, fewer = (
        select(x, weight, bias, k=16, activation="topk", strassen=strassen, dead_latents=dead, k_aux=20)
        for strassen in (False, True)
    )
    for mine, other in ((fewer.main, plain.main), (fewer.aux, plain.aux)):
        assert mine is not None
        assert other is not None
        dense = [
            torch.zeros(len(x), len(weight), dtype=x.dtype).scatter_(1, c.latents_NK, c.acts_NK)
            for c in (mine, other)
        ]
        torch.testing.assert_close(*dense, rtol=0, atol=1e-12)
    assert not torch.equal(fewer.main.acts_NK, plain.main.acts_NK)


def test_features_of_a_token_do_not_depend_on_its_batch() -> None:
    """Outside training nobody asks for it."""
    x, weight, bias = inputs(LEAST_TOKENS, LEAST_D_IN, 2 * COLUMNS)
    others = x.clone()
    others[LEAST_TOKENS // 2 :] *= 100
    half = slice(0, LEAST_TOKENS // 2)
    one, other = (select(batch, weight, bias, k=8, activation="topk").main for batch in (x, others))
    assert torch.equal(one.acts_NK[half], other.acts_NK[half])
