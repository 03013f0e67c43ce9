"""Puzzles with answers: orders, syllogisms, truth tables, dates, tracked objects and boolean expressions."""

from __future__ import annotations

from collections.abc import Callable

from saescope.text.embedded.arrangements import liars, ordering, rules, seating, syllogism
from saescope.text.embedded.formulas import boolean, truth_table
from saescope.text.embedded.movements import date, rooms, swaps, walk
from saescope.text.embedded.scribe import Scribe

KINDS: tuple[Callable[[Scribe], str], ...] = (
    ordering, syllogism, truth_table, boolean, date, swaps, rooms, liars, walk, rules, seating,
)  # fmt: skip


def document(scribe: Scribe) -> str:
    """Write one puzzle, or two short ones."""
    text = scribe.pick(KINDS)(scribe)
    if len(text) < 260 and scribe.chance(0.6):
        text = f"{text}\n\n{scribe.pick(KINDS)(scribe)}"
    return text
