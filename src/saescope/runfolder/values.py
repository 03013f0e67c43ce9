"""Numbers as they are read from files."""

import math
from numbers import Real


def finite(value: object) -> float | None:
    """The number, or None for null, NaN, infinity and anything that is no number (numpy's numbers are)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond any float, which JSON can spell
        return None
    return number if math.isfinite(number) else None
