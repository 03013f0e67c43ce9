"""Pieces of the sentences on a sweep: measures, settings and numbers as words."""

from collections.abc import Mapping, Sequence
from typing import Any

from saescope.metrics import (
    MATCHED_Q,
    MATCHED_Q_FIRINGS,
    MATCHED_Q_LATENTS,
    MATCHED_SI,
    MATCHED_SI_COUNT,
    Metric,
)
from saescope.report.numbers import DASH, count, figure
from saescope.report.sweep.settings import Value
from saescope.runfolder.values import finite

Row = Mapping[str, Any]

MOST = 4
"""Steps, settings or results that a sentence names one by one; the tables of the page have all."""


def subject(measure: Metric, rows: Sequence[Row]) -> str:
    """A measure at the start of a sentence; a matched one says what it is matched at."""
    if measure == MATCHED_SI:
        firings = {row.get(MATCHED_SI_COUNT.key) for row in rows} - {None}
        return f"At matched firing counts ({values_text(list(firings))} a latent) SI"
    if measure == MATCHED_Q:
        latents = {row.get(MATCHED_Q_LATENTS.key) for row in rows} - {None}
        firings = {row.get(MATCHED_Q_FIRINGS.key) for row in rows} - {None}
        graphs = f"graphs of {values_text(list(latents))} latents, {values_text(list(firings))} firings each"
        return f"At equal evidence ({graphs}) Q"
    return measure.short


def at_text(at: Sequence[tuple[str, Value]]) -> str:
    """`sae.k=4, hookpoint.layer=3`."""
    return ", ".join(f"{axis}={value_text(value)}" for axis, value in at)


def signed(value: float) -> str:
    """`+0.0123`."""
    return f"{'+' if value > 0 else ''}{figure(value)}"


def span(low: float, high: float) -> str:
    """`0.061 to 0.069`: an interval that may hold negative numbers."""
    return f"{figure(low)} to {figure(high)}"


def value_text(value: Any) -> str:
    """A setting; large whole numbers with separators, a dash where a job does not have it."""
    if value is None:
        return DASH
    return count(value) if isinstance(value, int) and value >= 10_000 else str(value)


def values_text(values: Sequence[Any]) -> str:
    """The distinct settings in order, at most eight of them; last a dash where some job does not have it."""
    distinct = [value for value in dict.fromkeys(values) if value is not None]
    if distinct and all(finite(value) is not None for value in distinct):
        distinct.sort()
    texts = list(map(value_text, distinct + [None] * (None in values)))
    return ", ".join(texts[:8]) + (f", … ({len(texts)} values)" if len(texts) > 8 else "")


def joined(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def jobs_text(number: int) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} job{'' if number == 1 else 's'}"


def steps_text(number: int) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} step{'' if number == 1 else 's'}"
