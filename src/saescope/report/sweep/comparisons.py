"""Every difference between jobs that the page or differences.csv shows, with intervals that hold at once.

One family: the steps along the axes and their means over the other axes, the results beside their controls,
and all pairs of comparable jobs where there are at most `ALL_PAIRS`, each in every metric. Documents are
drawn anew for both sides of a difference together where both jobs left their resamples.
"""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from saescope.files import write_text
from saescope.metrics import Metric, metric
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.uncertainty import MEASURES, Uncertainty, distinct
from saescope.runfolder.names import DIFFERENCES
from saescope.runfolder.values import finite
from saescope.stats.paired import Contrast, Deviations, Independent, mean_of, simultaneous

Row = Mapping[str, Any]
Jobs = tuple[int, ...]
"""Positions of jobs that are averaged: they differ in seeds only."""
Settings = tuple[tuple[Jobs, Jobs], ...]
"""Pairs that differ in the same way, each at another setting of the other axes; most have one."""

ALL_PAIRS = 20
"""Of more comparable jobs, only neighbours along the axes and controls are compared."""
COLUMNS = (
    "job_a", "job_b", "group", "metric", "value_a", "value_b", "difference", "paired_low", "paired_high",
    "adjusted_p", "minimum_detectable_difference", "documents", "seeds",
)  # fmt: skip
_OF_ONE_PLACE = ("sae", "lm")
"""Groups of metrics that cannot be compared between hookpoints or models."""


@dataclass(frozen=True)
class Comparison:
    """The second value less the first, averaged over settings."""

    settings: Settings
    measure: Metric
    before: float
    after: float
    low: float
    high: float
    p: float
    """Adjusted for the family."""
    detectable: float
    """The smallest true difference that is found in 80 % of cases."""
    documents: str
    """`paired`, `unpaired`, or `not known`."""
    seeds: bool
    """The spread over seeds is part of the interval."""

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def half_width(self) -> float:
        """Of the interval."""
        return (self.high - self.low) / 2

    @property
    def within_noise(self) -> bool:
        """The interval holds 0."""
        return self.low <= 0 <= self.high

    def reversed(self) -> "Comparison":
        """The first value less the second."""
        return replace(
            self,
            settings=tuple((second, first) for first, second in self.settings),
            before=self.after,
            after=self.before,
            low=-self.high,
            high=-self.low,
        )


class Comparisons:
    """The family, looked up by jobs and metric."""

    def __init__(self, every: Sequence[Comparison] = ()) -> None:
        self.every = every
        self._by_jobs = {(frozenset(each.settings), each.measure.key): each for each in every}

    def between(self, first: Jobs, second: Jobs, measure: Metric) -> Comparison | None:
        """Second less first; None where nothing is known of its noise, or it was not compared."""
        if each := self.over([(first, second)], measure):
            return each
        other = self.over([(second, first)], measure)
        return other.reversed() if other else None

    def over(self, settings: Iterable[tuple[Jobs, Jobs]], measure: Metric) -> Comparison | None:
        """The mean over settings of second less first."""
        return self._by_jobs.get((frozenset(settings), measure.key))


def job_pairs(rows: Sequence[Row], groups: Sequence[Group]) -> list[Settings]:
    """All pairs of each group of at most `ALL_PAIRS` distinct jobs."""
    pairs: list[Settings] = []
    for group in groups:
        members = distinct(rows, group.members)
        if len(members) <= ALL_PAIRS:
            pairs += [(((a,), (b,)),) for a, b in itertools.combinations(members, 2)]
    return pairs


def compare(rows: Sequence[Row], wanted: Iterable[Settings], uncertainty: Uncertainty) -> Comparisons:
    """The comparisons `wanted`, in every metric that both sides have and whose noise is known."""
    resampled = {key: None for job in uncertainty.deviations for key in job}
    others = [entry for key in resampled if (entry := metric(key)) and entry not in MEASURES]
    drafts: dict[tuple[frozenset[tuple[Jobs, Jobs]], str], tuple[Comparison, Contrast]] = {}
    for settings in wanted:
        for measure in (*MEASURES, *others):
            comparable = tuple(
                (first, second)
                for first, second in settings
                if _has(rows, first, measure) and _has(rows, second, measure)
                if measure.group not in _OF_ONE_PLACE or _one_place(rows, first + second)
            )
            turned = frozenset((second, first) for first, second in comparable)
            key = (frozenset(comparable), measure.key)
            if not comparable or key in drafts or (turned, measure.key) in drafts:
                continue
            if draft := _draft(rows, comparable, measure, uncertainty):
                drafts[key] = draft
    known = simultaneous([contrast for _, contrast in drafts.values()])
    return Comparisons(
        [
            replace(draft, low=of.low, high=of.high, p=of.p, detectable=of.detectable)
            for (draft, _), of in zip(drafts.values(), known, strict=True)
        ]
    )


