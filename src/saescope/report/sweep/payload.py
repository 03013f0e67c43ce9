"""What the page's scripts draw, as JSON that is safe inside a `<script>` element."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from saescope.metrics import CATALOGUE, SAE_L0, SI_MEAN, shown
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.differences import Difference
from saescope.report.sweep.lines import Line
from saescope.report.sweep.matching import LACKS
from saescope.report.sweep.pareto import QUALITIES
from saescope.report.sweep.phrases import at_text, value_text
from saescope.report.sweep.uncertainty import MEASURES, Uncertainty
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

HISTOGRAMS = ("si", "log10_density", "log10_max_act")
_NULLS = {"si": "si_null_draws"}
"""What chance gives for a distribution, over the same bins."""
_NO_AXES = {"job", "state", "error", "overrides", "identity", "within_noise", LACKS}


def script_json(value: Any) -> str:
    """JSON without NaN and without the characters that could end or confuse a script element."""
    text = json.dumps(_finite(value), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def job_values(
    rows: Sequence[Mapping[str, Any]], axes: Sequence[str], uncertainty: Uncertainty
) -> dict[str, Any]:
    """Columns of the finished jobs that can be an axis, `numeric` or `named`, and their values."""
    finished = [at for at, row in enumerate(rows) if row["state"] == "ok"]
    columns: dict[str, list[Any]] = {}
    numeric, named = [], []
    for key in rows[0] if rows else ():
        values = [rows[at].get(key) for at in finished]
        present = [value for value in values if value is not None and value != ""]
        if key in _NO_AXES or not present:
            continue
        if all(finite(value) is not None for value in present):
            numeric.append(key)
        elif len(set(map(str, present))) > 1:
            named.append(key)
            values = [None if value is None else str(value) for value in values]
        else:
            continue
        columns[key] = values
    swept = [key for key in axes if key in columns]
    return {
        "index": finished,
        "columns": columns,
        "numeric": swept_first(swept, numeric),
        "named": swept_first(swept, named),
        "noise": {
            measure.key: [uncertainty.half_width(at, rows[at], measure) for at in finished]
            for measure in MEASURES
        },
    }


def metric_names() -> dict[str, Any]:
    """The metrics for the scripts: labels and nulls by key, and which are drawn where."""
    return {
        "labels": {metric.key: metric.label for metric in CATALOGUE},
        "short": {metric.key: metric.short for metric in CATALOGUE},
        "nulls": {metric.key: metric.null for metric in CATALOGUE if metric.null},
        "table": [metric.key for metric in shown("sweep")],
        "along": [measure.key for measure in MEASURES if not measure.between_jobs],
        "along_matched": [measure.key for measure in MEASURES if measure.between_jobs],
        "qualities": [[metric.key, f"{metric.short} ({metric.direction} is better)"] for metric in QUALITIES],
        "sparsity": SAE_L0.key,
        "main": SI_MEAN.key,
    }


def swept_first(swept: Sequence[str], keys: Sequence[str]) -> list[str]:
    """`keys` with the swept settings in front."""
    return [key for key in swept if key in keys] + [key for key in keys if key not in swept]


def line_values(
    lines: Sequence[Line], many_groups: bool, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Lines with their points as plain lists, and whether all jobs of a line are controls."""
    plain_lines = []
    for line in lines:
        at = [f"{axis.rpartition('.')[2]} {value_text(value)}" for axis, value in line.at]
        name = ", ".join(at + ([f"group {line.group}"] if many_groups else [])) or "all"
        plain_lines.append(
            {
                "axis": line.axis,
                "name": name,
                "at": {axis: value_text(value) for axis, value in line.at},
                "ordered": line.ordered,
                "control": all(rows[at]["control"] for point in line.points for at in point.jobs),
                "x": [point.x if line.ordered else value_text(point.x) for point in line.points],
                "jobs": [list(point.jobs) for point in line.points],
                "readings": {
                    measure: [_reading(point.readings.get(measure)) for point in line.points]
                    for measure in dict.fromkeys(key for point in line.points for key in point.readings)
                },
            }
        )
    return plain_lines


