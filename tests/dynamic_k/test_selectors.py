"""Which neurons are kept, against definitions written out neuron by neuron."""

import numpy as np
import pytest
import torch

from saescope.dynamic_k.mlps import abs_act, abs_act_x_wnorm, find_mlps
from saescope.dynamic_k.selectors import cut, kept_count, level, scored, top_mask

from .models import F, tiny

GRID = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def scores(rows=300, width=F, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(0.5, size=(rows, width)).astype(np.float32))


@pytest.mark.parametrize(
    ("k", "width", "count"), [(0.7, 2048, 1434), (0.29, 100, 29), (0.3, 10, 3), (1.0, 7, 7), (1e-4, 50, 1)]
)
def test_counts_are_rounded_not_floored(k, width, count):
    # int(0.7 · 2048) is 1433 and int(0.29 · 100) is 28
    assert kept_count(k, width) == count


@pytest.mark.parametrize("k", GRID)
def test_topk_keeps_exactly_the_largest(k):
    score = scores()
    mask = top_mask(score, k)
    assert (mask.sum(-1) == round(k * F)).all()
    for row, kept in zip(score.numpy(), mask.numpy(), strict=True):
        assert set(np.flatnonzero(kept)) == set(np.argsort(-row)[: round(k * F)])


def test_ties_go_to_the_lower_index_and_count_is_still_exact():
    ties = torch.tensor([[1.0, 2, 2, 2, 0, 2, 1, 1, 1, 1], [0.0] * 10]).to(torch.bfloat16)
    assert top_mask(ties, 0.3)[0].nonzero().flatten().tolist() == [1, 2, 3]
    assert top_mask(ties, 0.6)[0].nonzero().flatten().tolist() == [0, 1, 2, 3, 5, 6]
    assert top_mask(ties, 0.4)[1].nonzero().flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("selector", ["threshold", "top_p", "rel_max"])
def test_cuts_give_the_mean_k_on_calibration_and_about_it_on_other_tokens(selector):
    calibration, other = level(selector, scores(2000, seed=1)), level(selector, scores(2000, seed=2))
    for k in GRID[:-1]:
        at = cut(calibration, k)
        assert (calibration >= at).float().mean().item() == pytest.approx(k, abs=1e-4)
        kept = (other >= at).sum(-1).float()
        assert kept.mean().item() / F == pytest.approx(k, abs=0.02)
        assert kept.std() > 0  # as many as the token needs
    assert cut(calibration, 1.0) == -torch.inf


def test_levels_by_their_definitions():
    row = torch.tensor([[3.0, 0.0, 4.0, 1.0]])
    assert torch.equal(level("threshold", row), row)
    torch.testing.assert_close(level("rel_max", row), row / 4)
    # energies 9, 0, 16, 1: the smallest set with 90 % of 26 = 23.4 is {4, 3}: 25; with 60 %: {4}
    share = level("top_p", row)
    torch.testing.assert_close(share, torch.tensor([[10 / 26, 0.0, 1.0, 1 / 26]]))
    assert (share > 1 - 0.9).tolist() == [[True, False, True, False]]
    assert (share > 1 - 0.6).tolist() == [[False, False, True, False]]
    # brute force: fewest neurons whose energy reaches p
    for random_row in scores(20, 12, seed=4):
        energy = np.sort(random_row.double().numpy() ** 2)[::-1]
        for p in (0.3, 0.8, 0.99):
            fewest = int(np.searchsorted(np.cumsum(energy) / energy.sum(), p) + 1)
            assert int((level("top_p", random_row[None].double()) > 1 - p).sum()) == fewest


@pytest.mark.parametrize("selector", ["topk", "threshold", "top_p", "rel_max"])
def test_masks_are_nested_in_k(selector):
    score = scores(50).round(decimals=1)  # many ties
    before = torch.zeros_like(score, dtype=torch.bool)
    for k in GRID:
        if selector == "topk":
            mask = top_mask(score, k)
        else:
            levels = level(selector, score)
            mask = levels >= cut(levels, k)
        assert not (before & ~mask).any()
        before = mask
    assert before.all()


def test_silent_tokens_do_not_break_levels():
    silent = torch.zeros(2, 5)
    for selector in ("threshold", "top_p", "rel_max"):
        assert torch.isfinite(level(selector, silent)).all()


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "llama"])
def test_scores(kind):
    model = tiny(kind)
    mlp = find_mlps(model)[1]
    acts = torch.randn(2, 3, F)
    assert torch.equal(abs_act(mlp, acts), acts.abs())
    # the norm of what one neuron writes, by running the down-projection on it alone
    alone = mlp.down(torch.eye(F)) - mlp.down(torch.zeros(F, F))
    torch.testing.assert_close(
        abs_act_x_wnorm(mlp, acts), acts.abs() * alone.norm(dim=1), rtol=1e-4, atol=1e-5
    )
    drawn = scored("random", mlp, acts, seed=0)
    assert torch.equal(drawn, scored("random", mlp, -acts, seed=0))
    assert not torch.equal(drawn, scored("random", mlp, acts, seed=1))
    assert not torch.equal(drawn, scored("random", find_mlps(model)[0], acts, seed=0))
    assert not torch.equal(drawn[:, 0], drawn[:, 1])
