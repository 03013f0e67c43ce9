"""Results beside their controls, in sentences and as a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saescope.metrics import Metric
from saescope.report.controls import control_name
from saescope.report.numbers import DASH, figure
from saescope.report.sweep.comparisons import Comparison, Comparisons
from saescope.report.sweep.controls import BesideControls, Kind
from saescope.report.sweep.lines import Point, Reading
from saescope.report.sweep.pareto import QUALITIES
from saescope.report.sweep.phrases import MOST, Row, at_text, joined, span, subject
from saescope.report.sweep.uncertainty import MEASURES
from saescope.runfolder.values import finite

RESULT_MEASURES = (*MEASURES, *QUALITIES)
"""What a run page says of a result beside its controls."""
NAMED = 2
"""Results whose controls a sentence names one by one; of more it gives the range, and the table has all."""


def beside_sentences(
    rows: Sequence[Row], beside: Sequence[BesideControls], comparisons: Comparisons
) -> Iterator[str]:
    """One sentence a measure, one on reconstruction, and one for each kind that is nowhere alike."""
    for measure in MEASURES:
        parts = list(_set_against(beside, measure, comparisons))
        if parts:
            yield f"{subject(measure, rows)} beside controls: {'. '.join(_capitals(parts))}."
    if len(beside) == 1:
        qualities = (_quality(rows, metric, beside[0]) for metric in QUALITIES)
        yield from filter(None, [" ".join(filter(None, qualities))])
    for kind in dict.fromkeys(kind for entry in beside for kind in entry.controls):
        alone = [entry for entry in beside if kind in entry.controls and not entry.controls[kind]]
        if alone and len(kind) == 1:
            where = joined([f"the result at {at_text(entry.at)}" for entry in alone[:MOST] if entry.at])
            number = "the result" if len(beside) == 1 else f"{len(alone)} of the results"
            yield (
                f"No control of the kind {control_name(kind)} is alike otherwise (same model, layer, k, "
                f"number of latents) for {where if where and len(alone) <= MOST else number}, so none is "
                "set beside it."
            )


def result_sentences(entry: BesideControls, comparisons: Comparisons, sweep: str) -> list[str]:
    """A result beside its controls, for its own page: one sentence a kind of control. `sweep`: its name.

    `Beside random SAE: SI by rate is 0.105 above (0.101 to 0.109); Q is not told apart (difference -0.001 to
    0.004).`
    """
    sentences = []
    for kind, control in entry.controls.items():
        if control is None:
            continue
        parts = []
        for measure in RESULT_MEASURES:
            compared = comparisons.between(control.jobs, entry.result.jobs, measure)
            if compared is not None:
                parts.append(_above(compared))
        if parts:
            sentences.append(f"Beside {control_name(kind)}: {'; '.join(parts)}.")
    if sentences:
        sentences[-1] += (
            f" (Sweep {sweep}; 95 % intervals of the difference that hold for all of it at once.)"
        )
    return sentences


def _above(compared: Comparison) -> str:
    """`SI by rate is 0.105 above (0.101 to 0.109)`, `Q is not told apart (-0.001 to 0.004)`."""
    name, interval = compared.measure.short, span(compared.low, compared.high)
    paired = "" if compared.documents == "paired" else f", {compared.documents}"
    if compared.within_noise:
        return f"{name} is not told apart (difference {interval}{paired})"
    if compared.low > 0:
        return f"{name} is {figure(compared.difference)} above ({interval}{paired})"
    return f"{name} is {figure(-compared.difference)} below ({span(-compared.high, -compared.low)}{paired})"


def _capitals(parts: Sequence[str]) -> list[str]:
    """All but the first start a sentence."""
    return [part if at == 0 else part[:1].upper() + part[1:] for at, part in enumerate(parts)]


def _quality(rows: Sequence[Row], metric: Metric, entry: BesideControls) -> str:
    """`FVU: trained 0.19; random SAE 0.95.`, or nothing."""
    values = {
        control_name(kind): value
        for kind, point in ((("trained",), entry.result), *_first_kinds(entry))
        if (value := mean_of(rows, metric, point)) is not None
    }
    if "trained" not in values or len(values) < 2:
        return ""
    return f"{metric.short}: {'; '.join(f'{name} {figure(value)}' for name, value in values.items())}."


def mean_of(rows: Sequence[Row], metric: Metric, point: Point) -> float | None:
    """A metric averaged over the jobs of a point; None where no job has it."""
    values = [value for at in point.jobs if (value := finite(rows[at].get(metric.key))) is not None]
    return sum(values) / len(values) if values else None


def _first_kinds(entry: BesideControls) -> list[tuple[Kind, Point]]:
    """The controls that differ from the result in one thing; all where there is none such."""
    alike = [(kind, control) for kind, control in entry.controls.items() if control]
    return [(kind, control) for kind, control in alike if len(kind) == 1] or alike


def _set_against(
    beside: Sequence[BesideControls], measure: Metric, comparisons: Comparisons
) -> Iterator[str]:
    """`trained 0.246; random SAE 0.181, 74 % of it, difference 0.065 (0.061 to 0.069)`: one part a result,
    or the range over many."""
    entries = [entry for entry in beside if measure.key in entry.result.readings]
    if len(entries) > NAMED:
        texts = [text for kind in _kinds(entries) if (text := _range(entries, measure, kind, comparisons))]
        if texts:
            yield f"over {len(entries)} results, of the trained value: {'; '.join(texts)}"
        return
    for entry in entries:
        result = entry.result.readings[measure.key]
        texts = []
        for kind, control in _first_kinds(entry):
            if measure.key in control.readings:
                compared = comparisons.between(control.jobs, entry.result.jobs, measure)
                text = _against(result, control.readings[measure.key], compared)
                texts.append(f"{control_name(kind)} {text}")
        if texts:
            where = f"at {at_text(entry.at)} " if entry.at and len(entries) > 1 else ""
            yield f"{where}trained {figure(result.value)}; {'; '.join(texts)}"


def _range(entries: Sequence[BesideControls], measure: Metric, kind: Kind, comparisons: Comparisons) -> str:
    """`random SAE 70 % to 79 %, below in all 5`, or nothing."""
    shares = [
        control.readings[measure.key].value / entry.result.readings[measure.key].value
        for entry in entries
        if (control := entry.controls.get(kind))
        and measure.key in control.readings
        and entry.result.readings[measure.key].value > 0
    ]
    if not shares:
        return ""
    low, high = _share(min(shares)), _share(max(shares))
    some = "" if len(shares) == len(entries) else f" ({len(shares)} of {len(entries)} results)"
    compared = [
        each
        for entry in entries
        if (control := entry.controls.get(kind))
        and (each := comparisons.between(control.jobs, entry.result.jobs, measure))
    ]
    beyond = "".join(f", {text}" for text in _beyond_noise(compared))
    shown = low if low == high else f"{low} to {high}"
    return f"{control_name(kind)} {shown}{some}{beyond}"


def _beyond_noise(compared: Sequence[Comparison]) -> Iterator[str]:
    """`below the result beyond noise in 3 of 5`, and the same above: a control above is never left unsaid."""
    below, above = sum(each.low > 0 for each in compared), sum(each.high < 0 for each in compared)
    for side, times in (("below", below), ("above", above)):
        if times or (side == "below" and compared and not above):
            number = f"all {times}" if times == len(compared) else f"{times} of {len(compared)}"
            yield f"{side} the result beyond noise in {number}"


def _kinds(entries: Sequence[BesideControls]) -> list[Kind]:
    """The kinds that differ from a result in one thing; all where there is none such."""
    kinds = list(dict.fromkeys(kind for entry in entries for kind in entry.controls))
    return [kind for kind in kinds if len(kind) == 1] or kinds


def _against(result: Reading, control: Reading, compared: Comparison | None) -> str:
    """`0.181, 74 % of it, difference 0.065 (0.061 to 0.069)`: a control's value beside that of the result."""
    text = figure(control.value)
    if result.value > 0 and control.value > 0:
        text += f", {_share(control.value / result.value)} of it"
    if compared is None:
        return text
    interval = f"{figure(compared.difference)} ({span(compared.low, compared.high)})"
    return f"{text}, difference {interval}" + (", within noise" if compared.within_noise else "")


