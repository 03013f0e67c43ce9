"""Runs a job: identity, reuse of a finished result, tracking, status. Never overwrites finished work."""

import errno
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from saescope.config import AppConfig, HookpointConfig, TrainSae
from saescope.errors import BusyError, ConfigError, SaescopeError, line
from saescope.files import require_room
from saescope.jobs.others import OtherJobs
from saescope.left_out import WANDB_MEDIA, plain
from saescope.runfolder.identity import digests, find_finished, identity, link_result, remember
from saescope.runfolder.names import LOG, SYNC, WANDB
from saescope.runfolder.partial import remove_partials
from saescope.runfolder.run import read_run
from saescope.runfolder.status import (
    is_refused,
    measured,
    status_of,
    write_failed,
    write_measured,
    write_running,
    write_status,
)
from saescope.runfolder.write import locked, write_tracking
from saescope.runtime.meter import phase
from saescope.runtime.threads import set_threads
from saescope.text.probes import open_probes
from saescope.tracking.wandb_run import Tracker, open_tracker

if TYPE_CHECKING:
    from saescope.jobs.pipeline import Prepared

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and a full quota."""

LEAST_ROOM = 2**20
"""Bytes: fewer than the files of any result. A job on a full disk would fail after all its work."""

INTERRUPTED = "interrupted, or told to stop; the same command goes on"


@dataclass(frozen=True)
class Context:
    """Folders and sweep of a job."""

    run_dir: Path
    data_dir: Path
    """Staging of offline W&B artifacts: the sweep folder, or the run folder of a single job."""
    group: str | None = None
    """Group of the sweep's runs; None for a single job."""
    overrides: tuple[str, ...] = ()
    take_over: Callable[[], None] = field(default=lambda: None)
    """Called when the run folder is this job's, never in a folder of another one: writes what the command
    itself leaves there (Hydra's record, the log). May be called again."""
    hookpoints: tuple[HookpointConfig, ...] = ()
    """Those of the other jobs of the sweep that are alike otherwise: the model is run once for all."""
    trainings: tuple[TrainSae, ...] = ()
    """Those of the other jobs of the sweep that are alike otherwise."""
    together: bool = False
    """Train their SAEs side by side, even where the activations could be stored."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    run_dir: Path
    state: str
    """`ok` or `failed`."""
    error: str | None = None
    reused_from: Path | None = None
    untouched: bool = False
    """The folder belongs to another job: its finished result, or at work there now. Nothing was written."""
    refused: bool = False
    """What the user has to correct ended it before it measured anything."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Contents of `metrics.json`; empty for a failed job."""
        return read_run(self.run_dir).metrics if self.state == "ok" else {}


def run_job(cfg: AppConfig, context: Context) -> Outcome:
    """Run one job, or reuse a finished result of the same config.

    Errors give a `failed` outcome and are written to `status.json`, except in the folder of another job,
    where nothing is written.
    """
    measuring, tracker = False, None
    try:
        set_threads()
        contents = _contents(cfg)
        run_id = identity(cfg, contents)
        finished = None if cfg.force else find_finished(run_id, context.run_dir)
        if finished is None or finished.resolve() != context.run_dir.resolve():
            _refuse_overwrite(context.run_dir, cfg)
        if finished is None:
            with _locked(context.run_dir):
                _refuse_overwrite(context.run_dir, cfg)  # another process may have finished here meanwhile
                context.take_over()
                overrides = list(context.overrides)
                result = {} if cfg.force else measured(context.run_dir, run_id)
                write_running(context.run_dir, run_id, overrides=overrides, **result)
                if result:
                    log.info("measured already by a command that was stopped; its pages are missing")
                    measuring, tracker = True, _tracker(cfg, context, run_id)
                else:
                    require_room(context.run_dir, LEAST_ROOM)
                    prepared = _prepare(cfg, _other_jobs(cfg, context, contents))
                    measuring, tracker = True, _tracker(cfg, context, run_id)
                    _measure(cfg, context, run_id, prepared, tracker)
                outcome = _complete(context, run_id, tracker)
                _upload_script(context)
                return outcome
        _reuse(cfg, context, run_id, finished)
        return Outcome(context.run_dir, "ok", reused_from=finished)
    except Exception as error:
        outcome = failed(error, context, measuring=measuring)
        if tracker is None and not outcome.untouched and not is_refused(context.run_dir):
            tracker = _tracker(cfg, context)
        if tracker is not None:
            _track_failure(outcome.error or "", tracker, context)
        return outcome
    except BaseException:
        if tracker is not None:
            _track_failure(INTERRUPTED, tracker, context)
        raise


