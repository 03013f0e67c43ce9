"""What a measurement leaves out: the record that every stage writes and `status.json` keeps.

A fault warns beside it; a budget that the user set is only counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

WANDB_MEDIA = "wandb"
"""`what` of the records on Weights & Biases."""


@dataclass(frozen=True)
class LeftOut:
    """Things of one kind that one reason kept out."""

    what: str
    """`files`, `documents`, `tokens`, `latents`, `texts`, `jobs`, `wandb`."""

    count: int
    """How many."""

    of: int | None
    """Of how many; None where nobody counted."""

    why: str
    """One plain sentence."""

    part: str = ""
    """The part of the measurement that does without them, such as `losses`; empty: all of it."""


def plain(records: Iterable[LeftOut]) -> list[dict[str, Any]]:
    """The records as JSON holds them, without those that count nothing."""
    return [asdict(record) for record in records if record.count]


def parsed(content: Any) -> list[LeftOut]:
    """The records of a `status.json`; entries of another form are passed over, as are older run folders."""
    return [
        LeftOut(
            str(entry["what"]),
            entry["count"],
            entry["of"] if _is_count(entry.get("of")) else None,
            str(entry.get("why") or ""),
            str(entry.get("part") or ""),
        )
        for entry in (content if isinstance(content, list) else [])
        if isinstance(entry, Mapping) and entry.get("what") and _is_count(entry.get("count"))
    ]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
