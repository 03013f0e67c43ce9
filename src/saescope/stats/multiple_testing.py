"""False discovery rate of many tests."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from saescope.stats.arrays import FloatArray


def benjamini_hochberg(p: npt.NDArray[Any], num_tests: int | None = None) -> FloatArray:
    """Benjamini-Hochberg adjusted p-values (1995), in the order given.

    `num_tests` may exceed `len(p)`: the tests not listed count as p = 1 (they cannot lower any q).
    Raises ValueError when it is smaller than `len(p)` or a p lies outside [0, 1] (NaN included).
    """
    p = np.asarray(p, dtype=np.float64)
    num_tests = p.size if num_tests is None else num_tests
    if num_tests < p.size:
        raise ValueError(f"num_tests {num_tests} is smaller than the number of p-values {p.size}")
    q: FloatArray = false_discovery_control(p)
    return np.minimum(q * (num_tests / max(1, p.size)), 1.0)
