"""Numbers as people read them: three significant digits, thousands separators, no false precision."""

from saescope.metrics import at_floor
from saescope.runfolder.values import finite

DASH = "—"


def count(value: object) -> str:
    """`16,854`, or a dash."""
    number = finite(value)
    return DASH if number is None else f"{round(number):,}"


def figure(value: object, digits: int = 3) -> str:
    """`0.183`, `0.360`, `16,854`, `2.1e-07`, or a dash; `digits` significant digits, always all of them."""
    number = finite(value)
    if number is None:
        return DASH
    if number == 0 or abs(number) >= 10 ** (digits - 1):
        return f"{number:,.0f}"
    if 0 < abs(number) < 1e-4:
        return f"{number:.1e}"
    return f"{number:#.{digits}g}".removesuffix(".")


def percent(value: object) -> str:
    """A share as `83 %`; `0 %` and `100 %` are exact."""
    share = finite(value)
    if share is None:
        return DASH
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    rounded = f"{100 * share:.1f}" if share < 0.0995 or share > 0.99 else f"{100 * share:.0f}"
    return rounded.removesuffix(".0") + " %"


def p_value(value: object, draws: int | None) -> str:
    """`p ≤ 1/21`, `p < 0.001` or `p = 0.048`, or `p not known`.

    `draws`: behind a permutation p-value, (1 + draws that reach the observed)/(draws + 1). With more of them
    its floor 1/(draws + 1) would be smaller, so a p at the floor is an upper bound. None: not known.
    """
    p = finite(value)
    if p is None:
        return "p not known"
    if draws is not None and at_floor(p, draws):
        return f"p ≤ 1/{count(draws + 1)}"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def interval(low: object, high: object) -> str:
    """`0.171–0.192`, or an empty string when either end is unknown."""
    if finite(low) is None or finite(high) is None:
        return ""
    return f"{figure(low)}–{figure(high)}"


def seconds(value: object) -> str:
    """`48 s`, `12 min 5 s`, `3 h 20 min`, or a dash."""
    number = finite(value)
    if number is None:
        return DASH
    if number < 90:
        return f"{number:.3g} s"
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
