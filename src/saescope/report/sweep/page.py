"""The page of a sweep: one file that needs nothing else, plotly included."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from saescope.left_out import LeftOut
from saescope.metrics import CAUSAL_SELECTIVITY, COST_TOKENS, FEATURES_NUM_LATENTS, at_floor, metric, shown
from saescope.report.command import command_of, command_of_sweep
from saescope.report.evidence import draws_of
from saescope.report.left_out import left_out
from saescope.report.numbers import DASH, count, figure, p_value
from saescope.report.sweep.compared import ComparedSweep
from saescope.report.sweep.controls_words import beside_table
from saescope.report.sweep.differences import Difference
from saescope.report.sweep.overlap_and_dynamic_k import dynamic_k_curves, overlap_tables
from saescope.report.sweep.pareto import fronts
from saescope.report.sweep.payload import (
    effect_pairs,
    effect_values,
    heatmaps,
    histograms,
    job_values,
    line_values,
    metric_names,
    script_json,
)
from saescope.report.sweep.phrases import at_text, value_text
from saescope.report.sweep.scaling import scaling_sentences, scaling_series
from saescope.report.sweep.settings import SEEDS, varies
from saescope.report.sweep.words import headline
from saescope.report.templating import TEMPLATES, environment, with_contents
from saescope.runfolder.names import REPORT
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

KEY_COLUMNS = tuple(metric.key for metric in shown("sweep"))
"""Columns that the table shows, beside the swept settings, until `all columns` is ticked."""


SCRIPTS = ("sweep.js", "sweep_choice.js", "sweep_start.js", "sweep_table.js", "sweep_commands.js")
"""One script in this order."""

PRESET = "sweep="
"""Start of the override that names a preset of conf/sweep."""


def render(sweep: ComparedSweep, records: Sequence[LeftOut] = ()) -> tuple[str, list[str]]:
    """The page, and its headline sentences; `records`: the jobs that are left out."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    def verbatim(name: str) -> Markup:
        return Markup((TEMPLATES / name).read_text(encoding="utf-8"))

    curves, unread_curves = dynamic_k_curves(sweep.jobs)
    findings = replace(sweep.findings, unread=[*sweep.findings.unread, *unread_curves])
    sentences = headline(findings)
    columns = _columns(sweep)
    series = scaling_series(sweep.rows, sweep.groups, sweep.axes)
    names, labels = _names(sweep), _labels(sweep)
    values = job_values(sweep.rows, sweep.axes, sweep.uncertainty)
    payload = {
        "metrics": metric_names(),
        "labels": labels,
        "jobs": names,
        "links": [_link(sweep, at) for at in range(len(sweep.rows))],
        "groups": [str(row["group"]) for row in sweep.rows],
        "controls": [str(row["control"]) for row in sweep.rows],
        "axes": list(sweep.axes),
        "values": values,
        "lines": line_values(sweep.lines, len(sweep.groups) > 1, sweep.rows),
        "fronts": fronts(sweep.rows, sweep.groups),
        "effects": effect_values(sweep.steps),
        "effect_pairs": effect_pairs(sweep.steps),
        "heatmaps": heatmaps(sweep.rows, sweep.groups, sweep.axes),
        "histograms": histograms(sweep.jobs),
        "scaling": series,
        "dynamic_k": curves,
    }
    page = (
        environment()
        .get_template("sweep.html.j2")
        .render(
            style=verbatim("style.css") + verbatim("sweep.css"),
            plotly=Markup(get_plotlyjs()),
            script=Markup("").join(map(verbatim, SCRIPTS)),
            payload=Markup(script_json(payload)),
            title=title(sweep),
            commands=[command for folder in sweep.dirs if (command := command_of_sweep(folder))],
            job_commands=[
                (at, names[at], command) for at, job in enumerate(sweep.jobs) if (command := command_of(job))
            ],
            facts=_facts(sweep),
            left_out=left_out(records),
            warnings=[sentence.text for sentence in sentences if sentence.kind == "warning"],
            findings=[sentence.text for sentence in sentences if sentence.kind != "warning"],
            sections={key: bool(payload[key]) for key in payload},
            beside=beside_table(sweep.rows, findings.beside, sweep.comparisons),
            differences=[_step(step) for step in sweep.steps],
            many_groups=len(sweep.groups) > 1,
            causal=any(
                CAUSAL_SELECTIVITY.key in point.readings for line in sweep.lines for point in line.points
            ),
            scaling=scaling_sentences(series),
            overlap=overlap_tables([*sweep.dirs, sweep.out]),
            columns=columns,
            table=[_row(sweep, at, names[at], columns) for at in range(len(sweep.rows))],
        )
    )
    return with_contents(page), [sentence.text for sentence in sentences]


