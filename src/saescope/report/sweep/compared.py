"""The jobs of a sweep, read and compared: everything its page shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saescope.errors import ReportError
from saescope.report.controls import control_name
from saescope.report.evidence import Shortage, shortage, shortage_sentences
from saescope.report.sweep.comparable import Group, groups
from saescope.report.sweep.comparisons import Comparisons, compare, job_pairs
from saescope.report.sweep.controls import beside_controls, control_pairs, labels_of
from saescope.report.sweep.differences import Difference, differences, step_pairs, within_noise
from saescope.report.sweep.latents_only import latents_only_values
from saescope.report.sweep.lines import Line, lines
from saescope.report.sweep.matching import lacking_sentences, matched_values
from saescope.report.sweep.settings import axes
from saescope.report.sweep.table import job_rows
from saescope.report.sweep.uncertainty import Uncertainty
from saescope.report.sweep.words import Findings
from saescope.runfolder.run import Run
from saescope.runfolder.sweep import open_sweep


@dataclass(frozen=True)
class ComparedSweep:
    """The jobs and their comparison, as the page shows them."""

    dirs: tuple[Path, ...]
    out: Path
    jobs: Sequence[Run]
    rows: Sequence[dict[str, Any]]
    groups: Sequence[Group]
    axes: Sequence[str]
    lines: Sequence[Line]
    steps: Sequence[Difference]
    findings: Findings
    """What the headline is about."""
    uncertainty: Uncertainty

    @property
    def comparisons(self) -> Comparisons:
        """Every difference between jobs, with its interval."""
        return self.findings.comparisons


def compare_jobs(dirs: Sequence[Path], out: Path, jobs: Sequence[Run] | None = None) -> ComparedSweep:
    """Compare `jobs`, or read those in and below `dirs`. Raises ReportError like `open_sweep`."""
    jobs = open_sweep(dirs).runs if jobs is None else jobs
    job_groups = groups(jobs)
    at_evidence, unread = matched_values(jobs, job_groups)
    latents_only, unread_tables = latents_only_values(jobs, job_groups, out)
    at_matched = [{**values, **old} for values, old in zip(at_evidence, latents_only, strict=True)]
    unread = list(dict.fromkeys(unread + unread_tables))
    labels = labels_of(jobs)
    rows = job_rows(jobs, job_groups, at_matched, out)
    for row, label in zip(rows, labels, strict=True):
        row["control"] = control_name(label)
    finished = [at for at, job in enumerate(jobs) if job.ok]
    hookpoints = [job.section("hookpoint") for job in jobs if job.ok]
    by_depth = all(place.get("layer") is None and place.get("depth") is not None for place in hookpoints)
    swept = list(axes([rows[at] for at in finished], by_depth))
    uncertainty, unread_resamples = Uncertainty.of(jobs, rows, job_groups, swept)
    all_lines = lines(rows, job_groups, swept, uncertainty)
    # what changes along the axes is said of the results; controls stand beside them
    results = [at for at in finished if not labels[at]] or finished
    result_groups = [
        replace(group, members=tuple(at for at in group.members if at in results)) for group in job_groups
    ]
    twins = axes([rows[at] for at in results], by_depth)
    beside = beside_controls(rows, job_groups, labels, list(twins), uncertainty)
    result_lines = lines(rows, result_groups, list(twins), uncertainty)
    pairs = [*step_pairs(all_lines), *step_pairs(result_lines), *control_pairs(beside)]
    comparisons = compare(rows, [*pairs, *job_pairs(rows, job_groups)], uncertainty)
    steps = differences(all_lines, comparisons)
    findings = Findings(
        rows,
        job_groups,
        results,
        twins,
        differences(result_lines, comparisons),
        beside,
        comparisons,
        [
            *shortage_sentences([_shortage(jobs[at]) for at in finished], len(finished)),
            *lacking_sentences(rows),
        ],
        {key: spread.sd for key, spread in uncertainty.seeds.items()},
        [*unread, *unread_resamples],
    )
    rows_with_steps = [row | {"within_noise": within_noise(steps, at)} for at, row in enumerate(rows)]
    return ComparedSweep(
        tuple(dirs),
        out,
        jobs,
        rows_with_steps,
        job_groups,
        swept,
        [line for line in all_lines if len(line.points) > 1],
        steps,
        findings,
        uncertainty,
    )


def _shortage(job: Run) -> Shortage:
    try:
        p_F = job.columns("features", ["si_p"])["si_p"]
    except ReportError:
        p_F = None
    return shortage(job.metrics, job.section("metrics"), p_F)
