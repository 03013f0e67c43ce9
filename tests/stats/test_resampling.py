"""Some of the documents: whole ones, of every task the same share."""

import numpy as np
import pytest

from saescope.stats.resampling import some_documents


def test_every_task_gives_the_same_share_of_its_tokens():
    rng = np.random.default_rng(0)
    task_D = np.repeat([0, 1, 2], [900, 300, 60])
    tokens_D = rng.integers(1, 60, task_D.size)
    docs = some_documents(tokens_D, task_D, 9_000)
    assert (np.diff(docs) > 0).all()
    assert tokens_D[docs].sum() <= 9_000
    whole = np.bincount(task_D, tokens_D)
    shares = np.bincount(task_D[docs], tokens_D[docs]) / whole
    # a document more of each task would be too much
    np.testing.assert_array_less(9_000 / whole.sum() - 60 / whole, shares)
    np.testing.assert_array_equal(docs, some_documents(tokens_D, task_D, 9_000))


@pytest.mark.parametrize("most", [10, 11, 1_000])
def test_all_where_they_fit(most):
    assert some_documents(np.array([4, 6]), np.array([0, 1]), most).tolist() == [0, 1]


def test_a_task_is_never_without_a_document():
    assert some_documents(np.array([50, 50, 50]), np.array([0, 0, 1]), 1).size == 2
    assert some_documents(np.zeros(0, dtype=int), np.zeros(0, dtype=int), 5).size == 0