def title(sweep: ComparedSweep) -> str:
    """The preset, and what is swept: `controls: sae.source × model.random_init`."""
    presets = dict.fromkeys(
        word.removeprefix(PRESET) for job in sweep.jobs for word in job.overrides if word.startswith(PRESET)
    )
    preset = " + ".join(name for name in presets if name not in ("", "none"))
    seeds = [key for key in SEEDS if varies([row for row in sweep.rows if row["state"] == "ok"], key)]
    swept = " × ".join(list(sweep.axes) or seeds)
    jobs = f"{len(sweep.rows)} jobs" if len(sweep.rows) > 1 else "one job"
    return ": ".join(filter(None, (preset, swept))) or jobs


def _names(sweep: ComparedSweep) -> list[str]:
    """Folder names without their common part."""
    paths = [job.path.as_posix() for job in sweep.jobs]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, shared) for path in paths]


def _labels(sweep: ComparedSweep) -> list[str]:
    """Names of the jobs, and the swept settings."""
    swept = [
        ", ".join(
            f"{axis.rpartition('.')[2]} {row[axis]}" for axis in sweep.axes if row.get(axis) is not None
        )
        for row in sweep.rows
    ]
    return [name + (f" ({text})" if text else "") for name, text in zip(_names(sweep), swept, strict=True)]


def _link(sweep: ComparedSweep, at: int) -> str:
    """Address of a job's page; empty where it has none."""
    has_page = (sweep.jobs[at].path / REPORT).is_file()
    return quote(f"{sweep.rows[at]['job']}/{REPORT}") if has_page else ""


def _facts(sweep: ComparedSweep) -> list[tuple[str, str]]:
    finished = [row for row in sweep.rows if row["state"] == "ok"]

    def span(key: str) -> str:
        values = sorted({value for row in finished if (value := finite(row.get(key))) is not None})
        return (
            DASH if not values else count(values[0]) + (f" – {count(values[-1])}" if len(values) > 1 else "")
        )

    pairs = [
        ("Jobs", str(len(sweep.rows))),
        ("Finished", str(len(finished))),
        ("Models", str(len({row.get("model.name") for row in finished})) if finished else DASH),
        ("Latents", span(FEATURES_NUM_LATENTS.key)),
        ("Probe tokens", span(COST_TOKENS.key)),
        ("Comparable groups", str(len(sweep.groups))),
        ("Folder", " + ".join(dict.fromkeys(folder.resolve().name for folder in sweep.dirs[:3]))),
    ]
    return [(name, text) for name, text in pairs if text != DASH]


def _columns(sweep: ComparedSweep) -> list[dict[str, str]]:
    """Table columns after job and state that any job has a value in.

    `kind` is `more` for those that are not shown at once, `aside` for the long text that is not printed.
    """
    apart = ("job", "state", "error", "group")
    keys = [
        key
        for key in sweep.rows[0]
        if key not in apart and any(row.get(key) not in (None, "") for row in sweep.rows)
    ]
    controls = ["control"] if any(row["control"] for row in sweep.rows) else []
    first = [*controls, *sweep.axes, *(key for key in (*KEY_COLUMNS, "within_noise") if key in keys)]
    ordered = first + [key for key in keys if key not in first]
    return [
        {"name": key, "kind": "more" if key not in first else "aside" if key == "within_noise" else ""}
        for key in ordered
    ]


def _row(sweep: ComparedSweep, at: int, name: str, columns: list[dict[str, str]]) -> dict[str, Any]:
    row, job = sweep.rows[at], sweep.jobs[at]
    return {
        "label": name,
        "link": _link(sweep, at),
        "ok": job.ok,
        "state": row["state"],
        "error": row["error"],
        "group": row["group"],
        "cells": [_cell(row, column["name"], job) for column in columns],
    }


def _cell(row: Mapping[str, Any], key: str, job: Run) -> dict[str, str]:
    value = row.get(key)
    if value is None:
        return {"text": DASH, "sort": "", "note": job.notes.get(key, "")}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {"text": str(value), "sort": str(value), "note": ""}
    text = f"{value:,}" if isinstance(value, int) else figure(value)
    if "." in key and "/" not in key and isinstance(value, int | float):
        text = f"{value:g}" if abs(value) < 1e6 else count(value)
    entry = metric(key)
    draws = None if entry is None else draws_of(entry, job.metrics)
    if draws is not None and at_floor(value, draws):
        text = p_value(value, draws).removeprefix("p ")
    return {"text": text, "sort": repr(value), "note": ""}


def _step(step: Difference) -> dict[str, str]:
    sign = "+" if step.change >= 0 else ""
    before, after = value_text(step.before), value_text(step.after)
    return {
        "axis": step.axis,
        "step": f"{before} → {after}" if step.ordered else f"{after} beside {before}",
        "at": at_text(step.at) or DASH,
        "group": step.group,
        "measure": step.measure.short,
        "values": f"{figure(step.low)} → {figure(step.high)}",
        "change": f"{sign}{figure(step.change)}",
        "noise": f"± {figure(step.noise)}" if step.comparison else DASH,
        "p": p_value(step.comparison.p, None).removeprefix("p ").removeprefix("= ")
        if step.comparison
        else DASH,
        "detectable": figure(step.comparison.detectable) if step.comparison else DASH,
        "documents": step.comparison.documents if step.comparison else DASH,
        "verdict": step.verdict,
    }