def _has(rows: Sequence[Row], jobs: Jobs, measure: Metric) -> bool:
    return any(finite(rows[at].get(measure.key)) is not None for at in jobs)


def _one_place(rows: Sequence[Row], jobs: Jobs) -> bool:
    return len({(rows[at].get("model.name"), rows[at].get("hookpoint.name")) for at in jobs}) == 1


def _draft(
    rows: Sequence[Row], settings: Settings, measure: Metric, uncertainty: Uncertainty
) -> tuple[Comparison, Contrast] | None:
    """The comparison without its interval, and what that is made from."""

    def values(jobs: Jobs) -> list[float]:
        return [value for at in jobs if (value := finite(rows[at].get(measure.key))) is not None]

    before = mean(mean(values(first)) for first, _ in settings)
    after = mean(mean(values(second)) for _, second in settings)
    independent: list[Independent] = []
    contrast = Contrast(after - before, "", None)
    sources = [_of_documents(rows, *setting, measure, uncertainty) for setting in settings]
    paired = [source for source in sources if isinstance(source, Paired)]
    errors = [source for source in sources if isinstance(source, float)]
    documents = "not known"
    if len(paired) == len(sources) and len({source.scheme for source in paired}) == 1:
        documents = "paired"
        deviations = mean_of([source.deviations for source in paired])
        contrast = replace(contrast, scheme=paired[0].scheme, deviations=deviations)
    elif len(paired) + len(errors) == len(sources):
        # whatever the settings share, the error of a mean is at most the mean of the errors
        documents = "unpaired"
        every = errors + [source.deviations.standard_error for source in paired]
        independent.append(Independent(mean(every), float("inf")))
    spread = uncertainty.seeds.get(measure.key)
    if spread is not None:
        square = sum(1 / len(values(jobs)) for setting in settings for jobs in setting)
        independent.append(Independent(spread.sd * square**0.5 / len(settings), float(spread.freedom)))
    if documents == "not known" and spread is None:
        return None
    if independent:
        contrast = replace(contrast, independent=_together(independent))
    nan = float("nan")
    draft = Comparison(
        settings, measure, before, after, nan, nan, nan, nan, documents, seeds=spread is not None
    )
    return draft, contrast


class Paired(NamedTuple):
    """What drawing the documents anew for both sides does to their difference."""

    deviations: Deviations
    scheme: str


def _of_documents(
    rows: Sequence[Row], first: Jobs, second: Jobs, measure: Metric, uncertainty: Uncertainty
) -> Paired | float | None:
    """`Paired`; else a standard error as of independent jobs; None where the noise is not known."""
    own = [uncertainty.of_documents(at, measure.key) for at in first + second]
    deviations = [each for each in own if each is not None]
    draws = {uncertainty.draws(at, measure.key) for at in first + second}
    sizes = {each.values_R.size for each in deviations}
    if len(deviations) == len(own) and len(draws) == len(sizes) == 1 and "" not in draws:
        sides = mean_of(deviations[len(first) :]), mean_of(deviations[: len(first)])
        return Paired(sides[0] - sides[1], f"{min(draws)} {min(sizes)}")
    halves = [
        [half for at in jobs if (half := uncertainty.half_width(at, rows[at], measure)) is not None]
        for jobs in (first, second)
    ]
    if not (halves[0] and halves[1]):
        return None
    # jobs of one side share their documents
    return float((mean(halves[0]) ** 2 + mean(halves[1]) ** 2) ** 0.5 / 1.96)


def _together(parts: Sequence[Independent]) -> Independent:
    """Independent errors of one difference as one, its degrees of freedom by Satterthwaite's formula."""
    square = sum(part.standard_error**2 for part in parts)
    weight = sum(part.standard_error**4 / part.freedom for part in parts)
    return Independent(square**0.5, square**2 / weight if weight > 0 else float("inf"))


def write_differences(rows: Sequence[Row], comparisons: Comparisons, out: Path) -> Path:
    """`differences.csv`: one row a difference, that of job b less job a.

    Jobs that are averaged are joined by ` + `.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for each in comparisons.every:
        sides = [[at for setting in each.settings for at in setting[side]] for side in (0, 1)]
        names = [" + ".join(str(rows[at]["job"]) for at in side) for side in sides]
        table.writerow(
            [
                *names,
                rows[sides[0][0]].get("group", ""),
                each.measure.key,
                each.before,
                each.after,
                each.difference,
                each.low,
                each.high,
                each.p,
                each.detectable,
                each.documents,
                "yes" if each.seeds else "no",
            ]
        )
    write_text(out / DIFFERENCES, text.getvalue())
    return out / DIFFERENCES
