"""`write_sweep`: run folders in, `sweep.csv`, `sweep.parquet` and `sweep.html` out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saescope.files import write_text
from saescope.report.sweep.comparable import Group, groups
from saescope.report.sweep.differences import Difference, differences, within_noise
from saescope.report.sweep.job import Job, find_jobs
from saescope.report.sweep.lines import Line, lines, seed_spread
from saescope.report.sweep.matching import matched
from saescope.report.sweep.settings import axes
from saescope.report.sweep.table import frame, rows, write_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sweep:
    """Everything the page is made of."""

    dirs: tuple[Path, ...]
    out: Path
    jobs: Sequence[Job]
    rows: Sequence[dict[str, Any]]
    groups: Sequence[Group]
    axes: Sequence[str]
    twins: Mapping[str, Sequence[str]]
    """Settings that always change together with an axis."""
    lines: Sequence[Line]
    steps: Sequence[Difference]
    spread: dict[str, float]
    unread: Sequence[str]
    """Files that could not be read, one line each."""


@dataclass(frozen=True)
class SweepSummary:
    """What was written."""

    table: "pd.DataFrame"
    """One row a job."""
    failed: tuple[str, ...]
    """One line for each job that did not finish: folder, overrides, error."""
    paths: tuple[Path, ...]
    """`sweep.csv`, `sweep.parquet`, `sweep.html`."""
    sentences: tuple[str, ...]
    """The headline of the page, warnings first."""


def write_sweep(dirs: Sequence[Path], out: Path) -> SweepSummary:
    """Gather the jobs in and below `dirs` and write table and page into `out`.

    Failed, killed and damaged jobs are rows like the others. Raises ReportError when a folder is not there or
    no job is found, OSError when `out` cannot be written.
    """
    from saescope.report.sweep.page import render

    sweep = gather(dirs, out)
    table = frame(sweep.rows)
    page, sentences = render(sweep)
    paths = (*write_table(table, out), out / "sweep.html")
    write_text(paths[-1], page)
    lost = [row for row in sweep.rows if row["state"] != "ok"]
    failed = tuple(
        f"job {row['job']}" + (f" ({row['overrides']})" if row["overrides"] else "") + f": {row['error']}"
        for row in lost
    )
    return SweepSummary(table, failed, paths, tuple(sentences))


def gather(dirs: Sequence[Path], out: Path) -> Sweep:
    """Read the jobs and compare them."""
    jobs = find_jobs(dirs)
    together = groups(jobs)
    values, unread = matched(jobs, together, out)
    found = rows(jobs, together, values, out)
    done = [row for row, job in zip(found, jobs, strict=True) if job.ok]
    placed = [job.section("hookpoint") for job in jobs if job.ok]
    by_depth = all(one.get("layer") is None and one.get("depth") is not None for one in placed)
    twins = axes(done, by_depth)
    swept = list(twins)
    spread = seed_spread(found, together, swept)
    drawn = lines(found, together, swept, spread)
    steps = differences(drawn)
    noted = [row | {"within_noise": within_noise(steps, at)} for at, row in enumerate(found)]
    sweep = Sweep(tuple(dirs), out, jobs, noted, together, swept, twins, drawn, steps, spread, unread)
    return replace(sweep, lines=[line for line in drawn if len(line.points) > 1])
