"""The jobs of a sweep, read and compared: everything its page is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saescope.report.sweep.comparable import Group, groups
from saescope.report.sweep.differences import Difference, differences, within_noise
from saescope.report.sweep.lines import Line, lines, seed_spread
from saescope.report.sweep.matching import matched
from saescope.report.sweep.settings import axes
from saescope.report.sweep.table import rows
from saescope.runfolder.run import Run
from saescope.runfolder.sweep import open_sweep


@dataclass(frozen=True)
class Sweep:
    """Everything the page is made of."""

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
    unread: Sequence[str]
    """Files that could not be read, one line each."""


def gather(dirs: Sequence[Path], out: Path) -> Sweep:
    """Read the jobs and compare them."""
    jobs = open_sweep(dirs).runs
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
