import numpy as np

from saescope.extraction.strata import Strata
from saescope.stats.resampling import document_groups

TASK_D = np.repeat([0, 1, 2], [6, 5, 1])


def test_without_groups_the_cells_are_the_tasks():
    strata = Strata(TASK_D, 3)
    assert strata.size == 3
    np.testing.assert_array_equal(strata.cell_D, TASK_D)
    sums = {"tokens": np.array([1.0, 2.0, 3.0])}
    np.testing.assert_array_equal(strata.by_task(sums)["tokens"], sums["tokens"])
    assert strata.without_each_group(sums) == []


def test_each_group_is_left_out_of_every_task():
    strata = Strata(TASK_D, 3, 4)
    value_D = 2.0 ** np.arange(12)
    sums = {"x": np.bincount(strata.cell_D, value_D, strata.size)}
    np.testing.assert_array_equal(strata.by_task(sums)["x"], np.bincount(TASK_D, value_D))
    group_D = document_groups(TASK_D, 4)
    for group, without in enumerate(strata.without_each_group(sums)):
        left = group_D != group
        np.testing.assert_array_equal(without["x"], np.bincount(TASK_D[left], value_D[left]))
    assert group_D[-1] == -1
