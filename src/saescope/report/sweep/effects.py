"""What one step along an axis of numbers does, at fixed values of all other axes."""

from collections.abc import Sequence
from dataclasses import dataclass

from saescope.report.sweep.comparisons import Comparison, Comparisons
from saescope.report.sweep.differences import Difference
from saescope.report.sweep.settings import Value


@dataclass(frozen=True)
class Effect:
    """One step of one axis and measure, over every setting of the other axes that has both its ends.

    Each `Difference` is between two jobs that differ in that axis only, read on the same documents; its
    interval is paired, and holds together with all others of the sweep (`comparisons`).
    """

    before: Value
    after: Value
    settings: tuple[Difference, ...]
    comparison: Comparison | None
    """The interval of their mean; None where nothing is known of its noise."""

    @property
    def change(self) -> float:
        """Mean over the settings."""
        return sum(step.change for step in self.settings) / len(self.settings)

    @property
    def noise(self) -> float:
        """Half-width of the interval of `change`, which holds for all differences of the sweep at once."""
        return self.comparison.half_width if self.comparison else float("inf")

    @property
    def within_noise(self) -> bool:
        """The change is no larger than the noise."""
        return self.comparison is None or self.comparison.within_noise

    @property
    def rising(self) -> tuple[Difference, ...]:
        """Settings where the measure rises beyond noise."""
        return tuple(step for step in self.settings if step.change > 0 and not step.within_noise)

    @property
    def falling(self) -> tuple[Difference, ...]:
        """Settings where the measure falls beyond noise."""
        return tuple(step for step in self.settings if step.change < 0 and not step.within_noise)

    @property
    def mixed(self) -> bool:
        """The sign of the effect depends on the other settings, within noise or beyond it."""
        signs = {step.change > 0 for step in self.settings if step.change}
        return len(signs) > 1

    @property
    def opposite(self) -> bool:
        """It is beyond noise in both directions."""
        return bool(self.rising and self.falling)


def effects(steps: Sequence[Difference], comparisons: Comparisons) -> list[Effect]:
    """The effect of each step, in the order of the axis. `steps`: of one axis and one measure."""
    by_step: dict[tuple[Value, Value], list[Difference]] = {}
    for step in steps:
        by_step.setdefault((step.before, step.after), []).append(step)
    ordered = sorted(by_step.items(), key=lambda item: tuple(map(float, item[0])))  # type: ignore[arg-type]
    return [
        Effect(
            before,
            after,
            tuple(same),
            comparisons.over([(step.before_jobs, step.jobs) for step in same], same[0].measure),
        )
        for (before, after), same in ordered
    ]
