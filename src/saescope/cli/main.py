"""`saescope`: one job, or a sweep with -m. Compose, validate, convert, run, exit code."""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from saescope.cli.command import Command, command, new_command, signals
from saescope.cli.command_line import arguments, read, task_overrides, this_job, version
from saescope.cli.siblings import with_other_jobs
from saescope.cli.submitted import cancelled
from saescope.cli.sweep import finish, group_of
from saescope.config import config_dir
from saescope.config.compose import HYDRA_ERRORS, PLUGINS, in_one_line
from saescope.errors import ConfigError, line
from saescope.files import write_text
from saescope.jobs.job import Context, Outcome, failed, message_of, run_job
from saescope.runfolder.names import HYDRA_CONFIG, HYDRA_SETTINGS, LOG, OVERRIDES
from saescope.runfolder.outcomes import JobOutcome, write_outcome
from saescope.runtime.gpus import own_gpu
from saescope.runtime.meter import about
from saescope.version import __version__

log = logging.getLogger(__name__)

GO_ON = "the same command goes on: finished jobs are found again"

# Libraries whose log lines would hide ours; their warnings and errors are still shown.
QUIET = (
    "hydra", "lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub", "matplotlib", "fsspec",
    "datasets",
)  # fmt: skip


def main() -> int:
    """`saescope [overrides]`, `saescope -m axis=a,b`. Returns the exit code."""
    # Hydra then raises its errors here instead of printing several lines and leaving.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    this = new_command()
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(_help(), end="")
        return 0
    if "--version" in sys.argv[1:]:
        print(version())
        return 0
    with signals():
        try:
            _run(this)
            if this.sweep is not None:
                finish(this.sweep)
        except KeyboardInterrupt:  # a second time, while the table is written
            this.signal = this.signal or signal.SIGINT
    if this.signal == signal.SIGTERM and this.sweep is None:  # whoever sent it sees that it worked
        sys.stdout.flush()
        signal.raise_signal(signal.SIGTERM)
    if this.signal:
        return 128 + this.signal
    return 1 if this.failures else 0


def _run(this: Command) -> None:
    """The job or the jobs. What ends them early is a line; the table of a sweep is written all the same."""
    try:
        read_line = read(sys.argv[1:])
        this.num_jobs, this.axes = read_line.num_jobs, read_line.axes
        with arguments(read_line.words):
            _job()
    except Exception as error:  # of composing or launching; a job catches its own errors
        if os.environ.get("SAESCOPE_DEBUG"):
            traceback.print_exception(error)
        launcher = next((word for word in sys.argv if word.startswith("hydra/launcher=")), "")
        if "float-castable" in str(error):  # of Optuna's sweeper, which ends at a job without a value
            this.fail(f"the search ends here: this job has no value of its objective; {GO_ON}")
        elif isinstance(error, HYDRA_ERRORS):
            this.fail(line(in_one_line(error)))
        elif isinstance(error, RuntimeError) and "slurm" in launcher:  # of submitit, without a cluster
            there = "start it where srun and sbatch are, or try hydra/launcher=slurm_local"
            this.fail(line(f"{launcher}: {error}; {there}"))
        else:
            this.fail(message_of(error, Path())[0])
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not this.signal:  # of --info and the like
            if this.sweep is None:
                raise
            this.fail(f"a job left with exit code {stop.code}; {GO_ON}")  # a library in it did
            return
        this.signal = this.signal or signal.SIGINT
        words = ["interrupted", *cancelled(stop), *([] if this.sweep is None else [GO_ON])]
        print(f"saescope: {'; '.join(words)}", file=sys.stderr)


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
def _job(values: DictConfig) -> float | None:
    """What Hydra calls. Launchers copy it by value, with copies of the globals it uses: so it uses none."""
    return _run_job(values)


