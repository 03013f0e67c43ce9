"""`saescope`: one job, or a sweep with -m. Compose, validate, convert, run, exit code."""

import logging
import os
import secrets
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from saescope.config import TrackingConfig, config_dir, from_mapping
from saescope.config.compose import HYDRA_ERRORS, in_one_line, plain, to_config
from saescope.errors import ConfigError, line
from saescope.files import write_text
from saescope.jobs.job import Context, Outcome, failed, message_of, run_job
from saescope.runfolder.names import HYDRA_CONFIG, HYDRA_SETTINGS, LOG, OUTCOMES, OVERRIDES
from saescope.runfolder.outcomes import JobOutcome, read_outcomes, write_outcome
from saescope.runtime.gpus import own_gpu

GO_ON = "the same command goes on: finished jobs are found again"


@dataclass
class Command:
    """What is known of the command in this process; a job in another process has its own."""

    failures: list[str] = field(default_factory=list)
    """One line per failed job of this process, and what ended the command itself."""
    process: int = field(default_factory=os.getpid)
    sweep: DictConfig | None = None
    """Configuration of the sweep, in the process that started it; None for a single job."""
    id: str = ""
    """Of the sweep's command: its jobs leave their outcomes in a folder of this name."""
    job_outcomes: Path | None = None
    """That folder, while a job of a sweep runs in this process."""
    signal: int = 0
    """The signal that interrupted the command."""


_command = Command()

# Libraries whose log lines would hide ours; their warnings and errors are still shown.
QUIET = (
    "lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub", "matplotlib", "fsspec", "datasets",
)  # fmt: skip


def main() -> int:
    """`saescope [overrides]`, `saescope -m axis=a,b`. Returns the exit code."""
    # Hydra then raises its errors here instead of printing several lines and leaving.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    global _command
    _command = Command()
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(_help(), end="")
        return 0
    with _signals():
        try:
            _run()
            if _command.sweep is not None:
                _finish(_command.sweep)
        except KeyboardInterrupt:  # a second time, while the table is written
            return 128 + (_command.signal or signal.SIGINT)
    if _command.signal:
        return 128 + _command.signal
    return 1 if _command.failures else 0


def _run() -> None:
    """The job or the jobs. What ends them early is a line; the table of a sweep is written all the same."""
    try:
        _job()
    except Exception as error:  # of composing or launching; a job catches its own errors
        if isinstance(error, HYDRA_ERRORS):
            message = line(in_one_line(error))
        else:
            message, _ = message_of(error, Path())
        if os.environ.get("SAESCOPE_DEBUG"):
            traceback.print_exception(error)
        _command.failures.append(message)
        print(f"saescope: {message}", file=sys.stderr)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, KeyboardInterrupt):
            _command.signal = _command.signal or signal.SIGINT
        elif not _command.signal:  # of --info and the like, or of a library in a job
            if _command.sweep is None:
                raise
            _command.failures.append(f"a job left with exit code {stop.code}")
            print(f"saescope: {_command.failures[-1]}", file=sys.stderr)
            return
        more = "" if _command.sweep is None else f"; {GO_ON}"
        print(f"saescope: interrupted{more}", file=sys.stderr)


@contextmanager
def _signals() -> Iterator[None]:
    """Remember which signal interrupts the command: Lightning turns Ctrl-C into an exit with code 1.

    SIGTERM ends a single job as usual, and a sweep as Ctrl-C does (`SweepCallback`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGINT] is signal.default_int_handler:  # not where a shell ignores it in the background
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    if os.getpid() != _command.process:  # a forked helper process ends as if we were not here
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        return
    _command.signal = number
    raise KeyboardInterrupt


def _help() -> str:
    """What Hydra prints for a bare --help, in half the time: Hydra composes everything for every group."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        composed = compose("config", return_hydra_config=True)
    folders = sorted(path for path in Path(config_dir()).iterdir() if path.is_dir() and path.name != "hydra")
    options = {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}
    values = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    text = Template(composed.hydra.help.template).substitute(
        APP_CONFIG_GROUPS="".join(f"{name}: {', '.join(names)}\n" for name, names in options.items()),
        CONFIG=OmegaConf.to_yaml(values),
    )
    return f"{text}\n"


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="config")
def _job(values: DictConfig) -> None:
    """What Hydra calls. Launchers copy it by value, with copies of the globals it uses: so it uses none."""
    _run_job(values)


