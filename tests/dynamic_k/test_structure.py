"""Structure and savings on networks and graphs whose answer is known."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from saescope.dynamic_k.block_masks import block_mask, measure_blocks
from saescope.dynamic_k.communities import balanced, by_weights, find_communities, firing, shuffled
from saescope.dynamic_k.mlps import find_mlps
from saescope.dynamic_k.neurons import study
from saescope.dynamic_k.passes import Passes
from saescope.dynamic_k.split import split
from saescope.dynamic_k.structure import run_structure
from saescope.dynamic_k.task_masks import measure_transfer, own_and_others
from saescope.dynamic_k.union import SIZES, dominant
from saescope.metrics import keys

from .job import config, inputs
from .planted import circles, grouped, own_texts, unstructured


def measured(lm, windows, k, tokens=1200):
    """Neurons studied on calibration documents, evaluation passes, calibration tokens per document."""
    halves = split(windows, tokens, tokens)
    calibration, evaluation = (
        Passes(lm.model, windows, order, 256, "cpu") for order in (halves.calibration_W, halves.evaluation_W)
    )
    neurons = study(find_mlps(lm.model), calibration, k, seed=0)
    tokens_D = np.bincount(
        windows.doc_W[halves.calibration_W],
        weights=[windows.counted[w].sum() for w in halves.calibration_W],
        minlength=len(windows.task_D),
    ).astype(int)
    return neurons, evaluation, tokens_D


@pytest.mark.parametrize("tasks", [2, 4])
def test_masks_of_separate_parts_lose_nothing_at_home_and_everything_abroad(tasks):
    lm = grouped(groups=tasks, tokens=32 // tasks, neurons=32 // tasks, shared=False)
    windows = circles([[task] for task in range(tasks)], tokens=32 // tasks, documents=24)
    neurons, evaluation, tokens_D = measured(lm, windows, 1 / tasks)
    found = measure_transfer(neurons, tokens_D, evaluation, 1 / tasks, permutations=19, resamples=50, seed=0)
    own, home = found.delta["own"], np.eye(tasks, dtype=bool)
    assert (own[home] == 0.0).all()
    # without the MLP every token is as likely as any other
    assert own[~home] == pytest.approx(np.log(32), rel=1e-3)
    assert found.gain == pytest.approx(np.log(32), rel=1e-3)
    assert found.gain_interval == pytest.approx((found.gain, found.gain))
    np.testing.assert_allclose(found.delta["si"], own, atol=1e-3)  # each neuron is a specialist
    assert found.over_generic > 1
    # of two tasks, shuffled labels often leave a majority that is enough to find the right half
    assert found.p <= {2: 0.3, 4: 0.05}[tasks]
    assert found.null_P.mean() < 0.5 * found.gain


@pytest.mark.slow
def test_the_permutation_null_swallows_tasks_that_differ_in_name_only():
    ps, gains = [], []
    for seed in range(6):
        lm = unstructured(seed=seed)
        neurons, evaluation, tokens_D = measured(lm, own_texts(lm, 20, seed=seed), 0.5)
        found = measure_transfer(neurons, tokens_D, evaluation, 0.5, permutations=19, resamples=20, seed=seed)
        ps.append(found.p)
        gains.append(abs(found.gain) / found.delta["generic"].mean())
    assert np.mean(ps) > 0.25
    assert sum(p <= 0.05 for p in ps) <= 1
    assert max(gains) < 0.1


def test_blocks_of_a_planted_network_reach_the_bound():
    lm = grouped(groups=8, tokens=4, neurons=8)
    windows = circles([[0, 1, 2, 3], [4, 5, 6, 7]], tokens=4, documents=24)
    neurons, evaluation, _ = measured(lm, windows, 0.125)
    (result,) = measure_blocks(neurons, evaluation, {0.125: 19}, resamples=100, seed=0)
    assert result.ce_delta["neuron"] == pytest.approx(0.0, abs=1e-6)
    assert result.ce_delta["random"] > 1
    eta = result.eta["community"]
    assert eta.eta == pytest.approx(1.0, abs=1e-3)
    assert (eta.low, eta.high) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert eta.p == 1 / 20
    planted = np.repeat(np.arange(8), 8)
    assert adjusted_rand_score(planted, neurons[0].communities.community_F) == 1.0


@pytest.mark.slow
def test_blocks_of_a_network_without_structure_recover_nothing():
    etas, ps = [], []
    for seed in range(3):
        lm = unstructured(seed=seed)
        neurons, evaluation, _ = measured(lm, own_texts(lm, 40, seed=seed), 0.25)
        (result,) = measure_blocks(neurons, evaluation, {0.25: 19}, resamples=100, seed=seed)
        eta = result.eta["community"]
        assert abs(eta.eta) < np.abs(eta.null_R).max()
        etas.append(eta.eta)
        ps.append(eta.p)
    assert abs(np.mean(etas)) < 0.05
    assert min(ps) > 0.05


def test_a_job_gives_every_metric_and_tables_that_json_can_hold(model_folder, probes):
    cfg = config(
        model_folder, probes, target="mlp", k=(0.1, 0.5), tokens=600, calibration_tokens=600, bootstraps=20
    )
    part = run_structure(cfg, inputs(cfg))
    assert set(part.metrics) == set(keys("dynk.structure"))
    assert {key for key, value in part.metrics.items() if value is None} == set(part.notes)
    assert 0 < part.metrics["dynk/union_mixed_8"] <= 1
    assert part.metrics["dynk/union_same_task_8"] <= part.metrics["dynk/union_same_task_64"]
    assert [len(section["rows"]) for section in part.sections] == [4, 2, 8]
    for section in part.sections:
        assert all(len(row) == len(section["columns"]) for row in section["rows"])
    json.dumps(part.sections, allow_nan=False)


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


def test_communities_are_those_planted_and_blocks_are_parts_of_them():
    rng = np.random.default_rng(0)
    driver = rng.normal(size=(600, 3))
    score = np.abs(np.repeat(driver, [20, 12, 8], axis=1) + 0.3 * rng.normal(size=(600, 40)))
    found = find_communities(firing(score), largest=6, seed=0)
    planted = np.repeat([0, 1, 2], [20, 12, 8])
    assert adjusted_rand_score(planted, found.community_F) == 1.0
    assert np.bincount(found.block_F).max() <= 6
    assert all(len(set(planted[found.block_F == b])) == 1 for b in range(found.block_F.max() + 1))
    weights = np.eye(3)[planted] + 0.01 * rng.normal(size=(40, 3))
    for other in (shuffled(found.block_F, 1), by_weights(weights, found.block_F, 0)):
        assert sorted(np.bincount(other)) == sorted(np.bincount(found.block_F))


def test_independent_neurons_have_no_community():
    found = find_communities(firing(np.random.default_rng(0).random((500, 30))), largest=7, seed=0)
    assert found.edges <= 2
    assert sorted(np.bincount(found.block_F))[-1] <= 7


def test_firing_is_the_tenth_of_each_neurons_own_tokens_and_never_zero():
    score = np.random.default_rng(0).random((200, 3))
    score[:, 1] *= 1000
    score[:195, 2] = 0
    fires = firing(score).toarray()
    assert fires.sum(0).tolist() == [20, 20, 5]
    assert set(np.flatnonzero(fires[:, 0])) == set(np.argsort(score[:, 0])[-20:])


def test_balanced_clusters_take_the_nearest_while_there_is_room():
    points = np.array([0.0, 0.1, 0.2, 5.0])
    distance = np.abs(points[:, None] - np.array([0.0, 5.0])[None])
    assert balanced(distance, np.array([2, 2])).tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="add up"):
        balanced(distance, np.array([2, 1]))


def test_the_dominant_community_is_relative_to_its_mean():
    score = np.array([[10.0, 1.0], [10.0, 3.0], [12.0, 1.0]])
    assert dominant(score, np.array([0, 1])).tolist() == [0, 1, 0]
    assert dominant(score, np.array([-1, -1])).tolist() == [0, 0, 0]
    assert SIZES[0] == 1


def test_own_and_the_mean_of_the_others():
    own, others = own_and_others(np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 7.0]]), np.array([0, 2]))
    assert own.tolist() == [1.0, 7.0]
    assert others.tolist() == [3.5, 3.5]
