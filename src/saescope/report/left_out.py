"""The foldout "What was left out": one line with the sums, and a row a reason."""

from collections.abc import Sequence
from typing import Any

from saescope.left_out import LeftOut
from saescope.report.numbers import count


def left_out(records: Sequence[LeftOut]) -> dict[str, Any] | None:
    """`sum`, a phrase, and `rows` for the page; None where nothing is recorded, as in older run folders.

    The sums are of what the whole measurement does without; what only a part of it does without is a row.
    """
    if not records:
        return None
    sums: dict[str, int] = {}
    for record in records:
        if not record.part:
            sums[record.what] = sums.get(record.what, 0) + record.count
    phrases = [f"{count(number)} {what}" for what, number in sums.items()]
    if parts := sum(bool(record.part) for record in records):
        entries = "entries on parts" if parts > 1 else "entry on a part"
        phrases.append(f"{parts} {entries} of the measurement")
    return {
        "sum": ", ".join(phrases),
        "rows": [
            {
                "count": count(record.count) + (f" of {count(record.of)}" if record.of is not None else ""),
                "what": record.what,
                "part": record.part or "all",
                "why": record.why,
            }
            for record in records
        ],
    }
