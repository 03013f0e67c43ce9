import numpy as np
import pytest
from scipy import sparse
from scipy.stats import multivariate_hypergeom

from saescope.stats.matched import most_frequent
from saescope.stats.matched_specialization import matched_specialization, thinned_counts
from saescope.stats.specialization import specialization, task_counts
from saescope.stats.synthetic import bursty, documents, planted

TASKS = 6


def matched(counts_DF, tokens_D, task_D, **settings):
    frequent = most_frequent(np.asarray(counts_DF.sum(axis=0)).ravel())
    return matched_specialization(counts_DF, tokens_D, task_D, TASKS, frequent, **{"firings": 50} | settings)


def split(counts_DF, copies):
    """Every firing goes to one of the copies of its latent at random."""
    shares = np.random.default_rng(0).multinomial(counts_DF.toarray(), np.full(copies, 1 / copies))
    return sparse.csr_matrix(shares.reshape(counts_DF.shape[0], -1))


def every(step, counts_DF, tokens_D, task_D):
    """One document of every `step`."""
    return counts_DF[::step], tokens_D[::step], task_D[::step]


def mean_independent(counts_DF, tokens_D, task_D):
    """The index that takes firings for independent, not thinned."""
    counts_FK = task_counts(counts_DF, task_D, TASKS)
    return float(specialization(counts_FK, np.bincount(task_D, weights=tokens_D)).mean())


def test_thinning_is_multivariate_hypergeometric():
    colours = np.array([7, 11, 0, 4])
    by_latent = sparse.csc_matrix(np.tile(colours[:, None], (1, 20_000)))
    draws = thinned_counts(by_latent, 8, np.random.default_rng(0)).toarray()
    law = multivariate_hypergeom(colours[[0, 1, 3]], 8)
    assert (draws[2] == 0).all()
    np.testing.assert_allclose(draws[[0, 1, 3]].mean(1), law.mean(), atol=0.05)
    np.testing.assert_allclose(np.cov(draws[[0, 1, 3]]), law.cov(), atol=0.05)
    with pytest.raises(ValueError, match="fewer than the 23 to draw"):
        thinned_counts(by_latent, 23, np.random.default_rng(0))


def test_latents_of_one_task_have_the_index_1_and_rare_ones_are_left_out():
    counts = np.zeros((60, 3), dtype=int)
    counts[:10, 0] = 9  # 90 firings on task 0
    counts[10:20, 1] = 7  # 70 on task 1
    counts[:, 2] = [1, 0] * 30  # 30 on all tasks
    documents_of = sparse.csr_matrix(counts), np.full(60, 100), np.repeat(np.arange(TASKS), 10)
    si, latents = matched_specialization(*documents_of, TASKS, np.arange(3), firings=50)
    assert (si, latents) == (pytest.approx(1.0), 2)
    si, latents = matched_specialization(*documents_of, TASKS, np.arange(3), firings=30)
    assert latents == 3
    assert si < 0.8
    assert matched_specialization(*documents_of, TASKS, np.arange(3), firings=91) == (None, 0)
    with pytest.raises(ValueError, match="at least 1"):
        matched_specialization(*documents_of, TASKS, np.arange(3), firings=0)


def test_bursts_are_not_specialisation_with_few_documents_either():
    noise = bursty(400, 100, seed=0)
    few = every(2, *noise)
    assert mean_independent(*few) > mean_independent(*noise) + 0.02
    assert abs(matched(*few)[0] - matched(*noise)[0]) < 0.01
    assert matched(*noise)[0] < 0.02


@pytest.fixture(scope="module")
def specialists():
    data = planted(512, 16, 30_000, boost=1.2, seed=0)
    return documents(data.active_NF, data.task_N, 100)


@pytest.mark.parametrize(
    "change",
    [
        lambda counts, *rest: (split(counts, 2), *rest),
        lambda counts, *rest: (split(counts, 4), *rest),
        lambda counts, *rest: (sparse.hstack([counts, counts]).tocsr(), *rest),
        lambda *data: every(2, *data),
        lambda *data: every(4, *data),
    ],
    ids=["two copies", "four copies", "twice", "half of the documents", "a quarter"],
)
def test_splitting_duplicating_and_halving_leave_si(specialists, change):
    before, after = matched(*specialists)[0], matched(*change(*specialists))[0]
    assert before > 0.03
    assert abs(after - before) < 0.01


def test_a_real_difference_is_seen():
    data = planted(512, 16, 30_000, boost=1.6, seed=0)
    more = documents(data.active_NF, data.task_N, 100)
    less = planted(512, 16, 30_000, boost=1.2, seed=0)
    assert matched(*more)[0] > matched(*documents(less.active_NF, less.task_N, 100))[0] + 0.01
