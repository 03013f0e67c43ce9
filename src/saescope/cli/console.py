"""The end of a command on the terminal: the headline, a table, and where the files are."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from saescope.cli.sweep_table import number, print_table
from saescope.metrics import Q_EXCESS, SAE_FVU, SI_BEYOND_TOKEN_MEAN, SI_MUTUAL_INFO, shown
from saescope.report.words import headline
from saescope.runfolder.names import REPORT, SYNC
from saescope.runfolder.run import Run, read_run
from saescope.runfolder.sweep import find_runs, job_name
from saescope.runtime.meter import about

if TYPE_CHECKING:
    from saescope.report.sweep import SweepSummary

PLAIN: Any = {"highlight": False, "markup": False, "emoji": False}
"""Of a console that prints text as it is: paths and overrides may hold `[brackets]` and `:words:`."""


def print_run(run_dir: Path, reused_from: Path | None = None) -> None:
    """Headline in words, table, paths."""
    console = Console(soft_wrap=True, **PLAIN)
    run = read_run(run_dir)
    metrics = run.metrics
    table = Table("measure", "value", "by chance", "key", title="result", title_justify="left")
    for metric in shown("terminal"):
        chance = number(metrics.get(metric.null)) if metric.null else metric.chance
        table.add_row(metric.label, number(metrics.get(metric.key)), chance, metric.key)
    console.print(table)
    for sentence in headline(metrics, run.status, run.config, run.beside):
        if sentence.kind != "beside":  # the page has these
            console.print(f"• {sentence.text}")
    if reused_from is not None:
        console.print(f"This very config had a finished result in {reused_from}; force=true measures again.")
    if run.tracking.get("url"):
        console.print(f"W&B:     {run.tracking['url']}")
    if run.tracking.get("sync"):
        console.print(f"W&B:     offline; upload with: {run.tracking['sync']}")
    console.print(f"files:   {run_dir}")
    console.print(f"report:  {run_dir / REPORT}")


def print_job(name: str, seconds: float, run_dir: Path, reused_from: Path | None = None) -> None:
    """One line for a job of a sweep: its main numbers, how long it took, and where it is."""
    run = read_run(run_dir)
    numbers = ", ".join(
        f"{metric.key} {number(run.metrics.get(metric.key))}"
        for metric in (SI_MUTUAL_INFO, SI_BEYOND_TOKEN_MEAN, Q_EXCESS, SAE_FVU)
    )
    how = about(seconds)
    if reused_from is not None:
        how = f"this very config had a finished result in {reused_from}"
    Console(soft_wrap=True, **PLAIN).print(f"{name} ok: {numbers}; {how}; {run_dir}")


def print_sweep(
    sweep_dir: Path,
    summary: "SweepSummary | None" = None,
    jobs: Sequence[Run] | None = None,
    of_command: Collection[Path] | None = None,
) -> list[str]:
    """A row per job, the headline of the sweep, paths; returns a line per job that did not finish.

    Args:
        sweep_dir: folder of the sweep.
        summary: of its page; None where it was not written.
        jobs: the rows; None: every run folder in `sweep_dir`.
        of_command: paths of the jobs whose failure gives a line; None: all of them.
    """
    terminal = Console(**PLAIN)
    console = Console(soft_wrap=True, **PLAIN, width=terminal.width if terminal.is_terminal else 180)
    jobs = list(map(read_run, find_runs([sweep_dir]))) if jobs is None else jobs
    print_table(jobs, sweep_dir, console, console.width)
    messages: list[str] = []
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    for job in jobs:
        overrides = " ".join(override for override in job.overrides if override not in shared)
        if not job.ok and (of_command is None or job.path in of_command):
            messages.append(f"job {job_name(job.path, sweep_dir)} ({overrides}): {job.error}")
    for sentence in summary.sentences if summary else ():
        console.print(f"• {sentence}")
    for message in messages:
        console.print(f"failed: {message}")
    script = sweep_dir / SYNC
    if script.is_file():
        console.print(f"W&B:     offline; upload with: sh '{script}'")
    console.print(f"sweep:   {sweep_dir}")
    if summary:
        console.print(f"report:  {summary.paths[-1]}")
    return messages