def _reuse(cfg: AppConfig, context: Context, run_id: str, finished: Path) -> None:
    """Take over the finished result, and have W&B hold it."""
    here = finished.resolve() == context.run_dir.resolve()
    with ExitStack() as stack:
        if not here:
            stack.enter_context(_locked(context.run_dir))
            _refuse_overwrite(context.run_dir, cfg)
            context.take_over()
            link_result(finished, context.run_dir, context.overrides)
        elif find_finished(run_id) is None:  # a process that was killed could not note it
            remember(run_id, context.run_dir)
        if cfg.tracking.mode == "disabled":
            return
        if here:
            try:
                stack.enter_context(_locked(context.run_dir))
            except BusyError:
                log.info("another process is at work in %s; W&B is left to it", context.run_dir)
                return
            except OSError:  # a folder that is only read
                pass
        from saescope.tracking.job_run import log_reused

        tracker = log_reused(
            cfg.tracking,
            context.run_dir,
            finished,
            group=context.group,
            notes=" ".join(context.overrides),
            data_dir=context.data_dir,
        )
        if tracker is not None:
            _note_lost(context.run_dir, tracker.lost)
        logged = tracker is not None and tracker.run is not None
        # a process that logged it may have been killed before it wrote the script
        if logged or ((context.run_dir / WANDB).is_dir() and not (context.run_dir / SYNC).exists()):
            _upload_script(context)


def failed(error: Exception, context: Context, *, measuring: bool = False) -> Outcome:
    """Record a failure: a user error as its message, any other also with its traceback in the log.

    A single job that a user error ended before it was `measuring` is marked as refused: reports of the
    folders above leave it out.
    """
    message, expected = message_of(error, context.run_dir)
    refused = expected and not measuring
    untouched = False
    try:
        untouched = isinstance(error, BusyError) or not _write_failure(
            context, message, refused and context.group is None
        )
    except OSError as unwritten:
        message += f"; status.json could not be written either ({unwritten.strerror})"
    if os.environ.get("SAESCOPE_DEBUG"):
        traceback.print_exception(error)
    elif not expected:
        log.error("unexpected failure\n%s", "".join(traceback.format_exception(error)))
    return Outcome(context.run_dir, "failed", error=message, untouched=untouched, refused=refused)


def message_of(error: Exception, run_dir: Path) -> tuple[str, bool]:
    """The failure in one line, and whether the user can correct it."""
    user_message = _user_message(error)
    if user_message is not None:
        return user_message, True
    if isinstance(error, OSError) and error.errno in FULL:
        where = error.filename or run_dir
        return f"{error.strerror}: {where}; make room and start the same command again", True
    if isinstance(error, OSError) and error.filename:  # folder removed, no permission, read-only
        return f"{error.strerror}: {error.filename}; correct that and start the same command again", True
    first_line = line((str(error).splitlines() or [""])[0][:300])
    return f"unexpected {type(error).__name__}: {first_line} (SAESCOPE_DEBUG=1 shows the traceback)", False


def _write_failure(context: Context, message: str, refused: bool) -> bool:
    """Write `status.json`; False, with nothing written, where the folder is another job's."""
    if status_of(context.run_dir).get("state") == "ok":
        return False
    more = {"refused": True} if refused else {}
    try:
        with _locked(context.run_dir):
            if status_of(context.run_dir).get("state") == "ok":
                return False
            context.take_over()
            overrides = list(context.overrides)
            write_failed(context.run_dir, message, overrides=overrides, **more)
    except BusyError:
        return False
    return True


def _user_message(error: Exception) -> str | None:
    """The message of a user error, None for any other.

    One raised in a spawned process arrives as the text of a traceback.
    """
    if isinstance(error, SaescopeError):
        return str(error)
    if type(error).__name__ == "ProcessRaisedException":
        messages = re.findall(r"^saescope\.[\w.]+Error: (.+)$", str(error), flags=re.MULTILINE)
        return messages[-1] if messages else None
    return None


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Only one process works in a folder. The lock is released when its process ends, also when killed.

    Raises BusyError.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with locked(run_dir):
            yield
    except Timeout as error:
        raise BusyError(
            f"another process is at work in {run_dir}; wait for it, or choose another hydra.run.dir"
        ) from error


def _other_jobs(cfg: AppConfig, context: Context, contents: dict[str, str]) -> OtherJobs:
    """What the jobs of the sweep that have no result yet share with this one."""

    def is_open(job: AppConfig) -> bool:
        return find_finished(identity(job, contents)) is None

    return OtherJobs(
        tuple(other for other in context.hookpoints if is_open(replace(cfg, hookpoint=other))),
        tuple(other for other in context.trainings if is_open(replace(cfg, sae=other))),
        context.together,
    )


def _prepare(cfg: AppConfig, others: OtherJobs) -> "Prepared":
    # Imported here: torch and transformers take seconds, and a finished result needs neither.
    with phase("load torch and transformers"):
        from saescope.jobs.pipeline import prepare

    return prepare(cfg, others)


