"""The tables of `dynamic_k_structure.json`: losses under task masks, community blocks and shared sets."""

from dataclasses import dataclass

from saescope.errors import ReportError
from saescope.report.numbers import figure
from saescope.runfolder.names import STRUCTURE
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite


@dataclass(frozen=True)
class StructureTable:
    """A table as text, with the sentences that explain it."""

    title: str
    sentences: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def structure(run: Run) -> tuple[StructureTable, ...]:
    """The tables as text; empty without that file. Raises ReportError when it cannot be read."""
    try:
        return tuple(
            StructureTable(
                str(table["title"]),
                tuple(map(str, table["sentences"])),
                tuple(map(str, table["columns"])),
                tuple(tuple(map(_cell, row)) for row in table["rows"]),
            )
            for table in run.structure
        )
    except (KeyError, TypeError) as error:
        raise ReportError(
            f"{run.path / STRUCTURE} cannot be read: {error}; delete it to have the page without it"
        ) from error


def _cell(value: object) -> str:
    return value if isinstance(value, str) else _number(value)


def _number(value: object) -> str:
    number = finite(value)
    if number is not None and number < 0:
        return "−" + figure(-number)
    return f"{value}" if isinstance(value, int) else figure(value)
