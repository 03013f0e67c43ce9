"""The table at the end of a sweep: what differs between the jobs comes first and is never cut off."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from saescope.metrics import Q_EXCESS, SAE_FVU, SI_EXCESS, SI_MUTUAL_INFO, shown
from saescope.runfolder.names import SWEEP_CSV
from saescope.runfolder.run import Run
from saescope.runfolder.sweep import job_name

COLUMNS = tuple(metric for metric in shown("sweep") if not metric.between_jobs)
ALWAYS = (SI_MUTUAL_INFO, SI_EXCESS, Q_EXCESS, SAE_FVU)
"""Metrics that stay where the terminal is too narrow for all; the first ones longest."""
LEAST_METRICS = 2
NOTHING = "–"
"""Where a metric does not apply."""


def print_table(jobs: Sequence[Run], sweep_dir: Path, console: Console, width: int) -> None:
    """What all jobs share, then a row per job in `width` columns.

    Settings that differ are columns of their own, with the last part of their name. Metrics that do not fit
    are named below the table.
    """
    settings = [settings_of(job.overrides) for job in jobs]
    keys = list(dict.fromkeys(key for values in settings for key in values))
    several = len(jobs) > 1
    shared = [key for key in keys if several and len({values.get(key) for values in settings}) == 1]
    axes = [key for key in keys if key not in shared]
    columns = [m for m in COLUMNS if any(m.key in job.metrics for job in jobs) or not any(j.ok for j in jobs)]
    values = {
        metric.key: [number(job.metrics.get(metric.key)) if job.ok else "" for job in jobs]
        for metric in columns
    }
    done = [at for at, job in enumerate(jobs) if job.ok]
    constant = [
        key for key, texts in values.items() if len(done) > 1 and len({texts[at] for at in done}) == 1
    ]
    nowhere = {key for key, texts in values.items() if {texts[at] for at in done} <= {NOTHING}}
    constant = [key for key in constant if key not in nowhere]
    metrics = [metric.key for metric in columns if metric.key not in nowhere and metric.key not in constant]
    state = "" if len(done) < len(jobs) or not jobs else ", all ok"
    console.print(f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}{state}")
    if shared:
        console.print(f"all jobs: {' '.join(f'{key}={settings[0][key]}' for key in shared)}")
    if constant:
        which = "all jobs" if state else "all jobs that ended"
        console.print(f"{which}: {', '.join(f'{key} {values[key][done[0]]}' for key in constant)}")
    names = [job_name(job.path, sweep_dir) for job in jobs]
    states = [] if state else [job.state for job in jobs]

    def table(chosen: Sequence[str]) -> Table:
        made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
        made.add_column("job", no_wrap=True)
        for axis in short_names(axes).values():
            made.add_column(axis, overflow="fold")
        if states:
            made.add_column("state", no_wrap=True)
        for key in chosen:
            made.add_column("\n".join(key.split("/", 1)), justify="right", no_wrap=True)
        for at, name in enumerate(names):
            made.add_row(
                name,
                *(settings[at].get(key, "") for key in axes),
                *states[at : at + 1],
                *(values[key][at] for key in chosen),
            )
        return made

    dropped: list[str] = []
    kept = [metric.key for metric in ALWAYS]
    while len(metrics) > LEAST_METRICS and _natural_width(table(metrics), console) > width:
        least = next((key for key in metrics if key not in kept), None) or max(metrics, key=kept.index)
        metrics.remove(least)
        dropped.append(least)
    console.print(table(metrics), width=width, soft_wrap=False)
    if dropped:
        console.print(f"no room here for {', '.join(dropped)}: see {SWEEP_CSV}")


def settings_of(overrides: Sequence[str]) -> Mapping[str, str]:
    """The overrides of a job as key → value, in their order; `+` and `~` are left out."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Key → its last part, where no other key ends in the same."""
    ends = Counter(key.rpartition(".")[2] for key in keys)
    return {key: key if ends[end := key.rpartition(".")[2]] > 1 else end for key in keys}


def _natural_width(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update(width=10_000)).maximum


def number(value: float | int | None) -> str:
    """Three significant digits, thousands separated; a dash where a metric does not apply."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
