"""The jobs of a sweep, read and compared: everything its page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saescope.report.sweep.comparable import Group, groups
from saescope.report.sweep.differences import Difference, differences, within_noise
from saescope.report.sweep.lines import Line, lines, seed_spread
from saescope.report.sweep.matching import matched_values
from saescope.report.sweep.settings import axes
from saescope.report.sweep.table import job_rows
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
    twins: Mapping[str, Sequence[str]]
    """Settings that always change together with an axis."""
    lines: Sequence[Line]
    steps: Sequence[Difference]
    spread: dict[str, float]
    """Standard deviation over seeds, by the key of the measure."""
    unread: Sequence[str]
    """Files that could not be read, one line each."""


def compare_jobs(dirs: Sequence[Path], out: Path, jobs: Sequence[Run] | None = None) -> ComparedSweep:
    """Compare `jobs`, or read those in and below `dirs`. Raises ReportError like `open_sweep`."""
    jobs = open_sweep(dirs).runs if jobs is None else jobs
    job_groups = groups(jobs)
    at_matched, unread = matched_values(jobs, job_groups, out)
    rows = job_rows(jobs, job_groups, at_matched, out)
    finished = [row for row, job in zip(rows, jobs, strict=True) if job.ok]
    hookpoints = [job.section("hookpoint") for job in jobs if job.ok]
    by_depth = all(place.get("layer") is None and place.get("depth") is not None for place in hookpoints)
    twins = axes(finished, by_depth)
    swept = list(twins)
    spread = seed_spread(rows, job_groups, swept)
    all_lines = lines(rows, job_groups, swept, spread)
    steps = differences(all_lines)
    rows_with_steps = [row | {"within_noise": within_noise(steps, at)} for at, row in enumerate(rows)]
    sweep = ComparedSweep(
        tuple(dirs), out, jobs, rows_with_steps, job_groups, swept, twins, all_lines, steps, spread, unread
    )
    return replace(sweep, lines=[line for line in all_lines if len(line.points) > 1])
