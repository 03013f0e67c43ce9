"""SI and Q against model size, where a sweep has at least three sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

from saescope.report.numbers import figure
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.phrases import at_text
from saescope.report.sweep.settings import Value, confounded
from saescope.report.sweep.uncertainty import MEASURES
from saescope.runfolder.values import finite
from saescope.stats.scaling import Slope, log_slope

_SIZE_AND_PLACE = {
    "model.name",
    "model.num_parameters",
    "model.random_init",
    "hookpoint.depth",
    "hookpoint.layer",
}
"""Axes that a fit uses or pools over; all others are conditions."""

_ROUNDING = 1e-12
"""Slopes smaller than this are rounding errors."""
_NAMES = {measure.key: measure.label if measure.between_jobs else measure.short for measure in MEASURES}


def scaling_series(
    rows: Sequence[Mapping[str, Any]], groups: Sequence[Group], axes: Sequence[str]
) -> list[dict[str, Any]]:
    """A fit for each group, condition and measure: trained models and the random-init control apart.

    Conditions are the other axes of the sweep, unless the model fixes them (a pre-trained SAE's width).
    """
    series = []
    size = "model.num_parameters"
    others = [axis for axis in axes if axis not in _SIZE_AND_PLACE]
    fixed = set(confounded([dict(rows[at]) for group in groups for at in group.members], size, others))
    others = [axis for axis in others if axis not in fixed]
    for group in groups:
        cells: dict[tuple[bool, tuple[tuple[str, Value], ...]], list[int]] = {}
        for at in group.members:
            if finite(rows[at].get(size)) is not None:
                rest = tuple((axis, rows[at].get(axis)) for axis in others)
                cells.setdefault((bool(rows[at].get("model.random_init")), rest), []).append(at)
        for (control, rest), members in cells.items():
            for measure in MEASURES:
                used = [at for at in members if finite(rows[at].get(measure.key)) is not None]
                fit = log_slope(
                    [float(rows[at][size]) for at in used],
                    [rows[at].get("hookpoint.depth") for at in used],
                    [float(rows[at][measure.key]) for at in used],
                )
                if fit is not None:
                    series.append(_series(fit, measure.key, control, rest, used, group.name))
    return series


def scaling_sentences(series: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence a fit."""
    sentences = []
    for fit in series:
        who = "with random weights (control)" if fit["control"] else "of the trained models"
        at = f", {fit['at']}" if fit["at"] else ""
        text = f"{_NAMES[fit['measure']]} {who}{at}: {_signed(fit['slope'])} per tenfold parameters"
        if fit["low"] is None:
            sentences.append(f"{text}; one layer and one seed a size, so no interval and no claim.")
            continue
        text += f" (95 % CI {figure(fit['low'])} to {figure(fit['high'])})"
        flat = fit["low"] - _ROUNDING <= 0 <= fit["high"] + _ROUNDING
        sentences.append(f"{text}, {'no trend beyond chance' if flat else 'a trend'}.")
    return sentences


def _series(
    fit: Slope, measure: str, control: bool, rest: tuple[tuple[str, Value], ...], used: list[int], group: str
) -> dict[str, Any]:
    return {
        "measure": measure,
        "control": control,
        "group": group,
        "at": at_text(rest),
        "jobs": used,
        "slope": _clean(fit.slope),
        "intercept": fit.intercept,
        "low": None if fit.low is None else _clean(fit.low),
        "high": None if fit.high is None else _clean(fit.high),
        "sizes": fit.sizes_P.tolist(),
        "means": fit.means_P.tolist(),
    }


def _clean(value: float) -> float:
    return 0.0 if abs(value) < _ROUNDING else value


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{figure(value)}"