@dataclass(frozen=True)
class BesideRow:
    """A row of the table of controls, as text."""

    at: str
    group: str
    measure: str
    result: str
    controls: tuple[str, ...]
    """A cell for each kind."""


@dataclass(frozen=True)
class BesideTable:
    """Results (a row for each measure) and the controls of each kind (columns)."""

    kinds: tuple[str, ...]
    several: bool
    """More than one result, so that a row says which."""
    rows: tuple[BesideRow, ...]


def beside_table(
    rows: Sequence[Row], beside: Sequence[BesideControls], comparisons: Comparisons
) -> BesideTable:
    """The measures followed along the axes, and reconstruction."""
    kinds = tuple(dict.fromkeys(kind for entry in beside for kind in entry.controls))
    table = []
    for entry in beside:
        at, controls = at_text(entry.at), [entry.controls.get(kind) for kind in kinds]
        for measure in MEASURES:
            if result := entry.result.readings.get(measure.key):
                cells = tuple(
                    _cell(result, reading, comparisons.between(control.jobs, entry.result.jobs, measure))
                    if control and (reading := control.readings.get(measure.key))
                    else DASH
                    for control in controls
                )
                table.append(BesideRow(at, entry.group, measure.short, figure(result.value), cells))
        for metric in QUALITIES:
            if (value := mean_of(rows, metric, entry.result)) is not None:
                cells = tuple(
                    _quality_cell(
                        mean_of(rows, metric, control),
                        comparisons.between(control.jobs, entry.result.jobs, metric),
                    )
                    if control
                    else DASH
                    for control in controls
                )
                table.append(BesideRow(at, entry.group, metric.short, figure(value), cells))
    return BesideTable(tuple(map(control_name, kinds)), len(beside) > 1, tuple(table))


def _interval_notes(compared: Comparison | None) -> list[str]:
    """The interval of the result less the control, and whether it holds 0."""
    if compared is None:
        return []
    sign = "+" if compared.low > 0 else ""
    return [f"{sign}{span(compared.low, compared.high)}"] + ["within noise"] * compared.within_noise


def _quality_cell(value: float | None, compared: Comparison | None) -> str:
    """`0.95 (-0.77 to -0.75)`."""
    return figure(value) + (f" ({', '.join(_interval_notes(compared))})" if compared else "")


def _cell(result: Reading, control: Reading, compared: Comparison | None) -> str:
    """`0.181 (74 %, +0.061 to 0.069)`, `0.24 (98 %, -0.001 to 0.003, within noise)`."""
    notes = [_share(control.value / result.value)] if result.value > 0 and control.value > 0 else []
    notes += _interval_notes(compared)
    return figure(control.value) + (f" ({', '.join(notes)})" if notes else "")


def _share(share: float) -> str:
    """`74 %`, `101 %`: a ratio, which no more digits make surer."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
