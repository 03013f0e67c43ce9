"""Which community a token belongs to."""

import numpy as np

from saescope.dynamic_k.union import SIZES, dominant


def test_the_dominant_community_is_relative_to_its_mean():
    score = np.array([[10.0, 1.0], [10.0, 3.0], [12.0, 1.0]])
    assert dominant(score, np.array([0, 1])).tolist() == [0, 1, 0]
    assert dominant(score, np.array([-1, -1])).tolist() == [0, 0, 0]
    assert SIZES[0] == 1
