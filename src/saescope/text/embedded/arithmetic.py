"""Word problems and chains of arithmetic with worked answers."""

from __future__ import annotations

from collections.abc import Callable

from saescope.text.embedded.calculations import chain, conversion, sequence, sums
from saescope.text.embedded.quantities import area, average, clock, percent, recipe
from saescope.text.embedded.scribe import Scribe
from saescope.text.embedded.stories import ages, sharing, shopping, story, travel

KINDS: tuple[Callable[[Scribe], str], ...] = (
    story, story, story, shopping, shopping, travel, sharing, conversion, recipe, area, percent, average, ages,
    chain, sums, sequence, clock,
)  # fmt: skip


def document(scribe: Scribe) -> str:
    """Write one arithmetic document."""
    text = scribe.pick(KINDS)(scribe)
    if len(text) < 260 and scribe.chance(0.6):
        text = f"{text}\n\n{scribe.pick(KINDS)(scribe)}"
    return text
