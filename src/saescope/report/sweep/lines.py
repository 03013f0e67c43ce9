"""Points, and the lines through them: along a line one setting changes, other settings and texts do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from saescope.metrics import Metric, shown
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.settings import Value, confounded, steps
from saescope.runfolder.values import finite

Row = Mapping[str, Any]

MEASURES = shown("axes")
"""The metrics that are followed along the axes."""


@dataclass(frozen=True)
class Reading:
    """A measure at one point, averaged over its repetitions."""

    value: float
    noise: float
    """Half-width within which the value is uncertain: interval or null spread, or the spread over seeds."""
    null: float | None
    seeds: int
    """Repetitions behind the value."""


@dataclass(frozen=True)
class Point:
    """All finished jobs of one condition: they differ in seeds only."""

    x: Value
    jobs: tuple[int, ...]
    readings: Mapping[str, Reading]
    """By the key of the measure."""


@dataclass(frozen=True)
class Line:
    """Points along one axis in order."""

    axis: str
    group: str
    at: tuple[tuple[str, Value], ...]
    """The other settings that vary in the sweep, and their values here."""
    ordered: bool
    """Numbers (or training steps): a line may join them. Names have no order."""
    points: tuple[Point, ...]


def lines(
    rows: Sequence[Row], groups: Sequence[Group], axes: Sequence[str], spread: Mapping[str, float]
) -> list[Line]:
    """Every line along every axis, within the groups of comparable jobs; `spread` is `seed_spread`."""
    all_lines = []
    # over all groups, so that these are the settings which the warning on the page names
    measured = [dict(rows[at]) for group in groups for at in group.members]
    for axis in axes:
        fixed = set(confounded(measured, axis, list(axes)))
        others = [other for other in axes if other != axis and other not in fixed]
        for group in groups:
            members = distinct(rows, group.members)
            runs: dict[tuple[tuple[str, Value], ...], dict[Value, list[int]]] = {}
            for at in members:
                rest = tuple((other, rows[at].get(other)) for other in others)
                runs.setdefault(rest, {}).setdefault(steps(rows[at].get(axis)), []).append(at)
            for rest, by_x in runs.items():
                ordered = all(finite(x) is not None for x in by_x)
                xs = sorted(by_x, key=lambda x: finite(x) or 0.0) if ordered else list(by_x)
                points = tuple(point(rows, x, by_x[x], spread) for x in xs)
                all_lines.append(Line(axis, group.name, rest, ordered, points))
    return all_lines


def seed_spread(rows: Sequence[Row], groups: Sequence[Group], axes: Sequence[str]) -> dict[str, float]:
    """Pooled standard deviation over repetitions, by key; a measure never repeated is left out."""
    spread: dict[str, float] = {}
    for measure in MEASURES:
        squares, freedom = 0.0, 0
        for group in groups:
            cells: dict[tuple[Value, ...], list[float]] = {}
            for at in distinct(rows, group.members):
                value = finite(rows[at].get(measure.key))
                if value is not None:
                    cells.setdefault(tuple(rows[at].get(axis) for axis in axes), []).append(value)
            for values in cells.values():
                if len(values) > 1:
                    squares += stdev(values) ** 2 * (len(values) - 1)
                    freedom += len(values) - 1
        if freedom:
            spread[measure.key] = float((squares / freedom) ** 0.5)
    return spread


def interval_of(row: Row, measure: Metric) -> float | None:
    """Half-width of the measure's uncertainty within the job; None when the job has none.

    Half its 95 % interval (matched SI: that of SI, the same documents). Without one 1.96 standard deviations:
    for Q of the null's Q, for matched Q its standard error over draws.
    """
    if measure.low and measure.high:
        low, high = finite(row.get(measure.low)), finite(row.get(measure.high))
        return None if low is None or high is None else (high - low) / 2
    sd = finite(row.get(measure.sd)) if measure.sd else None
    return None if sd is None else 1.96 * sd


def point(rows: Sequence[Row], x: Value, jobs: list[int], spread: Mapping[str, float]) -> Point:
    """The point of `jobs` that differ in seeds only."""
    readings = {}
    for measure in MEASURES:
        values = [value for at in jobs if (value := finite(rows[at].get(measure.key))) is not None]
        if not values:
            continue
        own = [half for at in jobs if (half := interval_of(rows[at], measure)) is not None]
        # The spread over seeds is that of the sweep: two or three seeds here say little about it.
        noise = max(mean(own) if own else 0.0, 1.96 * spread.get(measure.key, 0.0))
        key = measure.null
        null = [value for at in jobs if key and (value := finite(rows[at].get(key))) is not None]
        readings[measure.key] = Reading(mean(values), noise, mean(null) if null else None, len(values))
    return Point(x, tuple(jobs), readings)


def distinct(rows: Sequence[Row], members: Sequence[int]) -> list[int]:
    """Members without those that are the same finished result linked into another sweep."""
    seen: dict[Any, int] = {}
    for at in members:
        seen.setdefault(rows[at].get("identity") or ("job", at), at)
    return list(seen.values())
