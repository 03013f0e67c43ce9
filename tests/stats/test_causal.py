"""Selectivity, ratios, intervals and matched p of effects whose answer is known by hand."""

import numpy as np
import pytest

from saescope.stats.causal import (
    FLOOR,
    Effects,
    geometric_ratio,
    hurts_own_most,
    interval,
    matched_p,
    measured_weights,
    norm_ratio,
    own_and_others,
    per_unit,
    selectivity,
    summarise,
    task_matrix,
    unit_selectivity,
)

TASK_D = np.array([0, 0, 1, 2])
TOKENS_D = np.array([10, 30, 20, 40])


def effects(ce_GD, kl_GD=None, firings_GD=None, norm_GD=None, tokens_D=TOKENS_D) -> Effects:
    ce = np.asarray(ce_GD, float)
    given = [
        np.asarray(x, float) if x is not None else np.ones_like(ce) for x in (kl_GD, norm_GD, firings_GD)
    ]
    return Effects(ce, given[0], given[1], given[2], np.asarray(tokens_D))


def test_mean_effects_by_hand() -> None:
    ce = np.array([[4.0, 8.0, 2.0, 0.0]])
    assert task_matrix(ce, TOKENS_D, TASK_D, 3).tolist() == [[12 / 40, 0.1, 0.0]]
    own, others = own_and_others(task_matrix(ce, TOKENS_D, TASK_D, 3), np.array([0]))
    assert own[0] == pytest.approx(0.3)
    assert others[0] == pytest.approx(0.05)
    assert selectivity(own, others)[0] == pytest.approx(0.3 / 0.35)


def test_resampled_effects_are_those_of_copied_documents() -> None:
    rng = np.random.default_rng(0)
    ce, weight_BD = rng.normal(size=(2, 4)), np.array([[2.0, 0, 1, 1], [1, 1, 1, 1]])
    drawn = task_matrix(ce, TOKENS_D, TASK_D, 3, weight_BD)
    np.testing.assert_allclose(drawn[1], task_matrix(ce, TOKENS_D, TASK_D, 3))
    np.testing.assert_allclose(drawn[0][:, 0], ce[:, 0] / 10)
    assert drawn.shape == (2, 2, 3)


def test_the_ends_of_selectivity() -> None:
    own, others = np.array([1.0, 0.0, 0.5, -1.0, -1.0, 2.0]), np.array([0.0, 1.0, 0.5, 0.3, -2.0, -0.1])
    assert selectivity(own, others).tolist() == [1.0, 0.0, 0.5, 0.0, 0.5, 1.0]
    assert np.isnan(selectivity(np.array([np.nan]), np.array([1.0]))[0])


def test_ratio_is_a_geometric_mean_and_finite_without_effect() -> None:
    assert geometric_ratio(np.array([4.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx(2.0, rel=1e-6)
    assert geometric_ratio(np.array([0.0]), np.array([0.0])) == 1.0
    assert geometric_ratio(np.array([1.0]), np.array([0.0])) == pytest.approx(1 / FLOOR, rel=1e-6)
    norm = own_and_others(np.array([[6.0, 1.0, 2.0]]), np.array([0]))
    assert norm_ratio(norm) == pytest.approx(4.0, rel=1e-6)


def test_which_set_hurts_a_task_most() -> None:
    matrix = np.array([[3.0, 0.1, 0.0], [0.2, 0.1, 0.0], [4.0, 0.0, 1.0]])
    assert hurts_own_most(matrix, np.arange(3)) == pytest.approx(2 / 3)  # the third hurts task 0 more


def test_per_firing_leaves_out_what_does_not_fire() -> None:
    ce = np.array([[1.0, 1.0, 4.0, 0.0], [0.0, 0.0, 3.0, 0.0]])
    firings = np.array([[1.0, 1.0, 2.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    rate = per_unit(ce, firings, TASK_D, 3)
    assert rate[0, :2].tolist() == [1.0, 2.0]
    assert np.isnan(rate[0, 2])
    assert unit_selectivity(rate, np.array([0, 1])) == pytest.approx(1 / 3)  # the second: own only
    assert np.isnan(unit_selectivity(rate[1:], np.array([1])))


def test_p_of_a_matched_draw() -> None:
    assert matched_p(3.0, [1.0, 2.0, 2.9]) == 0.25
    assert matched_p(3.0, [3.0, 4.0, 1.0]) == 0.75


def test_documents_are_drawn_within_their_task() -> None:
    weight_BD = measured_weights(TASK_D, np.array([10, 30, 20, 0]), 200, 0)
    assert (weight_BD[:, :2].sum(1) == 2).all()
    assert (weight_BD[:, 2] == 1).all()
    assert (weight_BD[:, 3] == 0).all()


def world(rng, documents=12, tasks=4, sets=4, own=0.0):
    """Effects of sets that hurt every task alike, in bursts of documents; `own` more on the own task."""
    task_D = np.repeat(np.arange(tasks), documents)
    tokens_D = rng.integers(40, 120, len(task_D))
    rate_GD = rng.gamma(2.0, 0.02, (sets, len(task_D)))
    rate_GD[np.arange(sets)[:, None] == task_D] *= 1 + own
    ce_GD = rate_GD * tokens_D + rng.normal(0, 0.02, rate_GD.shape)
    return effects(ce_GD, rate_GD * tokens_D, tokens_D=tokens_D), task_D


def test_interval_covers_the_truth() -> None:
    """Sets that hurt all tasks alike: selectivity 1/2, inside nine of ten intervals at least."""
    inside = 0
    for seed in range(200):
        data, task_D = world(np.random.default_rng(seed))
        weight_BD = measured_weights(task_D, data.tokens_D, 300, seed)
        low, high = interval(summarise(data, np.arange(4), task_D, 4, weight_BD).selectivity)
        inside += low <= 0.5 <= high
    assert inside >= 180


def test_summary_of_sets_that_hurt_only_their_own() -> None:
    own = np.eye(3)[:, TASK_D] * TOKENS_D * 0.2
    summary = summarise(effects(own, own, own, own), np.arange(3), TASK_D, 3)
    assert summary.selectivity == 1.0
    assert summary.own_ce == pytest.approx(0.2)
    assert summary.others_ce == 0.0
    assert summary.ratio == pytest.approx(0.2 / FLOOR, rel=1e-4)


def test_effects_add_up() -> None:
    total = Effects.zeros(1, 4)
    for _ in range(2):
        total.add(effects([[1.0, 2, 3, 4]]))
    assert total.ce_GD.tolist() == [[2.0, 4, 6, 8]]
    assert total.tokens_D.tolist() == (2 * TOKENS_D).tolist()
    assert total.of([0]).ce_GD.tolist() == total.ce_GD.tolist()


def test_a_task_of_one_document_leaves_the_spread_unknown() -> None:
    """Drawn anew, a single document is always the same: an interval of no width would look exact."""
    task_D, tokens_D = np.array([0, 1]), np.array([50, 60])
    data = effects(np.array([[5.0, 1.0], [1.0, 6.0]]), np.array([[5.0, 1.0], [1.0, 6.0]]), tokens_D=tokens_D)
    weight_BD = measured_weights(task_D, tokens_D, 50, 0)
    assert np.isnan(interval(summarise(data, np.arange(2), task_D, 2, weight_BD).selectivity)).all()
    assert np.isfinite(summarise(data, np.arange(2), task_D, 2).selectivity)
