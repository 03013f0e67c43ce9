"""Tables and curves that others leave in the folders: `overlap.json` of a sweep, `dynamic_k.csv` of a job."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope.errors import ReportError
from saescope.files import read_json
from saescope.report.numbers import DASH, figure
from saescope.report.sweep.matching import unread
from saescope.runfolder.names import DYNAMIC_K, OVERLAP_JSON
from saescope.runfolder.run import Run

_SERIES = ("target", "selector", "score", "granularity", "phase")
"""Columns of `dynamic_k.csv` that tell its curves apart."""
_WHOLE = ("", "all", "nan", "none")
"""Values of the column `task` that mean all tasks together."""


@dataclass(frozen=True)
class ExtraTable:
    """A table ready to print."""

    title: str
    sentences: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def overlap_tables(dirs: Sequence[Path]) -> list[ExtraTable]:
    """The tables of `overlap.json` in the given folders; what is not of that shape is left out.

    It is a list of `{"title": str, "sentences": [str], "columns": [str], "rows": [[str | number | null]]}`.
    """
    found = []
    for folder in dict.fromkeys(Path(it).resolve() for it in dirs):
        content = read_json(folder / OVERLAP_JSON)
        for one in content if isinstance(content, list) else ():
            if isinstance(one, Mapping) and one.get("title"):
                found.append(
                    ExtraTable(
                        str(one["title"]),
                        tuple(str(it) for it in _list(one.get("sentences"))),
                        tuple(str(it) for it in _list(one.get("columns"))),
                        tuple(tuple(_shown(it) for it in _list(row)) for row in _list(one.get("rows"))),
                    )
                )
    return found


def dynamic_k_curves(jobs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[str]]:
    """`{job, name, k, ce_delta, low, high}` of every curve, and one line for each unreadable file."""
    import pandas as pd

    curves: list[dict[str, Any]] = []
    wrong: list[str] = []
    for at, job in enumerate(jobs):
        if "dynamic_k" not in job.tables:
            continue
        try:
            table = job.table("dynamic_k")
            lacking = [name for name in ("k", "ce_delta") if name not in table]
            if lacking:
                raise ReportError(f"{DYNAMIC_K} has no column {', '.join(lacking)}")
            table = table[table["ce_delta"].notna() & pd.to_numeric(table["k"], errors="coerce").notna()]
        except ReportError as error:
            wrong.append(unread(job, error))
            continue
        if "task" in table:
            table = table[table["task"].map(str).str.lower().isin(_WHOLE)]
        names = [name for name in _SERIES if name in table]
        cells = table[names].to_numpy(dtype=object)
        keys = [" ".join(str(cell) for cell in row if pd.notna(cell)) or "all" for row in cells]
        for name, part in table.groupby(pd.Series(keys, index=table.index, dtype=str), sort=False):
            part = part.sort_values("k")
            curves.append(
                {
                    "job": at,
                    "name": str(name),
                    "k": _floats(part["k"]),
                    "ce_delta": _floats(part["ce_delta"]),
                    "low": _floats(part["ce_delta_lo"]) if "ce_delta_lo" in part else None,
                    "high": _floats(part["ce_delta_hi"]) if "ce_delta_hi" in part else None,
                }
            )
    return curves, wrong


def _floats(values: Any) -> list[float | None]:
    return [float(value) if math.isfinite(float(value)) else None for value in values]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _shown(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else figure(value)
