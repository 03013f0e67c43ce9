"""Neighbouring points of a line: is the difference larger than the noise?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from saescope.metrics import Metric
from saescope.report.sweep.lines import MEASURES, Line, Point
from saescope.report.sweep.settings import Value


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
    jobs: tuple[int, ...]
    """The jobs behind the later point."""
    low: float
    """The measure before the step."""
    high: float
    """The measure after the step."""
    noise: float
    """√(noise before² + noise after²)."""

    @property
    def change(self) -> float:
        """After minus before."""
        return self.high - self.low

    @property
    def within_noise(self) -> bool:
        """The change is no larger than the noise."""
        return abs(self.change) <= self.noise

    @property
    def verdict(self) -> str:
        """`within noise`; along numbers `rises` or `falls`, between names `higher` or `lower`."""
        if self.within_noise:
            return "within noise"
        up, down = ("rises", "falls") if self.ordered else ("higher", "lower")
        return up if self.change > 0 else down


def differences(lines: Sequence[Line]) -> list[Difference]:
    """Every step of every line; along an axis of names each point is compared with the first."""
    compared = []
    for line in lines:
        pairs = list(zip(line.points, line.points[1:], strict=False))
        if not line.ordered:
            pairs = [(line.points[0], point) for point in line.points[1:]]
        for before, after in pairs:
            compared += _steps(line, before, after)
    return compared


def within_noise(compared: Sequence[Difference], job: int) -> str:
    """The steps that end at a job and are within noise: `SI along sae.k from 16; Q beside sae.source=…`."""
    return "; ".join(
        f"{step.measure.short} along {step.axis} from {step.before}"
        if step.ordered
        else f"{step.measure.short} beside {step.axis}={step.before}"
        for step in compared
        if job in step.jobs and step.within_noise
    )


def _steps(line: Line, before: Point, after: Point) -> list[Difference]:
    return [
        Difference(
            measure,
            line.axis,
            line.group,
            line.at,
            before.x,
            after.x,
            line.ordered,
            after.jobs,
            before.readings[measure.key].value,
            after.readings[measure.key].value,
            math.hypot(before.readings[measure.key].noise, after.readings[measure.key].noise),
        )
        for measure in MEASURES
        if measure.key in before.readings and measure.key in after.readings
    ]
