"""Communities and blocks of planted graphs."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from saescope.dynamic_k.communities import balanced, by_weights, find_communities, firing, shuffled


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
