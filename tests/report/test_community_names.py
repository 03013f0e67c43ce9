import numpy as np
import pytest

from saescope.report.community_names import PRIOR, characteristic_words


def test_words_of_one_group_name_it_and_shared_words_do_not():
    word_E = np.array([0, 1, 0, 2, 0, 3, 0, 4])
    share_E = np.array([0.4, 0.6] * 4)
    group_E = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    names = characteristic_words(word_E, share_E, group_E)
    assert set(names[0]) == {1, 2}
    assert set(names[1]) == {3, 4}


def test_two_words_in_two_groups_by_hand():
    """Masses 3 and 1 of word 0, 1 and 3 of word 1; prior 5 each: log(8/6) against log(6/8)."""
    word_E, share_E = np.array([0, 1, 0, 1]), np.array([3.0, 1.0, 1.0, 3.0])
    assert PRIOR == 10
    assert characteristic_words(word_E, share_E, np.array([0, 0, 1, 1])) == {0: [0], 1: [1]}


def test_many_latents_weigh_more_than_one_that_fires_on_nothing_else():
    """Ten latents that give half their firings to word 0 beside one with a word of its own."""
    word_E = np.r_[np.zeros(10), 1, np.full(40, 2)].astype(int)
    share_E = np.r_[np.full(10, 0.5), 1.0, np.full(40, 0.7)]
    group_E = np.r_[np.zeros(11), np.ones(40)].astype(int)
    assert characteristic_words(word_E, share_E, group_E)[0] == [0, 1]


def test_latents_of_no_group_count_among_the_others():
    word_E, share_E = np.array([0, 1, 1, 1]), np.array([0.5, 0.5, 1.0, 1.0])
    assert characteristic_words(word_E, share_E, np.array([0, 0, -1, -1])) == {0: [0]}


def test_the_same_firing_everywhere_names_nothing():
    word_E, share_E = np.tile([0, 1, 2], 20), np.tile([0.5, 0.3, 0.2], 20)
    names = characteristic_words(word_E, share_E, np.repeat(np.arange(4), 15))
    assert names == {0: [], 1: [], 2: [], 3: []}


@pytest.mark.parametrize("seed", range(3))
def test_planted_words_are_found_among_noise(seed):
    rng = np.random.default_rng(seed)
    group_L = np.repeat(np.arange(5), 40)
    word_LT = rng.integers(5, 400, (200, 4))
    word_LT[:, 0] = group_L
    share_LT = np.sort(rng.dirichlet(np.ones(5), 200), axis=1)[:, ::-1][:, :4]
    names = characteristic_words(word_LT.ravel(), share_LT.ravel(), np.repeat(group_L, 4))
    assert [name[0] for name in names.values()] == list(range(5))


def test_no_group_and_no_firing():
    assert characteristic_words(np.array([0]), np.array([1.0]), np.array([-1])) == {}
    assert characteristic_words(np.array([0]), np.array([0.0]), np.array([0])) == {0: []}
    assert characteristic_words(np.array([], int), np.array([]), np.array([], int)) == {}