def _tracker(cfg: AppConfig, context: Context, run_id: str = "") -> Tracker:
    return open_tracker(
        cfg.tracking,
        run_dir=context.run_dir,
        group=context.group,
        job_type="measure",
        notes=" ".join(context.overrides),
        config=cfg.as_dict(),
        data_dir=context.data_dir,
        identity=run_id,
    )


def _measure(cfg: AppConfig, context: Context, run_id: str, prepared: "Prepared", tracker: Tracker) -> None:
    """Write every data file of the run folder, then that they are complete."""
    from saescope.jobs.pipeline import measure

    results = measure(cfg, prepared, context.run_dir, tracker)
    write_measured(
        context.run_dir,
        run_id,
        notes=results.notes,
        warnings=results.warnings,
        left_out=plain(results.left_out),
        overrides=list(context.overrides),
    )


def _complete(context: Context, run_id: str, tracker: Tracker) -> Outcome:
    """Pages, status and W&B of a run folder that has every data file, from these files alone."""
    from saescope.report.page import write_report
    from saescope.tracking.job_run import begin_logging, log_run, remember_run

    result = status_of(context.run_dir)
    remove_partials(context.run_dir)
    with phase("write the report"):
        write_tracking(context.run_dir, tracker.info())  # of this attempt; an earlier one may have written it
        write_report(context.run_dir)

    # The result is complete before W&B gets it: what interrupts the upload costs no measurement.
    begin_logging(context.run_dir, tracker)
    write_status(
        context.run_dir,
        "ok",
        identity=run_id,
        notes=result.get("notes", {}),
        warnings=result.get("warnings", []),
        left_out=result.get("left_out", []),
        overrides=list(context.overrides),
    )
    remember(run_id, context.run_dir)
    log_run(read_run(context.run_dir), tracker)
    info = tracker.info()
    tracker.finish()
    if tracker.run is not None and not tracker.lost:
        remember_run(info, context.run_dir)
    _note_lost(context.run_dir, tracker.lost)
    return Outcome(context.run_dir, "ok")


def _note_lost(run_dir: Path, lost: Sequence[str]) -> None:
    """Have status and page of a finished run say what W&B did not take, in place of an earlier attempt's."""
    from saescope.jobs.left_out import of_tracking
    from saescope.report.page import write_report

    run = read_run(run_dir)
    warnings = [text for text in run.warnings if not text.startswith("W&B ")] + list(lost)
    left_out = [record for record in run.left_out if record.what != WANDB_MEDIA] + of_tracking(lost)
    if (warnings, left_out) == (run.warnings, run.left_out):
        return
    try:
        write_status(run_dir, **{**run.status, "warnings": warnings, "left_out": plain(left_out)})
        write_report(run_dir, latents=False)
    except (OSError, SaescopeError) as error:  # no reason to call a finished result failed
        log.warning("%s does not say what W&B did not take: %s", run_dir, line(str(error)))


def _track_failure(error: str, tracker: Tracker, context: Context) -> None:
    """Close the W&B run of a job that failed: its error, its log as far as it got, where the run is."""
    tracker.finish(error, context.run_dir / LOG)
    if tracker.run is None:
        return
    try:
        if status_of(context.run_dir).get("state") != "ok":
            write_tracking(context.run_dir, tracker.info())
        _upload_script(context)
    except OSError as problem:  # the failure itself is told
        if problem.errno in FULL:
            tracker.discard()


def _upload_script(context: Context) -> None:
    """`sync.sh` of a single job that was tracked offline; that of a sweep is written after its last job."""
    if context.data_dir.resolve() != context.run_dir.resolve():
        return
    from saescope.tracking.sync_script import write_sync

    try:
        write_sync(context.run_dir)
    except OSError as error:
        log.warning("no upload script: %s", error)


def _contents(cfg: AppConfig) -> dict[str, str]:
    """Digests of local inputs and commits of datasets: after an edit of a file the job is another one."""
    inputs = {key: Path(name).expanduser() for key, name in cfg.inputs().items()}
    local = {key: path for key, path in inputs.items() if path.exists()}
    origins = open_probes(cfg.probes).origins | local
    files = {key: value for key, value in origins.items() if isinstance(value, Path)}
    named = {key: value for key, value in origins.items() if not isinstance(value, Path)}
    return named | digests(files)


def _refuse_overwrite(run_dir: Path, cfg: AppConfig) -> None:
    if status_of(run_dir).get("state") == "ok" and not cfg.force:
        raise ConfigError(
            f"{run_dir} holds the finished result of another config; "
            "choose another hydra.run.dir (of a sweep: hydra.sweep.dir), or force=true to replace it"
        )
