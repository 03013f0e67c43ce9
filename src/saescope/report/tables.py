"""The tables of the run page: headline numbers and their chance levels, tasks, configuration, all metrics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saescope.metrics import (
    COST_TOKENS,
    COST_WALL_S,
    FEATURES_NUM_LATENTS,
    FEATURES_SUPPORTED,
    Q_EXCESS,
    Q_P,
    Q_Z,
    SI_SIGNIFICANT_FRAC,
    TASK_DOCS,
    TASK_TOKENS,
    Metric,
    at_floor,
    in_group,
    metric,
    shown,
)
from saescope.report.audit import caution
from saescope.report.evidence import draws_of
from saescope.report.numbers import count, figure, interval, p_value, percent, seconds
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite


@dataclass(frozen=True)
class Cell:
    """A printed value; `note` is the reason when it is a dash."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One headline metric: its value, what chance gives, what it means."""

    label: str
    key: str
    value: Cell
    chance: str
    meaning: str


@dataclass(frozen=True)
class TaskRow:
    """Reconstruction of one task's tokens: a cell for each of `TASK_COLUMNS`."""

    task: str
    cells: tuple[Cell, ...]


GROUPS = {"Specialisation": ("si",), "Modularity": ("q",), "The SAE": ("sae", "lm", "features")}
"""Parts of the headline table, and the groups of metrics in each."""
TASK_COLUMNS = in_group("task")


def headline_rows(run: Run) -> list[tuple[str, list[Row]]]:
    """The headline table, in named groups."""
    return [
        (title, [_row(run, entry) for entry in shown("page") if entry.group in groups])
        for title, groups in GROUPS.items()
    ]


def task_rows(run: Run) -> list[TaskRow]:
    """One row a task, in the page's task order; tasks without any number are left out."""
    return [
        TaskRow(task, tuple(_cell(run, entry.of(task), entry.unit) for entry in TASK_COLUMNS))
        for task in run.tasks
        if TASK_TOKENS.of(task) in run.metrics
    ]


@dataclass(frozen=True)
class MetricRow:
    """A line of the table of all metrics."""

    key: str
    value: Cell
    meaning: str
    """Empty for a key that is not in the catalogue."""


def metric_rows(run: Run) -> list[MetricRow]:
    """Every metric, grouped as in `metrics.json`."""
    rows = []
    for key, value in run.metrics.items():
        entry = metric(key)
        cell = _cell(run, key) if value is None else Cell(_exact(value))
        draws = None if entry is None else draws_of(entry, run.metrics)
        if value is not None and draws is not None and at_floor(value, draws):
            cell = Cell(p_value(value, draws).removeprefix("p "))
        meaning = "" if entry is None else f"{entry.label}: {entry.sentence} {caution(key)}".strip()
        rows.append(MetricRow(key, cell, meaning))
    return rows


def null_notes(run: Run) -> list[tuple[str, str]]:
    """Why metrics are null: `(keys, reason)`, one entry for each reason."""
    reasons: dict[str, list[str]] = {}
    for key, value in run.metrics.items():
        if value is None:
            reasons.setdefault(run.notes.get(key, "no reason recorded"), []).append(key)
    return [(", ".join(keys), why) for why, keys in reasons.items()]


def config_rows(content: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A nested mapping as `(group, [(key, value)])`; plain values come first, under an empty name."""
    groups: dict[str, list[tuple[str, str]]] = {"": []}
    for key, value in content.items():
        if isinstance(value, Mapping):
            groups[str(key)] = list(_leaves(value))
        else:
            groups[""].append((str(key), _plain(value)))
    return [(name, pairs) for name, pairs in groups.items() if pairs]


def facts(run: Run) -> list[tuple[str, str]]:
    """The line under the title: what was measured, and on how much text."""
    m, tasks = run.metrics, task_rows(run)
    docs = [finite(m.get(TASK_DOCS.of(row.task))) for row in tasks]
    pairs = [
        (FEATURES_NUM_LATENTS.label, count(m.get(FEATURES_NUM_LATENTS.key))),
        ("Tasks", str(len(tasks))),
        (TASK_DOCS.label, count(sum(number or 0 for number in docs))),
        (TASK_TOKENS.label, count(m.get(COST_TOKENS.key))),
        (COST_WALL_S.label, seconds(m.get(COST_WALL_S.key))),
    ]
    return [(name, text) for name, text in pairs if text not in ("—", "0")]


def _row(run: Run, entry: Metric) -> Row:
    cell = _cell(run, entry.key, entry.unit)
    if not cell.note and (detail := _beside(run, entry)):
        cell = Cell(f"{cell.text} {detail}")
    meaning = f"{entry.sentence} {caution(entry.key)}".strip()
    return Row(entry.label, entry.key, cell, _chance(run, entry), meaning)


def _beside(run: Run, entry: Metric) -> str:
    """What is printed after the value: its interval, its test, or the total it is a part of."""
    m = run.metrics
    if entry == Q_EXCESS and finite(m.get(Q_Z.key)) is not None:
        return f"(z = {figure(m.get(Q_Z.key))}, {p_value(m.get(Q_P.key), draws_of(Q_P, m))})"
    if entry == SI_SIGNIFICANT_FRAC:
        return f"(FDR {percent(run.si_fdr)})"
    if entry == FEATURES_SUPPORTED:
        return f"of {count(m.get(FEATURES_NUM_LATENTS.key))}"
    ci = interval(m.get(entry.low), m.get(entry.high)) if entry.low and entry.high else ""
    return f"(95 % CI {ci})" if ci else ""


def _chance(run: Run, entry: Metric) -> str:
    if entry.null is None:
        return entry.chance
    text = _text(run.metrics.get(entry.null), entry.unit)
    sd = run.metrics.get(entry.sd) if entry.sd else None
    return text if finite(sd) is None else f"{text} ± {figure(sd)}"


def _cell(run: Run, key: str, unit: str = "") -> Cell:
    if run.metrics.get(key) is None:
        return Cell("—", run.notes.get(key, "no reason recorded"))
    return Cell(_text(run.metrics[key], unit))


def _text(value: object, unit: str) -> str:
    return {"count": count, "share": percent}.get(unit, figure)(value)


def _exact(value: float | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else "—" if value is None else f"{value:.6g}"


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)
