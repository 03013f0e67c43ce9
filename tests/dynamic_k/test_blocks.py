"""Blocks on networks whose answer is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from saescope.dynamic_k.blocks import block_mask, block_section, measure_blocks

from .planted import circles, grouped, own_texts, studied, unstructured


def test_blocks_of_a_planted_network_reach_the_bound():
    lm = grouped(groups=8, tokens=4, neurons=8)
    windows = circles([[0, 1, 2, 3], [4, 5, 6, 7]], tokens=4, documents=24)
    neurons, evaluation, _ = studied(lm, windows, 0.125)
    (result,) = measure_blocks(neurons, evaluation, {0.125: 19}, resamples=100, seed=0)
    assert result.ce_delta["neuron"] == pytest.approx(0.0, abs=1e-6)
    assert result.ce_delta["random"] > 1
    eta = result.eta["community"]
    assert eta.eta == pytest.approx(1.0, abs=1e-3)
    assert (eta.low, eta.high) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert eta.p == 1 / 20
    section = block_section([result], neurons)
    assert "≤ 1/20" in section["rows"][0]  # the floor of 19 partitions: no exact p
    planted = np.repeat(np.arange(8), 8)
    assert adjusted_rand_score(planted, neurons[0].communities.community_F) == 1.0


@pytest.mark.slow
def test_blocks_of_a_network_without_structure_recover_nothing():
    etas, ps = [], []
    for seed in range(3):
        lm = unstructured(seed=seed)
        neurons, evaluation, _ = studied(lm, own_texts(lm, 40, seed=seed), 0.25)
        (result,) = measure_blocks(neurons, evaluation, {0.25: 19}, resamples=100, seed=seed)
        eta = result.eta["community"]
        assert abs(eta.eta) < np.abs(eta.null_R).max()
        etas.append(eta.eta)
        ps.append(eta.p)
    assert abs(np.mean(etas)) < 0.05
    assert min(ps) > 0.05


def test_block_masks_keep_exactly_the_count_in_whole_blocks():
    rng = np.random.default_rng(0)
    block_F = rng.permutation(np.repeat(np.arange(5), [3, 5, 5, 4, 7]))
    rank_F = np.array([(block_F[:f] == block_F[f]).sum() for f in range(24)])
    energy = torch.from_numpy(rng.random((6, 2, 24)))
    for count in (1, 5, 12, 24):
        kept = block_mask(energy, torch.from_numpy(block_F), torch.from_numpy(rank_F), count).numpy()
        assert (kept.sum(-1) == count).all()
        for token, mine in zip(energy.reshape(-1, 24).numpy(), kept.reshape(-1, 24), strict=True):
            mean = [token[block_F == b].mean() for b in range(5)]
            whole = [mine[block_F == b].all() for b in range(5)]
            part = [mine[block_F == b].any() for b in range(5)]
            order = np.argsort(mean)[::-1]
            assert sum(p and not w for p, w in zip(part, whole, strict=True)) <= 1
            assert [bool(part[b]) for b in order] == sorted((bool(p) for p in part), reverse=True)
