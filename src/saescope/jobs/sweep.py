"""After the last job of a sweep: overlap of its SAEs, table and page, the W&B side, the upload script."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from saescope.config import TrackingConfig
from saescope.files import lock, remove_leftovers
from saescope.report.sweep import SweepSummary, write_page, write_sweep
from saescope.runfolder.names import SWEEP_LOCK
from saescope.runfolder.run import Run, read_run
from saescope.runfolder.sweep import find_runs, open_sweep
from saescope.runtime.meter import phase

log = logging.getLogger(__name__)

T = TypeVar("T")


def finish_sweep(
    sweep_dir: Path,
    tracking: TrackingConfig,
    group: str,
    runs: Sequence[Run] | None = None,
    *,
    interrupted: bool = False,
    planned: int | None = None,
) -> SweepSummary | None:
    """Write everything that belongs to the sweep as a whole; None when its table could not be written.

    The jobs are done and their folders complete: a failure here is only a warning, and `saescope-report`
    writes the files again at any time.

    Args:
        sweep_dir: folder of the sweep.
        tracking: W&B settings of the sweep.
        group: name of the group of its runs.
        runs: the rows; None: every run folder in `sweep_dir`.
        planned: how many jobs there should be; None where nobody knows.
        interrupted: leave out what takes long, the overlap of the SAEs and the W&B run of the sweep.
    """
    runs = list(map(read_run, find_runs([sweep_dir]))) if runs is None else runs
    jobs = [run.path for run in runs if run.path.is_dir()]
    if not runs:
        return None

    def overlap() -> None:
        from saescope.overlap import write_overlap

        write_overlap(jobs, sweep_dir)

    def tracked() -> dict[str, Any]:
        from saescope.jobs.left_out import of_tracking
        from saescope.tracking.sweep_run import log_sweep

        varied = (summary.axes, summary.seeds) if summary else ()
        info, lost = log_sweep(sweep_dir, tracking, group, *varied)
        if lost and summary:  # the page was written before: now it says so
            write_page(summary.compared, planned, of_tracking(lost))
        return info

    def upload() -> None:
        from saescope.tracking.sync_script import write_sync

        write_sync(sweep_dir, report, jobs)

    with _tidied(sweep_dir):
        if not interrupted:
            _attempt("overlap of the SAEs", overlap)
        summary = _attempt(
            "table and page of the sweep", lambda: write_sweep([sweep_dir], sweep_dir, runs, planned, ())
        )
        report = None if interrupted else _attempt("W&B run of the sweep", tracked)
        if tracking.mode != "disabled":
            _attempt("upload script", upload)
        return summary


def rebuild(dirs: Sequence[Path], out: Path, *, overlap: bool) -> SweepSummary:
    """Table and page of the jobs in and below `dirs`, in `out`; with `overlap` that of the SAEs too.

    Raises ReportError when a folder is missing or has no job, OSError when `out` cannot be written.
    """
    with _tidied(out):
        if overlap:
            from saescope.overlap import write_overlap

            jobs = [run.path for run in open_sweep(dirs).runs]
            out.mkdir(parents=True, exist_ok=True)
            write_overlap(jobs, out)
        return write_sweep(dirs, out)


@contextmanager
def _tidied(folder: Path) -> Iterator[None]:
    """First remove what a killed writer left in a folder, unless another process writes there now."""
    with ExitStack() as stack:
        if folder.is_dir():
            with suppress(Timeout, OSError):
                stack.enter_context(lock(folder / SWEEP_LOCK, timeout=0))
                remove_leftovers(folder)
        yield


def _attempt(what: str, make: Callable[[], T]) -> T | None:
    try:
        with phase(what):
            return make()
    except Exception as error:
        log.warning("%s: %s: %s; the jobs are complete", what, type(error).__name__, error)
        log.debug("traceback", exc_info=True)
        return None
