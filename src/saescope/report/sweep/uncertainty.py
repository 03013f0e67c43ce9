"""How sure a metric of a job is: from its documents, drawn anew, and from the seeds of the sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any, NamedTuple

import numpy as np

from saescope.errors import ReportError
from saescope.metrics import MATCHED_SI, SI_MEAN, TASK_DOCS, Metric, shown
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.matching import unread_message
from saescope.report.sweep.settings import Value
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite
from saescope.stats.paired import Deviations, of_bootstrap, of_groups

Row = Mapping[str, Any]

MEASURES = shown("axes")
"""The metrics that are followed along the axes."""
_RESAMPLED_AS = {MATCHED_SI.key: SI_MEAN.key}
"""Metrics whose documents matter as those of another one do: SI of thinned firings as SI."""


class SeedSpread(NamedTuple):
    """Of a metric over seeds, pooled over the conditions that were repeated."""

    sd: float
    freedom: int


@dataclass(frozen=True)
class Uncertainty:
    """Of every job of a sweep; positions are those of the jobs."""

    deviations: Sequence[Mapping[str, Deviations]]
    """By key: what drawing its documents anew does to the metric."""
    schemes: Sequence[Mapping[str, str]]
    """By key: how they were drawn. Of metrics that some of the documents measure it names these too."""
    documents: Sequence[str]
    """Hash of the job's probe windows; empty where none is recorded."""
    seeds: Mapping[str, SeedSpread]
    """By the key of the metric; one that was never repeated is left out."""

    @classmethod
    def of(
        cls, jobs: Sequence[Run], rows: Sequence[Row], groups: Sequence[Group], axes: Sequence[str]
    ) -> tuple["Uncertainty", list[str]]:
        """From the run folders, and one line for each file that could not be read."""
        resampled: list[dict[str, tuple[Deviations, str]]] = []
        messages = []
        for job in jobs:
            try:
                resampled.append(_resampled(job) if job.ok and "resamples" in job.tables else {})
            except (ReportError, ValueError, KeyError, TypeError) as error:
                resampled.append({})
                messages.append(unread_message(job, error))
        deviations = [{key: each for key, (each, _) in job.items()} for job in resampled]
        schemes = [{key: scheme for key, (_, scheme) in job.items()} for job in resampled]
        documents = [str(job.resolved("probes").get("digest") or "") for job in jobs]
        keys = dict.fromkeys(
            [measure.key for measure in MEASURES] + [key for job in deviations for key in job]
        )
        spread = _seed_spread(rows, groups, axes, list(keys))
        return cls(deviations, schemes, documents, spread), messages

    def of_documents(self, at: int, key: str) -> Deviations | None:
        """Deviations of a metric of a job; None where the job left none."""
        return self.deviations[at].get(_RESAMPLED_AS.get(key, key))

    def draws(self, at: int, key: str) -> str:
        """Names the draws behind `of_documents`: equal where drawn together. Empty: not known."""
        scheme = self.schemes[at].get(_RESAMPLED_AS.get(key, key))
        return f"{self.documents[at]} {scheme}" if self.documents[at] and scheme else ""

    def half_width(self, at: int, row: Row, measure: Metric) -> float | None:
        """Half of the 95 % interval of a metric within its job; None when the job has none.

        For matched Q 1.96 sd over its draws; for Q of a run without resamples, over its null.
        """
        from scipy.stats import t

        if measure.low and measure.high:
            low, high = finite(row.get(measure.low)), finite(row.get(measure.high))
            if low is not None and high is not None:
                return (high - low) / 2
        if own := self.of_documents(at, measure.key):
            return float(t.isf(0.025, own.freedom)) * own.standard_error
        sd = finite(row.get(measure.sd)) if measure.sd else None
        return None if sd is None else 1.96 * sd


def distinct(rows: Sequence[Row], members: Sequence[int]) -> list[int]:
    """Members without those that are the same finished result linked into another sweep."""
    seen: dict[Any, int] = {}
    for at in members:
        seen.setdefault(rows[at].get("identity") or ("job", at), at)
    return list(seen.values())


def _resampled(job: Run) -> dict[str, tuple[Deviations, str]]:
    """Deviations and scheme by metric key, from `resamples.parquet`."""
    table = job.resamples
    num_docs = sum(finite(job.metrics.get(TASK_DOCS.of(task))) or 0.0 for task in job.tasks)
    resampled = {}
    for scheme, rows in table.groupby("scheme"):
        documents, few = num_docs, None
        if scheme == "causal":
            scheme = f"causal {rows['documents'].iloc[0]}"
            documents = few = float(rows["num_documents"].iloc[0])
        for key in table.columns.drop(["scheme", "draw", "documents", "num_documents"], errors="ignore"):
            draws = rows[key].dropna().to_numpy(dtype=np.float64)
            if draws.size > 1:
                freedom = max(1.0, documents - len(job.tasks))
                deviations = of_groups(draws) if scheme == "groups" else of_bootstrap(draws, freedom, few)
                resampled[str(key)] = deviations, str(scheme)
    return resampled


def _seed_spread(
    rows: Sequence[Row], groups: Sequence[Group], axes: Sequence[str], keys: Sequence[str]
) -> dict[str, SeedSpread]:
    """Standard deviation over repetitions, pooled, by key."""
    spread = {}
    for key in keys:
        squares, freedom = 0.0, 0
        for group in groups:
            cells: dict[tuple[Value, ...], list[float]] = {}
            for at in distinct(rows, group.members):
                if (value := finite(rows[at].get(key))) is not None:
                    cells.setdefault(tuple(rows[at].get(axis) for axis in axes), []).append(value)
            for values in cells.values():
                if len(values) > 1:
                    squares += stdev(values) ** 2 * (len(values) - 1)
                    freedom += len(values) - 1
        if freedom:
            spread[key] = SeedSpread(float((squares / freedom) ** 0.5), freedom)
    return spread
