"""Neighbouring points of a line: is the difference larger than the noise?"""

from collections.abc import Sequence
from dataclasses import dataclass

from saescope.metrics import Metric
from saescope.report.sweep.comparisons import Comparison, Comparisons, Jobs, Settings
from saescope.report.sweep.lines import Line, Point
from saescope.report.sweep.phrases import value_text
from saescope.report.sweep.settings import Value
from saescope.report.sweep.uncertainty import MEASURES


@dataclass(frozen=True)
class Difference:
    """What one step along an axis does to a measure."""

    measure: Metric
    axis: str
    group: str
    at: tuple[tuple[str, Value], ...]
    """The other settings that vary in the sweep, and their values here."""
    before: Value
    after: Value
    ordered: bool
    """The axis has numbers; names have no direction, so nothing rises or falls along them."""
    before_jobs: Jobs
    """The jobs behind the earlier point."""
    jobs: Jobs
    """The jobs behind the later point."""
    low: float
    """The measure before the step."""
    high: float
    """The measure after the step."""
    comparison: Comparison | None
    """Its interval; None where nothing is known of its noise."""

    @property
    def change(self) -> float:
        """After minus before."""
        return self.high - self.low

    @property
    def noise(self) -> float:
        """Half-width of the interval of the change, which holds for all differences of the sweep at once."""
        return self.comparison.half_width if self.comparison else float("inf")

    @property
    def within_noise(self) -> bool:
        """The change is no larger than the noise."""
        return self.comparison is None or self.comparison.within_noise

    @property
    def verdict(self) -> str:
        """`within noise`; along numbers `rises` or `falls`, between names `higher` or `lower`."""
        if self.comparison is None:
            return "noise not known"
        if self.within_noise:
            return "within noise"
        up, down = ("rises", "falls") if self.ordered else ("higher", "lower")
        return up if self.change > 0 else down


def step_pairs(lines: Sequence[Line]) -> list[Settings]:
    """The jobs before and after every step of every line, and the same step at all settings together."""
    steps: dict[tuple[str, Value, Value], list[tuple[Jobs, Jobs]]] = {}
    for line in lines:
        for before, after in _neighbours(line):
            steps.setdefault((line.axis, before.x, after.x), []).append((before.jobs, after.jobs))
    single: list[Settings] = [(pair,) for pairs in steps.values() for pair in pairs]
    return single + [tuple(pairs) for pairs in steps.values() if len(pairs) > 1]


def differences(lines: Sequence[Line], comparisons: Comparisons) -> list[Difference]:
    """Every step of every line; along an axis of names each point is compared with the first."""
    compared = []
    for line in lines:
        for before, after in _neighbours(line):
            compared += _steps(line, before, after, comparisons)
    return compared


def _neighbours(line: Line) -> list[tuple[Point, Point]]:
    if line.ordered:
        return list(zip(line.points, line.points[1:], strict=False))
    return [(line.points[0], point) for point in line.points[1:]]


def within_noise(compared: Sequence[Difference], job: int) -> str:
    """The steps that end at a job and are within noise: `SI along sae.k from 16; Q beside sae.source=…`."""
    return "; ".join(
        f"{step.measure.short} along {step.axis} from {value_text(step.before)}"
        if step.ordered
        else f"{step.measure.short} beside {step.axis}={value_text(step.before)}"
        for step in compared
        if job in step.jobs and step.within_noise
    )


def _steps(line: Line, before: Point, after: Point, comparisons: Comparisons) -> list[Difference]:
    return [
        Difference(
            measure,
            line.axis,
            line.group,
            line.at,
            before.x,
            after.x,
            line.ordered,
            before.jobs,
            after.jobs,
            before.readings[measure.key].value,
            after.readings[measure.key].value,
            comparisons.between(before.jobs, after.jobs, measure),
        )
        for measure in MEASURES
        if measure.key in before.readings and measure.key in after.readings
    ]
