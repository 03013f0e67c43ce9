"""What one step along an axis of numbers does, at fixed values of all other axes."""

from collections.abc import Sequence
from dataclasses import dataclass

from saescope.report.sweep.differences import Difference
from saescope.report.sweep.settings import Value


@dataclass(frozen=True)
class Effect:
    """One step of one axis and measure, over every setting of the other axes that has both its ends.

    Each `Difference` is between two jobs that differ in that axis only. Its half-width is √(h₁² + h₂²) of
    the jobs' own 95 % half-widths (the square-and-add rule: Newcombe 1998, Statistics in Medicine 17, 873;
    Zou & Donner 2008, 27, 1693), which is that of independent jobs. Jobs of a sweep read the same documents,
    so their errors go together and the difference is more certain than that: the interval is conservative.
    """

    before: Value
    after: Value
    settings: tuple[Difference, ...]

    @property
    def change(self) -> float:
        """Mean over the settings."""
        return sum(step.change for step in self.settings) / len(self.settings)

    @property
    def noise(self) -> float:
        """95 % half-width of `change`: the mean of the settings' half-widths.

        The standard deviation of a mean is at most the mean of the standard deviations, however its terms
        depend on each other; settings that share documents do.
        """
        return sum(step.noise for step in self.settings) / len(self.settings)

    @property
    def within_noise(self) -> bool:
        """The change is no larger than the noise."""
        return abs(self.change) <= self.noise

    @property
    def rising(self) -> tuple[Difference, ...]:
        """Settings where the measure rises beyond noise."""
        return tuple(step for step in self.settings if step.change > step.noise)

    @property
    def falling(self) -> tuple[Difference, ...]:
        """Settings where the measure falls beyond noise."""
        return tuple(step for step in self.settings if -step.change > step.noise)

    @property
    def mixed(self) -> bool:
        """The sign of the effect depends on the other settings, within noise or beyond it."""
        signs = {step.change > 0 for step in self.settings if step.change}
        return len(signs) > 1

    @property
    def opposite(self) -> bool:
        """It is beyond noise in both directions."""
        return bool(self.rising and self.falling)


def effects(steps: Sequence[Difference]) -> list[Effect]:
    """The effect of each step, in the order of the axis. `steps`: of one axis and one measure."""
    by_step: dict[tuple[Value, Value], list[Difference]] = {}
    for step in steps:
        by_step.setdefault((step.before, step.after), []).append(step)
    ordered = sorted(by_step.items(), key=lambda item: tuple(map(float, item[0])))  # type: ignore[arg-type]
    return [Effect(before, after, tuple(same)) for (before, after), same in ordered]
