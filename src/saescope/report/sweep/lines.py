"""Points, and the lines through them: along a line one setting changes, other settings and texts do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from saescope.report.sweep.comparable import Group
from saescope.report.sweep.settings import Value, confounded, steps
from saescope.report.sweep.uncertainty import MEASURES, Uncertainty, distinct
from saescope.runfolder.values import finite

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """A measure at one point, averaged over its repetitions."""

    value: float
    noise: float
    """Half-width within which the value is uncertain: that of the documents, or of the seeds where larger."""
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
    rows: Sequence[Row], groups: Sequence[Group], axes: Sequence[str], uncertainty: Uncertainty
) -> list[Line]:
    """Every line along every axis, within the groups of comparable jobs."""
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
                points = tuple(point(rows, x, by_x[x], uncertainty) for x in xs)
                all_lines.append(Line(axis, group.name, rest, ordered, points))
    return all_lines


def point(rows: Sequence[Row], x: Value, jobs: list[int], uncertainty: Uncertainty) -> Point:
    """The point of `jobs` that differ in seeds only."""
    readings = {}
    for measure in MEASURES:
        values = [value for at in jobs if (value := finite(rows[at].get(measure.key))) is not None]
        if not values:
            continue
        own = [half for at in jobs if (half := uncertainty.half_width(at, rows[at], measure)) is not None]
        # The spread over seeds is that of the sweep: two or three seeds here say little about it.
        spread = uncertainty.seeds.get(measure.key)
        noise = max(mean(own) if own else 0.0, 1.96 * spread.sd if spread else 0.0)
        key = measure.null
        null = [value for at in jobs if key and (value := finite(rows[at].get(key))) is not None]
        readings[measure.key] = Reading(mean(values), noise, mean(null) if null else None, len(values))
    return Point(x, tuple(jobs), readings)