def heatmaps(
    rows: Sequence[Mapping[str, Any]], groups: Sequence[Group], axes: Sequence[str]
) -> list[dict[str, Any]]:
    """Every pair of axes, for each group and each value of the remaining axes: `{x, y, at, cells}`.

    Left out when either axis has fewer than two values. Repetitions are averaged on the page.
    """
    maps: list[dict[str, Any]] = []
    for first in range(len(axes)):
        for second in range(first + 1, len(axes)):
            x, y = axes[first], axes[second]
            rest = [axis for axis in axes if axis not in (x, y)]
            for group in groups:
                cells: dict[str, list[int]] = {}
                for at in group.members:
                    fixed = [at_text([(axis, rows[at].get(axis))]) for axis in rest]
                    fixed += [f"group {group.name}"] if len(groups) > 1 else []
                    cells.setdefault(", ".join(fixed), []).append(at)
                for where, members in cells.items():
                    distinct = [len({str(rows[at].get(axis)) for at in members}) for axis in (x, y)]
                    if min(distinct) > 1:
                        maps.append({"x": x, "y": y, "at": where, "jobs": members})
    return maps


def effect_values(steps: Sequence[Difference]) -> list[dict[str, Any]]:
    """Every step along an axis that stands at some value of another one, with its half-width of noise."""
    return [
        {
            "axis": step.axis,
            "step": f"{value_text(step.before)} → {value_text(step.after)}",
            "at": dict(step.at),
            "group": step.group,
            "measure": step.measure.key,
            "change": step.change,
            "noise": finite(step.noise),
            "verdict": step.verdict,
            "jobs": [*step.before_jobs, *step.jobs],
        }
        for step in steps
        if step.at
    ]


def effect_pairs(steps: Sequence[Difference]) -> list[tuple[str, str]]:
    """An axis and another one at several values of which one of its steps was measured."""
    at_values: dict[tuple[str, str, Any, Any], set[Any]] = {}
    for step in steps:
        for other, value in step.at:
            at_values.setdefault((step.axis, other, step.before, step.after), set()).add(value)
    return list(dict.fromkeys((axis, other) for (axis, other, *_), of in at_values.items() if len(of) > 1))


def histograms(jobs: Sequence[Run]) -> dict[str, Any]:
    """Distributions over bins that are the same in all jobs shown, `null` what chance gives for them.

    Jobs with other bins are named under `other`.
    """
    by_name: dict[str, Any] = {}
    contents = {at: job.histograms for at, job in enumerate(jobs) if job.ok}
    for name in HISTOGRAMS:
        edges: list[float] | None = None
        curves, other = [], []
        for at, content in contents.items():
            histogram = content.get(name)
            if not isinstance(histogram, dict) or not isinstance(histogram.get("edges"), list):
                continue
            edges = edges or histogram["edges"]
            share, null = _shares(histogram, edges), _shares(content.get(_NULLS.get(name, "")), edges)
            if share is None:
                other.append(at)
            elif share:
                curves.append({"job": at, "share": share, "null": null or None})
        if curves:
            by_name[name] = {"edges": edges, "curves": curves, "other": other}
    return by_name


def _shares(histogram: Any, edges: Sequence[float]) -> list[float] | None:
    """Share of each bin; [] where nothing was counted, None for other bins or no histogram."""
    if not isinstance(histogram, dict) or histogram.get("edges") != edges:
        return None
    counts = [finite(value) or 0.0 for value in histogram.get("counts") or ()]
    if len(counts) != len(edges) - 1:
        return None
    return [value / sum(counts) for value in counts] if sum(counts) > 0 else []


def _reading(reading: Any) -> dict[str, Any] | None:
    if reading is None:
        return None
    return {"v": reading.value, "e": reading.noise, "n": reading.null, "s": reading.seeds}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
