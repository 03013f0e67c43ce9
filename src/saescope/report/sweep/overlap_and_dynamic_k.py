"""Read for the sweep page: overlap tables (`overlap.json` of a sweep), curves (`dynamic_k.csv` of a job)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope.errors import ReportError
from saescope.files import read_json
from saescope.report.numbers import DASH, figure, percent
from saescope.report.sweep.matching import unread_message
from saescope.runfolder.names import DYNAMIC_K, OVERLAP_JSON
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

_CURVE_COLUMNS = ("target", "selector", "score", "granularity", "phase")
"""Columns of `dynamic_k.csv` that tell its curves apart."""
_ALL_TASKS = ("", "all", "nan", "none")
"""Values of the column `task` that mean all tasks together."""


@dataclass(frozen=True)
class SharedMatrix:
    """Share of the latents of the SAE of each row that the SAE of each column shares."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[dict[str, Any], ...]], ...]
    """Name and cells: `share` (None where not compared) and `text`."""


@dataclass(frozen=True)
class ExtraTable:
    """A table ready to print."""

    title: str
    sentences: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    matrix: SharedMatrix | None = None


def overlap_tables(dirs: Sequence[Path]) -> list[ExtraTable]:
    """The tables of `overlap.json` in the given folders; values of another shape are left out.

    The file is a list of
    `{"title": str, "sentences": [str], "columns": [str], "rows": [[str | number | null]]}`, one of which may
    have `"matrix": {"names": [str], "shared": [[number | null]]}` too.
    """
    tables = []
    for folder in dict.fromkeys(Path(given).resolve() for given in dirs):
        content = read_json(folder / OVERLAP_JSON)
        for table in content if isinstance(content, list) else ():
            if isinstance(table, Mapping) and table.get("title"):
                tables.append(
                    ExtraTable(
                        str(table["title"]),
                        tuple(map(str, _list(table.get("sentences")))),
                        tuple(map(str, _list(table.get("columns")))),
                        tuple(tuple(map(_shown, _list(row))) for row in _list(table.get("rows"))),
                        _matrix(table.get("matrix")),
                    )
                )
    return tables


def dynamic_k_curves(jobs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[str]]:
    """`{job, name, k, ce_delta, low, high}` of every curve, and one line for each unreadable file."""
    import pandas as pd

    curves: list[dict[str, Any]] = []
    messages: list[str] = []
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
            messages.append(unread_message(job, error))
            continue
        if "task" in table:
            table = table[table["task"].map(str).str.lower().isin(_ALL_TASKS)]
        names = [name for name in _CURVE_COLUMNS if name in table]
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
    return curves, messages


def _matrix(content: Any) -> SharedMatrix | None:
    """None where there are fewer than three SAEs: the table of pairs says the same."""
    if not isinstance(content, Mapping):
        return None
    names = tuple(map(str, _list(content.get("names"))))
    shared = [[finite(value) for value in _list(row)] for row in _list(content.get("shared"))]
    if len(names) < 3 or [len(row) for row in shared] != [len(names)] * len(names):
        return None
    rows = [
        tuple({"share": value, "text": "" if value is None else percent(value)} for value in row)
        for row in shared
    ]
    return SharedMatrix(names, tuple(zip(names, rows, strict=True)))


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
