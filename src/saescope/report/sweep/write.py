"""`write_sweep`: run folders in, `sweep.csv`, `sweep.parquet` and `sweep.html` out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saescope.errors import ReportError
from saescope.files import read_json, write_json, write_text
from saescope.left_out import WANDB_MEDIA, LeftOut, parsed, plain
from saescope.report.sweep.compared import compare_jobs
from saescope.report.sweep.comparisons import write_differences
from saescope.report.sweep.controls_words import result_sentences
from saescope.report.sweep.settings import SEEDS, varies
from saescope.report.sweep.table import frame, write_table
from saescope.runfolder.names import SWEEP_HTML, SWEEP_JSON
from saescope.runfolder.run import Run
from saescope.runfolder.write import locked, write_beside

if TYPE_CHECKING:
    import pandas as pd

    from saescope.report.sweep.compared import ComparedSweep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepSummary:
    """What was written."""

    table: "pd.DataFrame"
    """One row a job."""
    failed: tuple[str, ...]
    """One line for each job that did not finish: folder, overrides, error."""
    paths: tuple[Path, ...]
    """`sweep.csv`, `sweep.parquet`, `differences.csv`, `sweep.html`."""
    sentences: tuple[str, ...]
    """The headline of the page, warnings first."""
    axes: tuple[str, ...]
    """The settings that differ between the jobs and make another condition; columns of the table."""
    seeds: tuple[str, ...]
    """The seeds that differ between the jobs."""
    compared: "ComparedSweep"
    """What the page shows."""


def write_sweep(
    dirs: Sequence[Path],
    out: Path,
    jobs: Sequence[Run] | None = None,
    planned: int | None = None,
    untracked: Sequence[LeftOut] | None = None,
) -> SweepSummary:
    """Compare the jobs in and below `dirs` and write table and page into `out`.

    `jobs` are the rows where they are known already, jobs without a folder of their own too; `planned` is how
    many there should be, `untracked` what W&B did not take of the sweep (None: as an earlier `sweep.json` in
    `out` says). Failed, killed and damaged jobs are rows like the others. Raises ReportError when a folder is
    missing or has no job, OSError when `out` cannot be written.
    """
    sweep = compare_jobs(dirs, out, jobs)
    write_beside_controls(sweep)
    table = frame(sweep.rows)
    differences = write_differences(sweep.rows, sweep.comparisons, out)
    paths = (*write_table(table, out), differences, out / SWEEP_HTML)
    sentences = write_page(sweep, planned, untracked_of(out) if untracked is None else untracked)
    unfinished = [row for row in sweep.rows if row["state"] != "ok"]
    failed = tuple(
        f"job {row['job']}" + (f" ({row['overrides']})" if row["overrides"] else "") + f": {row['error']}"
        for row in unfinished
    )
    finished = [row for row in sweep.rows if row["state"] == "ok"]
    seeds = tuple(key for key in SEEDS if varies(finished, key))
    return SweepSummary(table, failed, paths, tuple(sentences), tuple(sweep.axes), seeds, sweep)


def write_page(sweep: "ComparedSweep", planned: int | None, untracked: Sequence[LeftOut]) -> list[str]:
    """Write `sweep.html` and `sweep.json`, each only where its text changes; the headline of the page.

    `planned`, `untracked`: as for `write_sweep`.
    """
    # Imported here: jinja2 and plotly are not needed to read a sweep.
    from saescope.report.sweep.page import render

    states = [str(row["state"]) for row in sweep.rows]
    planned = planned_jobs(sweep.out) if planned is None else planned
    records = [*jobs_left_out(states, planned), *untracked]
    page, sentences = render(sweep, records)
    if not _holds(sweep.out / SWEEP_HTML, page):
        write_text(sweep.out / SWEEP_HTML, page)
    summary = {"planned": planned, "jobs": len(states), "left_out": plain(records)}
    if read_json(sweep.out / SWEEP_JSON) != summary:
        write_json(sweep.out / SWEEP_JSON, summary)
    return sentences


def _holds(path: Path, text: str) -> bool:
    """Whether a file is there and has this text."""
    try:
        return path.read_bytes() == text.encode("utf-8")
    except OSError:
        return False


def planned_jobs(out: Path) -> int | None:
    """How many jobs the command of the sweep in `out` had; None where that is not recorded."""
    earlier = read_json(out / SWEEP_JSON)
    planned = earlier.get("planned") if isinstance(earlier, dict) else None
    return planned if isinstance(planned, int) else None


def untracked_of(out: Path) -> list[LeftOut]:
    """What W&B did not take of the sweep in `out`, as its `sweep.json` says."""
    earlier = read_json(out / SWEEP_JSON)
    records = parsed(earlier.get("left_out")) if isinstance(earlier, dict) else []
    return [record for record in records if record.what == WANDB_MEDIA]


def jobs_left_out(states: Sequence[str], planned: int | None) -> list[LeftOut]:
    """Jobs without a result, by reason; `states` are those of the rows."""
    missing = max(0, (planned or 0) - len(states))
    total = len(states) + missing
    failed = sum(state == "failed" for state in states)
    unfinished = sum(state not in ("ok", "failed") for state in states)
    records = (
        LeftOut("jobs", failed, total, "The job failed: its row says why."),
        LeftOut("jobs", unfinished, total, "The job did not finish, or its result cannot be read."),
        LeftOut(
            "jobs",
            missing,
            total,
            "The job has no row: it was not started, or another job of the sweep has its folder.",
        ),
    )
    return [record for record in records if record.count]


def write_beside_controls(sweep: "ComparedSweep") -> None:
    """Into every result's folder what it is beside its controls, and its page anew; only below `sweep.out`.

    A folder that cannot be written, or in which another process is at work, keeps its page.
    """
    from saescope.report.page import write_report

    for entry in sweep.findings.beside:
        sentences = result_sentences(entry, sweep.comparisons, sweep.out.resolve().name)
        for at in entry.result.jobs:
            run = sweep.jobs[at]
            inside = sweep.out.resolve() in run.path.resolve().parents
            if not (sentences and inside) or run.beside == sentences:
                continue
            try:
                with locked(run.path):
                    write_report(run.path, latents=False, beside=sentences)
                    write_beside(run.path, sentences)  # last: where it is there, the page has it
            except (OSError, ReportError) as error:
                log.warning("%s keeps its page: %s", run.path, " ".join(str(error).split()))
