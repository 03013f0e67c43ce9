"""How far a long statistic is, for whoever shows it."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as `progress(step, done, total)`: `done` of the `total` permutations, pairs or whatever `step`
names. A step starts at 0.

Threads call it too, so that calls may come in another order than that of `done`.
"""


def no_progress(step: str, done: int, total: int) -> None:
    """Shows nothing."""
