"""Results of a part of the dynamic-k stage: rows of `dynamic_k.csv`, scalars, tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from saescope.analysis.reconstruction import Metrics
from saescope.left_out import LeftOut

COLUMNS = [
    "target",
    "selector",
    "score",
    "granularity",
    "phase",
    "impl",
    "k",
    "realised_k",
    "tokens",
    "ce",
    "ppl",
    "ce_delta",
    "ce_delta_lo",
    "ce_delta_hi",
    "kl",
    "top1_agree",
    "mlp_flops_frac",
    "total_flops_frac",
    "weight_bytes_frac",
    "saving",
    "tokens_per_s",
    "speedup",
    "task",
    "seed",
    "fvu",
]
"""Of `dynamic_k.csv`: one row per way of choosing, k and task, and one per timing.

`phase`: sparse positions (`all`, `generation`), or what was timed (`prefill_b1`, `decode_b8`).
`saving`: whether the fractions are `realised` by `impl` or an `oracle`'s. `task`: `all`, or one task.
`fvu`: of the reconstruction, target `sae` only."""

ALL_TASKS = "all"

Section = dict[str, Any]
"""A table with its words: `title`, `sentences`, `columns`, `rows`."""


@dataclass
class Part:
    """Rows of `dynamic_k.csv` (keys of `COLUMNS`, missing ones null) and `dynk/*` scalars."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    metrics: Metrics = field(default_factory=dict)
    """`dynk/<name>` → value; a null one has its reason in `notes`."""

    notes: dict[str, str] = field(default_factory=dict)
    """Metric key → why it is null."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables, written as `<name>.csv` into the run folder and shown in the report."""

    warnings: list[str] = field(default_factory=list)
    """One line each, shown at the end of the run."""

    sections: list[Section] = field(default_factory=list)
    """Written as `dynamic_k_structure.json`."""

    left_out: list[LeftOut] = field(default_factory=list)
    """What the stage left out of what the job measures."""

    def add(self, other: "Part") -> None:
        """Append the results of another part."""
        self.rows += other.rows
        self.metrics |= other.metrics
        self.notes |= other.notes
        self.tables |= other.tables
        self.warnings += other.warnings
        self.left_out += other.left_out
        self.sections += other.sections


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows under exactly `COLUMNS`; missing values are null."""
    frame = pd.DataFrame([dict(row) for row in rows], columns=COLUMNS)
    frame["task"] = frame["task"].fillna(ALL_TASKS)
    frame["tokens"] = frame["tokens"].astype("Int64")
    return frame


def section(title: str, sentences: list[str], columns: list[str], rows: list[list[Any]]) -> Section:
    """A section with numbers that JSON can store; NaN and infinity become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float | np.floating):
            return float(value) if np.isfinite(value) else None
        return int(value) if isinstance(value, np.integer) else value

    return {
        "title": title,
        "sentences": sentences,
        "columns": columns,
        "rows": [[plain(value) for value in row] for row in rows],
    }


def middle_k(fractions: tuple[float, ...]) -> float:
    """The k of the scalar metrics: the middle fraction (lower of two) of those below 1, else 1."""
    below = sorted(k for k in set(fractions) if k < 1)
    return below[(len(below) - 1) // 2] if below else 1.0
