"""The sweep in words: what was swept, whether the jobs can be compared, and which differences are real."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saescope.metrics import (
    LM_CE_SCORE,
    MATCHED_Q,
    MATCHED_Q_LATENTS,
    MATCHED_SI,
    MATCHED_SI_COUNT,
    SAE_EXPLAINED_VARIANCE,
    Metric,
)
from saescope.report.numbers import count, figure
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.differences import Difference
from saescope.report.sweep.lines import MEASURES
from saescope.report.sweep.settings import SEEDS, confounded
from saescope.report.words import CE_FLOOR, EV_FLOOR, Sentence
from saescope.runfolder.values import finite

Row = Mapping[str, Any]

_CONTROLS = {("model.random_init", True), ("sae.source", "random"), ("sae.source", "neurons")}
"""Conditions that are controls: a trend is that of the other conditions, where there are any."""


@dataclass(frozen=True)
class Findings:
    """What the sentences are about."""

    rows: Sequence[Row]
    groups: Sequence[Group]
    axes: Sequence[str]
    twins: Mapping[str, Sequence[str]]
    """Settings that always change together with an axis."""
    steps: Sequence[Difference]
    spread: Mapping[str, float]
    """Standard deviation over seeds, by the key of the measure."""
    unread: Sequence[str]
    """Files that could not be read, one line each."""


def headline(findings: Findings) -> list[Sentence]:
    """Warnings first, then what changes along each axis."""
    return [Sentence("warning", text) for text in _warnings(findings)] + [
        Sentence("finding", text) for text in (*_overview(findings), *_along(findings), *_seeds(findings))
    ]


def _warnings(findings: Findings) -> Iterator[str]:
    rows = findings.rows
    unfinished = [row for row in rows if row["state"] != "ok"]
    if unfinished:
        names = ", ".join(f"{row['job']} ({row['state']})" for row in unfinished[:8])
        more = f" and {len(unfinished) - 8} more" if len(unfinished) > 8 else ""
        number = f"{len(unfinished)} of {_jobs(len(rows))}"
        yield f"{number} did not finish: {names}{more}. The table has the errors."
    if len(findings.groups) > 1:
        yield (
            f"The finished jobs fall into {len(findings.groups)} groups that cannot be compared: "
            "they differ in texts, token counts or definitions. No line is drawn from one group to another."
        )
        for group in findings.groups[1:]:
            differences = "; ".join(group.differs[:6]) + ("; …" if len(group.differs) > 6 else "")
            yield f"Group {group.name} ({_jobs(len(group.members))}) has {differences}."
    poor = [
        row
        for row in rows
        if (ev := finite(row.get(SAE_EXPLAINED_VARIANCE.key))) is not None
        and (ev < EV_FLOOR or (finite(row.get(LM_CE_SCORE.key)) or 1.0) < CE_FLOOR)
    ]
    if poor:
        names = ", ".join(str(row["job"]) for row in poor[:8]) + (", …" if len(poor) > 8 else "")
        yield (
            f"In {len(poor)} of {_jobs(len(rows))} the SAE reconstructs badly (less than half of the "
            f"variance, or a CE score below {CE_FLOOR}): their SI and Q are uninterpretable ({names})."
        )
    for axis in findings.axes:
        measured = [dict(row) for row in rows if row["state"] == "ok"]
        tied = [*findings.twins.get(axis, ()), *confounded(measured, axis, list(findings.axes))]
        if tied:
            change = "changes" if len(tied) == 1 else "change"
            yield f"Along {axis} also {_and(tied)} {change}: the sweep cannot tell their effects apart."
    if findings.unread:
        yield f"Left out: {'; '.join(findings.unread[:4])}{'; …' if len(findings.unread) > 4 else ''}."


def _overview(findings: Findings) -> Iterator[str]:
    finished = [row for row in findings.rows if row["state"] == "ok"]
    if not finished:
        yield "No job has finished, so there is nothing to compare."
        return
    swept = [f"{axis} ({_values([row.get(axis) for row in finished])})" for axis in findings.axes]
    seeds = any(len({row.get(key) for row in finished}) > 1 for key in SEEDS)
    about = "differ in their seeds only" if seeds else "have the same settings"
    if swept:
        about = f"vary {_and(swept)}"
    if len(finished) == 1:
        yield "One job has finished; a sweep needs two to compare."
        return
    text = f"{_jobs(len(finished))} {about}."
    if len(findings.groups) == 1:
        text += " All have the same texts, tokens and definitions, so they can be compared."
    yield text


def _along(findings: Findings) -> Iterator[str]:
    for axis in findings.axes:
        for measure in MEASURES:
            steps = [step for step in findings.steps if (step.axis, step.measure) == (axis, measure)]
            steps = [step for step in steps if not set(step.at) & _CONTROLS] or steps
            if steps:
                yield _trend(_subject(measure, findings.rows), axis, steps)


def _trend(name: str, axis: str, steps: Sequence[Difference]) -> str:
    up = sum(step.verdict == "rises" for step in steps)
    down = sum(step.verdict == "falls" for step in steps)
    still = len(steps) - up - down
    low = min(min(step.low, step.high) for step in steps)
    high = max(max(step.low, step.high) for step in steps)
    span = f"(values from {figure(low)} to {figure(high)})"
    if not up and not down:
        largest = max(steps, key=lambda step: abs(step.change))
        return (
            f"{name} does not change with {axis} beyond noise: {_steps(len(steps))}, the largest "
            f"{_signed(largest.change)} where the noise is ± {figure(largest.noise)}."
        )
    if still == 0 and not (up and down):
        verb = "rises" if up else "falls"
        each = "the one step is" if len(steps) == 1 else f"each of {_steps(len(steps))} is"
        return f"{name} {verb} with {axis}: {each} larger than the noise {span}."
    parts = [
        f"{number} {word}" for number, word in ((up, "up"), (down, "down"), (still, "within noise")) if number
    ]
    return f"{name} along {axis}: of {_steps(len(steps))}, {_and(parts)} {span}."


def _subject(measure: Metric, rows: Sequence[Row]) -> str:
    if measure == MATCHED_SI:
        firings = {row.get(MATCHED_SI_COUNT.key) for row in rows} - {None}
        return f"At matched firing counts ({_values(list(firings))} a latent) SI"
    if measure == MATCHED_Q:
        latents = {row.get(MATCHED_Q_LATENTS.key) for row in rows} - {None}
        return f"At matched latents (graphs of {_values(list(latents))}) Q"
    return measure.short


def _seeds(findings: Findings) -> Iterator[str]:
    if not findings.steps:
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
            "Every setting has one seed, so the spread over seeds is not known: noise is the 95 % interval "
            "of SI and the spread of the null of Q. More seeds (sae.init_seed, sae.data_seed) would tell."
        )


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{figure(value)}"


def _values(values: Sequence[Any]) -> str:
    distinct = [value for value in dict.fromkeys(values) if value is not None]
    if distinct and all(finite(value) is not None for value in distinct):
        distinct.sort()
    texts = [
        str(value) if not isinstance(value, int) or value < 10_000 else count(value) for value in distinct
    ]
    return ", ".join(texts[:8]) + (f", … ({len(texts)} values)" if len(texts) > 8 else "")


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _jobs(number: int) -> str:
    return f"{number} job{'' if number == 1 else 's'}"


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"
