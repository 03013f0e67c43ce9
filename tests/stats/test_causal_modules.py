"""Modules: sets of like decoder rows, selectivity by hand, and sums over members from a sample."""

import numpy as np
import pytest

from saescope.stats.causal_modules import (
    decoder_sets,
    mean_selectivity,
    preferred_task,
    sample_members,
)


def test_sets_of_like_decoder_rows():
    """Three bundles of directions: each set is one bundle, the largest first; the rest is cut to size."""
    rng = np.random.default_rng(0)
    bundle = np.repeat([0, 1, 2], [50, 30, 20])
    rows = 5 * np.eye(8)[bundle] + 0.3 * rng.normal(size=(100, 8))
    rows *= rng.uniform(0.1, 10, (100, 1))
    sets = decoder_sets(rows, [30, 50, 20], np.ones(100, dtype=bool), 3, seed=0)
    assert [set(bundle[s]) for s in sets] == [{1}, {0}, {2}]
    assert [len(s) for s in sets] == [30, 50, 20]
    pool = bundle != 0
    sets = decoder_sets(rows, [10, 25], pool, 2, seed=0)
    assert [set(bundle[s]) for s in sets] == [{2}, {1}]


def test_sets_larger_than_the_pool_get_what_there_is():
    sets = decoder_sets(np.eye(4), [3, 3], np.ones(4, dtype=bool), 2, seed=0)
    assert sorted(map(len, sets)) == [1, 3]
    assert len(np.unique(np.concatenate(sets))) == 4


def test_the_preferred_task_and_selectivity_by_hand():
    rates = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.6], [0.0, 0.4, 0.1]])
    own = preferred_task([np.array([0, 1]), np.array([1, 2])], rates)
    assert own.tolist() == [0, 1]
    matrix = np.array([[3.0, 1.0, 1.0], [2.0, 2.0, 0.0]])
    assert mean_selectivity(matrix, own) == pytest.approx((0.75 + 2 / 3) / 2)


def test_members_that_are_few_are_all_taken():
    members, weight = sample_members(np.array([0.0, 2.0, 1.0]), 2, np.random.default_rng(0))
    assert (members.tolist(), weight.tolist()) == ([1, 2], [1.0, 1.0])


def test_the_sum_from_a_sample_is_unbiased():
    rng = np.random.default_rng(0)
    approximate = rng.gamma(0.5, 1.0, 200)
    exact = approximate * rng.uniform(0.5, 3.0, 200)
    sums = []
    for _ in range(400):
        members, weight = sample_members(approximate, 12, rng)
        assert len(members) <= 12
        sums.append((weight * exact[members]).sum())
    assert np.mean(sums) == pytest.approx(exact.sum(), rel=0.04)
    assert np.std(sums) < 0.3 * exact.sum()  # of 12 drawn evenly it would be 0.45
    approximate[7] = 1e-9  # badly approximated: no sum is far off
    far = [
        (weight * exact[members]).sum() / exact.sum()
        for members, weight in (sample_members(approximate, 12, rng) for _ in range(400))
    ]
    assert max(far) < 3