def _run_job(values: DictConfig) -> None:
    """One job. Errors are recorded, not raised, so that the other jobs of a sweep go on."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    handlers: list[logging.Handler] = []
    context = _context(values, handlers)
    job = JobOutcome(
        HydraConfig.get().job.num if _command.job_outcomes is not None else 0,
        str(context.run_dir.absolute()),
        context.overrides,
        OmegaConf.to_yaml(values),
    )
    if _command.job_outcomes is not None:
        write_outcome(_command.job_outcomes, job)
    try:
        _check_sweep()
        outcome = run_job(to_config(values), context)
    except Exception as error:
        outcome = failed(error, context)
    finally:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
    if _command.job_outcomes is not None:
        ended = replace(job, state=outcome.state, error=outcome.error or "", untouched=outcome.untouched)
        write_outcome(_command.job_outcomes, ended)
    _report(outcome)


class SweepCallback(Callback):
    """Tells every job of a multirun, in whatever process it runs, where to leave its outcome."""

    def __init__(self) -> None:
        self.command = ""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """In the process of the command. Launchers copy this object to the processes of the jobs."""
        self.command = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        _command.sweep, _command.id = config, self.command
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """In the process of a job, before it."""
        folder = Path(config.hydra.sweep.dir).absolute() / OUTCOMES / self.command
        _command.job_outcomes = folder if self.command else None


def _finish(config: DictConfig) -> None:
    """What follows the jobs of a sweep: table, page, W&B, upload script, and the failed jobs by name."""
    from saescope.cli.console import print_sweep
    from saescope.jobs.sweep import finish_sweep
    from saescope.runfolder.outcomes import runs_of

    try:
        sweep_dir = Path(config.hydra.sweep.dir)
    except HYDRA_ERRORS:  # then no job has started, and Hydra said so
        return
    try:
        tracking = from_mapping(TrackingConfig, plain(config.tracking))
    except HYDRA_ERRORS:  # every job has failed with it; their table is written all the same
        tracking = TrackingConfig("disabled")
    command = sweep_dir / OUTCOMES / _command.id
    outcomes = read_outcomes(command)
    if not outcomes:  # refused before its first job
        return
    runs, own = runs_of(sweep_dir, outcomes)
    group = _group(sweep_dir, config.hydra.runtime.choices.get("sweep") or "none")
    summary = finish_sweep(sweep_dir, tracking, group, runs, interrupted=bool(_command.signal))
    _command.failures += print_sweep(sweep_dir, summary, runs, own)
    _command.failures += [outcome.error for outcome in outcomes if outcome.state != "ok"]
    shutil.rmtree(command, ignore_errors=True)
    with suppress(OSError):  # another command's are there
        command.parent.rmdir()


def _group(sweep_dir: Path, preset: str) -> str:
    """Name of the group of a sweep's runs, in W&B too."""
    return f"{preset if preset != 'none' else 'sweep'}-{'-'.join(sweep_dir.parts[-2:])}"


def _context(values: DictConfig, handlers: list[logging.Handler]) -> Context:
    """Folders, group and overrides of this job, from Hydra. The handler of its log is added to `handlers`."""
    hydra_cfg = HydraConfig.get()
    run_dir = Path(hydra_cfg.runtime.output_dir)
    overrides = tuple(hydra_cfg.overrides.task)
    record = {
        HYDRA_CONFIG: OmegaConf.to_yaml(values),
        HYDRA_SETTINGS: OmegaConf.to_yaml(HydraConfig.instance().cfg),
        OVERRIDES: OmegaConf.to_yaml(hydra_cfg.overrides.task),
    }

    def take_over() -> None:
        for name, text in record.items():
            write_text(run_dir / name, text)
        if not handlers:
            handlers.append(logging.FileHandler(run_dir / LOG, encoding="utf-8"))
            handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
            logging.getLogger().addHandler(handlers[0])

    if hydra_cfg.mode != RunMode.MULTIRUN:
        return Context(run_dir, run_dir, None, overrides, take_over)
    sweep_dir = Path(hydra_cfg.sweep.dir)
    preset = hydra_cfg.runtime.choices.get("sweep") or "none"
    return Context(run_dir, sweep_dir, _group(sweep_dir, preset), overrides, take_over)


def _check_sweep() -> None:
    """A preset's axes do nothing without -m; jobs side by side get a GPU each."""
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode != RunMode.MULTIRUN:
        preset = hydra_cfg.runtime.choices.get("sweep") or "none"
        if preset != "none":
            raise ConfigError(f"sweep={preset} runs several jobs: put -m first, saescope -m sweep={preset} …")
    elif hydra_cfg.runtime.choices.get("hydra/launcher") == "parallel":
        own_gpu(hydra_cfg.job.num)


def _report(outcome: Outcome) -> None:
    if outcome.state == "failed":
        _command.failures.append(outcome.error or "failed")
        print(f"saescope: {outcome.error}", file=sys.stderr)
        return
    from saescope.cli.console import print_run

    print_run(outcome.run_dir, outcome.reused_from)
