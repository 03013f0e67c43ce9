"""False discovery rate of many tests."""

from typing import Any

import numpy as np
import numpy.typing as npt

from saescope.stats.arrays import FloatArray


def benjamini_hochberg(p: npt.NDArray[Any], num_tests: int | None = None) -> FloatArray:
    """Benjamini-Hochberg adjusted p-values (1995), in the order given.

    ``num_tests`` may exceed ``len(p)``: the tests not listed count as p = 1 (they cannot lower any q).
    Raises ValueError when it is smaller than ``len(p)`` or a p lies outside [0, 1] (NaN included).
    """
    p = np.asarray(p, dtype=np.float64)
    num_tests = p.size if num_tests is None else num_tests
    if num_tests < p.size:
        raise ValueError(f"num_tests {num_tests} is smaller than the number of p-values {p.size}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * num_tests / np.arange(1, p.size + 1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q
