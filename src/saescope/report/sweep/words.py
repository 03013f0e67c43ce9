"""The sweep in words: what was swept, whether the jobs can be compared, and which differences are real."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saescope.metrics import LM_CE_SCORE, SAE_EXPLAINED_VARIANCE
from saescope.report.numbers import figure
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.comparisons import Comparison, Comparisons
from saescope.report.sweep.controls import BesideControls
from saescope.report.sweep.controls_words import beside_sentences
from saescope.report.sweep.differences import Difference
from saescope.report.sweep.effects import Effect, effects
from saescope.report.sweep.phrases import (
    MOST,
    at_text,
    jobs_text,
    joined,
    signed,
    steps_text,
    subject,
    value_text,
    values_text,
)
from saescope.report.sweep.settings import SEEDS, Value, confounded
from saescope.report.sweep.uncertainty import MEASURES
from saescope.report.words import CE_FLOOR, EV_FLOOR, Sentence
from saescope.runfolder.names import DIFFERENCES
from saescope.runfolder.values import finite

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """What the sentences are about."""

    rows: Sequence[Row]
    groups: Sequence[Group]
    results: Sequence[int]
    """Positions of the finished jobs that are no controls; of all of them where every one is a control."""
    twins: Mapping[str, Sequence[str]]
    """The settings that differ between the results, and those that always change together with each."""
    steps: Sequence[Difference]
    """Between results."""
    beside: Sequence[BesideControls]
    """Results that have controls."""
    comparisons: Comparisons
    """Every difference between jobs, with its interval."""
    thin: Sequence[str]
    """Where there is too little evidence, one line each."""
    spread: Mapping[str, float]
    """Standard deviation over seeds, by the key of the measure."""
    unread: Sequence[str]
    """Files that could not be read, one line each."""

    @property
    def axes(self) -> list[str]:
        """The settings that differ between the results."""
        return list(self.twins)


def headline(findings: Findings) -> list[Sentence]:
    """Warnings first, then what changes along each axis."""
    return [Sentence("warning", text) for text in _warnings(findings)] + [
        Sentence("finding", text)
        for text in (
            *_overview(findings),
            *beside_sentences(findings.rows, findings.beside, findings.comparisons),
            *_along(findings),
            *_seeds(findings),
            *_family(findings),
        )
    ]


def _warnings(findings: Findings) -> Iterator[str]:
    rows = findings.rows
    unfinished = [row for row in rows if row["state"] != "ok"]
    if unfinished:
        names = ", ".join(f"{row['job']} ({row['state']})" for row in unfinished[:8])
        more = f" and {len(unfinished) - 8} more" if len(unfinished) > 8 else ""
        number = f"{len(unfinished)} of {jobs_text(len(rows))}"
        yield f"{number} did not finish: {names}{more}. The table has the errors."
    if len(findings.groups) > 1:
        yield (
            f"The finished jobs fall into {len(findings.groups)} groups that cannot be compared: "
            "they differ in texts, token counts or definitions. No line is drawn from one group to another."
        )
        for group in findings.groups[1:]:
            differences = "; ".join(group.differs[:6]) + ("; …" if len(group.differs) > 6 else "")
            yield f"Group {group.name} ({jobs_text(len(group.members))}) has {differences}."
    poor = [row for row in rows if not row["control"] and _reconstructs_badly(row)]
    if poor:
        names = ", ".join(str(row["job"]) for row in poor[:8]) + (", …" if len(poor) > 8 else "")
        controls = sum(bool(row["control"]) for row in rows)
        aside = " (controls aside)" if controls else ""
        yield (
            f"In {len(poor)} of {jobs_text(len(rows) - controls)}{aside} the SAE reconstructs badly "
            f"(less than half of the variance, or a CE score below {CE_FLOOR}): their SI and Q are "
            f"uninterpretable ({names})."
        )
    for axis in findings.axes:
        results = [dict(rows[at]) for at in findings.results]
        tied = [*findings.twins[axis], *confounded(results, axis, findings.axes)]
        if tied:
            change = "changes" if len(tied) == 1 else "change"
            yield f"Along {axis} also {joined(tied)} {change}: the sweep cannot tell their effects apart."
    yield from findings.thin
    if findings.unread:
        yield f"Left out: {'; '.join(findings.unread[:4])}{'; …' if len(findings.unread) > 4 else ''}."


def _reconstructs_badly(row: Row) -> bool:
    ev, ce = finite(row.get(SAE_EXPLAINED_VARIANCE.key)), finite(row.get(LM_CE_SCORE.key))
    return ev is not None and (ev < EV_FLOOR or (ce is not None and ce < CE_FLOOR))


def _overview(findings: Findings) -> Iterator[str]:
    finished = [row for row in findings.rows if row["state"] == "ok"]
    if not finished:
        yield "No job has finished, so there is nothing to compare."
        return
    if len(finished) == 1:
        yield "One job has finished; a sweep needs two to compare."
        return
    results = [findings.rows[at] for at in findings.results]
    swept = [f"{axis} ({values_text([row.get(axis) for row in results])})" for axis in findings.axes]
    seeds = any(len({row.get(key) for row in results}) > 1 for key in SEEDS)
    about = "differ in their seeds only" if seeds else "have the same settings"
    if swept:
        about = f"vary {joined(swept)}"
    text = f"{jobs_text(len(results))} {about}."
    controls = [row["control"] for row in finished if row["control"]]
    if controls and len(results) == len(finished):
        text = f"All {len(finished)} jobs are controls; they {about}."
    elif controls:
        kinds = "; ".join(
            f"{kind} ({controls.count(kind)})" if controls.count(kind) > 1 else kind
            for kind in dict.fromkeys(controls)
        )
        of_results = f" The results {about}." if len(results) > 1 else ""
        text = (
            f"{jobs_text(len(finished))}: {len(results)} result{'' if len(results) == 1 else 's'} and "
            f"{len(controls)} control{'' if len(controls) == 1 else 's'} ({kinds}).{of_results}"
        )
    if len(findings.groups) == 1:
        text += " All have the same texts, tokens and definitions, so they can be compared."
    yield text


def _along(findings: Findings) -> Iterator[str]:
    for axis in findings.axes:
        for measure in MEASURES:
            steps = [step for step in findings.steps if (step.axis, step.measure) == (axis, measure)]
            name = subject(measure, findings.rows)
            if numbers := [step for step in steps if step.ordered]:
                yield from _trend(name, axis, effects(numbers, findings.comparisons))
            if names := [step for step in steps if not step.ordered]:
                yield _side_by_side(name, axis, names)


def _trend(name: str, axis: str, each: Sequence[Effect]) -> Iterator[str]:
    """What steps along an axis of numbers do, at fixed values of the others."""
    fixed = _fixed(each)
    steps = [step for effect in each for step in effect.settings]
    if all(step.within_noise for step in steps) and all(effect.within_noise for effect in each):
        largest = max(steps, key=lambda step: abs(step.change))
        yield (
            f"{name} does not change with {axis} beyond noise{fixed}: {steps_text(len(steps))}, the largest "
            f"{signed(largest.change)} ± {figure(largest.noise)}."
        )
        return
    agreeing = [effect for effect in each if not effect.opposite]
    if agreeing:
        signs = {0 if effect.within_noise else 1 if effect.change > 0 else -1 for effect in agreeing}
        verb = {1: "rises with", -1: "falls with"}.get(sum(signs)) if len(signs) == 1 else None
        verb = verb if len(agreeing) == len(each) and verb else "along"
        sentence = f"{name} {verb} {axis}{fixed}: {'; '.join(_step(effect) for effect in agreeing[:MOST])}"
        yield sentence + (f"; … ({len(agreeing)} steps)." if len(agreeing) > MOST else ".")
    for effect in each:
        if effect.opposite:
            yield (
                f"From {axis} {value_text(effect.before)} to {value_text(effect.after)} the effect on {name} "
                f"changes sign: it rises {_where(effect.rising)} and falls {_where(effect.falling)}."
            )


def _step(effect: Effect) -> str:
    """`−0.025 ± 0.004 from 4 to 8`, the mean over the settings of the other axes."""
    text = (
        f"{signed(effect.change)} ± {figure(effect.noise)} from {value_text(effect.before)} "
        f"to {value_text(effect.after)}"
    )
    if effect.within_noise:
        text += ", within noise"
    if effect.mixed:
        text += ", its sign not the same at every setting"
    return text


def _fixed(each: Sequence[Effect]) -> str:
    """`, at fixed sae.k (mean of 2 settings)`, or nothing where no other axis varies."""
    settings = {(step.group, step.at) for effect in each for step in effect.settings}
    others = [axis for axis, _ in each[0].settings[0].at]
    if not others:
        return ""
    mean = f" (mean of {len(settings)} settings)" if len(settings) > 1 else ""
    return f", at fixed {joined(others)}{mean}"


def _where(steps: Sequence[Difference]) -> str:
    """`at sae.k=4 (+0.02 ± 0.01)`."""
    texts = [f"at {at_text(step.at)} ({signed(step.change)} ± {figure(step.noise)})" for step in steps]
    return ", ".join(texts[:MOST]) + (f", … ({len(texts)} settings)" if len(texts) > MOST else "")


def _side_by_side(name: str, axis: str, steps: Sequence[Difference]) -> str:
    """The values beside each other: names have no direction."""
    by_setting: dict[tuple[str, tuple[tuple[str, Value], ...]], list[Difference]] = {}
    for step in steps:
        by_setting.setdefault((step.group, step.at), []).append(step)
    parts = []
    for (_, at), same in list(by_setting.items())[:MOST]:
        values = [f"{value_text(same[0].before)} {figure(same[0].low)}"]
        for step in same:
            note = f" (within noise of {value_text(step.before)})" if step.within_noise else ""
            values.append(f"{value_text(step.after)} {figure(step.high)}{note}")
        parts.append((f"at {at_text(at)} " if at else "") + ", ".join(values))
    more = f"; … ({len(by_setting)} settings)" if len(by_setting) > MOST else ""
    return f"{name} by {axis}: {'; '.join(parts)}{more}."


def _seeds(findings: Findings) -> Iterator[str]:
    if not findings.steps and not any(any(entry.controls.values()) for entry in findings.beside):
        return
    spreads = [
        f"{measure.short} {figure(findings.spread[measure.key])}"
        for measure in MEASURES
        if measure.key in findings.spread
    ]
    if spreads:
        yield f"Standard deviation over seeds: {', '.join(spreads)}."
    else:
        yield (
            "Every setting has one seed, so the spread over seeds is not known: intervals are over documents "
            "alone. More seeds (sae.init_seed, sae.data_seed) would tell."
        )


def _family(findings: Findings) -> Iterator[str]:
    """What the intervals of differences are, and which differences they could have shown."""
    every = findings.comparisons.every
    if not every:
        return
    number = f"all {len(every):,} differences" if len(every) > 1 else "the one difference"
    text = f"Intervals of differences hold for {number} of {DIFFERENCES} at once (95 %)"
    paired = sum(each.documents == "paired" for each in every)
    drawn = "paired: the same documents are drawn for both jobs"
    if all(each.documents == "paired" for each in every if each.measure in _PAIRED_MEASURES):
        yield f"{text}, and are {drawn}."
    else:
        why = "documents or their resamples differ or are missing"
        some = f"{paired:,} of them are {drawn}; the others" if paired else "They"
        yield f"{text}. {some} are unpaired, and wider: {why}."
    steps = [each for step in findings.steps if (each := step.comparison)]
    if spans := list(_detectable(steps or every)):
        yield f"Minimum detectable difference (found in 80 % of cases): {', '.join(spans)}."


_PAIRED_MEASURES = tuple(measure for measure in MEASURES if not measure.between_jobs)
"""Measures whose documents can be drawn anew."""


def _detectable(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """`SI 0.0021 to 0.0034`, by measure."""
    for measure in MEASURES:
        sizes = sorted(each.detectable for each in comparisons if each.measure == measure)
        if sizes and sizes[-1] > 0:
            low, high = figure(sizes[0]), figure(sizes[-1])
            yield f"{measure.short} {low if low == high else f'{low} to {high}'}"
