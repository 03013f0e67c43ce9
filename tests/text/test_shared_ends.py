"""Templates: what all documents of a task begin and end with, and those of other tasks do not."""

import numpy as np

from saescope.text.shared_ends import FEWEST, SHORTEST, shared_ends


def ids(*parts: object) -> np.ndarray:
    return np.array([token for part in parts for token in np.atleast_1d(part)], dtype=np.int32)


def bodies(seed: int, count: int = FEWEST):
    rng = np.random.default_rng(seed)
    return [np.concatenate([[100 + i], rng.integers(200, 1000, 20), [150 + i]]) for i in range(count)]


def lengths(*tasks):
    return [(len(ends.prefix), len(ends.suffix)) for ends in shared_ends(tasks)]


def test_a_template_of_one_task_is_found():
    templated = [ids([1, 2, 3, 4, 5], body, [6, 7, 8, 9]) for body in bodies(0)]
    ends = shared_ends([templated, bodies(1)])
    assert ends[0].prefix.tolist() == [1, 2, 3, 4, 5]
    assert ends[0].suffix.tolist() == [6, 7, 8, 9]
    assert lengths(templated, bodies(1))[1] == (0, 0)


def test_what_all_tasks_share_is_no_confound():
    same = [[ids([1, 2, 3, 4, 5], body) for body in bodies(seed)] for seed in (0, 1)]
    assert lengths(*same) == [(0, 0), (0, 0)]
    more = [ids([1, 2, 3, 4, 5], [*range(10, 10 + SHORTEST)], body) for body in bodies(0)]
    assert lengths(more, same[1]) == [(SHORTEST, 0), (0, 0)]


def test_few_tokens_and_few_documents_are_chance():
    short = [ids([1] * (SHORTEST - 1), body) for body in bodies(0)]
    few = [ids([1] * 9, body) for body in bodies(0, FEWEST - 1)]
    assert lengths(short, bodies(1)) == [(0, 0), (0, 0)]
    assert lengths(few, bodies(1)) == [(0, 0), (0, 0)]