def _run_job(values: DictConfig) -> float | None:
    """One job. Errors are recorded, not raised, so that the other jobs of a sweep go on.

    Returns the metric `objective`, for a sweeper that searches.
    """
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    outcomes = command().job_outcomes
    handlers: list[logging.Handler] = []
    context = _context(values, handlers)
    job = JobOutcome(
        HydraConfig.get().job.num if outcomes is not None else 0,
        str(context.run_dir.absolute()),
        context.overrides,
        OmegaConf.to_yaml(values),
    )
    if outcomes is not None:
        write_outcome(outcomes, job)
    objective = None
    started = time.monotonic()
    try:
        cfg, overrides = this_job(values)
        objective = cfg.objective
        _check_sweep(objective)
        context, job = replace(context, overrides=overrides), replace(job, overrides=overrides)
        context = with_other_jobs(context, cfg)
        log.info("%s", _first_line(overrides))
        outcome = run_job(cfg, context)
    except Exception as error:
        outcome = failed(error, context)
    finally:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
    if outcomes is not None:
        ended = replace(
            job,
            state=outcome.state,
            error=outcome.error or "",
            untouched=outcome.untouched,
            refused=outcome.refused,
        )
        if outcomes.is_dir():  # else the command has ended without this job and has removed it
            write_outcome(outcomes, ended)
    _report(outcome, time.monotonic() - started)
    return outcome.metrics.get(objective) if objective else None


def _first_line(overrides: Sequence[str]) -> str:
    """What starts, before anything slow is imported; in a sweep also how far it is."""
    words = " ".join(overrides)
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return f"saescope {__version__}: {words or 'the default job'}"
    before, num_jobs = int(HydraConfig.get().job.num), command().num_jobs
    # only where the jobs run one after the other in this process does their time say when the last one ends
    left = None
    if before and num_jobs is not None and command().sweep is not None:
        left = (time.monotonic() - command().started) / before * (num_jobs - before)
    eta = f", about {about(left)} left" if left is not None else ""
    return f"{_name_in_sweep()}{eta}: {words}"


def _name_in_sweep() -> str:
    number, num_jobs = int(HydraConfig.get().job.num) + 1, command().num_jobs
    return f"job {number}" if num_jobs is None else f"job {number} of {num_jobs}"


def _context(values: DictConfig, handlers: list[logging.Handler]) -> Context:
    """Folders, group and overrides of this job, from Hydra. The handler of its log is added to `handlers`."""
    hydra_cfg = HydraConfig.get()
    run_dir = Path(hydra_cfg.runtime.output_dir)
    overrides = task_overrides()
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
            first = (log.name, logging.INFO, __file__, 0, "%s", (_first_line(overrides),), None)
            handlers[0].handle(log.makeRecord(*first))  # it was printed before the folder was this job's

    if hydra_cfg.mode != RunMode.MULTIRUN:
        return Context(run_dir, run_dir, None, overrides, take_over)
    sweep_dir = Path(hydra_cfg.sweep.dir)
    preset = hydra_cfg.runtime.choices.get("sweep") or "none"
    return Context(run_dir, sweep_dir, group_of(sweep_dir, preset), overrides, take_over)


def _check_sweep(objective: str | None) -> None:
    """Presets need -m, a search an objective; a job of a sweep has its folder, and side by side a GPU."""
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode != RunMode.MULTIRUN:
        preset = hydra_cfg.runtime.choices.get("sweep") or "none"
        if preset != "none":
            raise ConfigError(f"sweep={preset} runs several jobs: put -m first, saescope -m sweep={preset} …")
        return
    if message := command().no_folder:
        raise ConfigError(message)
    sweeper = hydra_cfg.runtime.choices.get("hydra/sweeper")
    if f"hydra/sweeper={sweeper}" in PLUGINS and objective is None:
        raise ConfigError(f"hydra/sweeper={sweeper} needs a metric to search by: objective=si/excess")
    if hydra_cfg.runtime.choices.get("hydra/launcher") == "parallel":
        own_gpu(hydra_cfg.job.num)


def _report(outcome: Outcome, seconds: float) -> None:
    if outcome.state == "failed":
        command().fail(outcome.error or "failed")
        return
    from saescope.cli.console import print_job, print_run

    if HydraConfig.get().mode == RunMode.MULTIRUN:  # the table comes after the last job
        print_job(_name_in_sweep(), seconds, outcome.run_dir, outcome.reused_from)
        return
    print_run(outcome.run_dir, outcome.reused_from)
