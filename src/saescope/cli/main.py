"""`saescope`: one job, or a sweep with -m. Compose, validate, convert, run, exit code."""

import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from saescope.cli.command_line import arguments, read, this_job, version
from saescope.config import TrackingConfig, config_dir, from_mapping
from saescope.config.compose import HYDRA_ERRORS, PLUGINS, in_one_line, plain
from saescope.errors import ConfigError, SaescopeError, line
from saescope.jobs.job import Context, Outcome, failed, run_job
from saescope.runtime.gpus import own_gpu
from saescope.runtime.meter import about
from saescope.version import __version__

log = logging.getLogger(__name__)

_failures: list[str] = []
"""One line per failed job of this command."""
_num_jobs: int | None = None
"""Jobs of this command's sweep, where they run one after the other in this process."""
_started = time.monotonic()

# Libraries whose log lines would hide ours; their warnings and errors are still shown.
QUIET = (
    "hydra", "lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub", "matplotlib", "fsspec",
    "datasets",
)  # fmt: skip


def main() -> int:
    """`saescope [overrides]`, `saescope -m axis=a,b`. Returns the exit code."""
    # Hydra then raises its errors here instead of printing several lines and leaving.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _failures.clear()
    try:
        if sys.argv[1:] in (["--help"], ["-h"]):
            print(_help(), end="")
            return 0
        if "--version" in sys.argv[1:]:
            print(version())
            return 0
        command = read(sys.argv[1:])
        global _num_jobs, _started
        _num_jobs, _started = command.num_jobs, time.monotonic()
        with arguments(command.words):
            _job()
    except HYDRA_ERRORS as error:  # of composing; a job catches its own errors
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        _failures.append(line(in_one_line(error)))
        print(f"saescope: {_failures[-1]}", file=sys.stderr)
    except RuntimeError as error:  # of submitit, where there is no Slurm or it refuses the job
        launcher = next((word for word in sys.argv if word.startswith("hydra/launcher=")), "")
        if os.environ.get("SAESCOPE_DEBUG") or "slurm" not in launcher:
            raise
        _failures.append(
            line(
                f"{launcher}: {error}; start it where srun and sbatch are, or try hydra/launcher=slurm_local"
            )
        )
        print(f"saescope: {_failures[-1]}", file=sys.stderr)
    except KeyboardInterrupt:
        print("saescope: interrupted", file=sys.stderr)
        return 130
    return 1 if _failures else 0


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
    """One job. Errors are recorded, not raised, so that the other jobs of a sweep go on.

    Returns the metric `objective`, for a sweeper that searches.
    """
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    context = _context()
    objective = None
    try:
        cfg, overrides = this_job(values)
        objective = cfg.objective
        _check_sweep(objective)
        context = replace(context, overrides=overrides)
        log.info("%s", _first_line(context))
        outcome = run_job(cfg, context)
    except SaescopeError as error:
        outcome = failed(error, context)
    _report(outcome)
    return outcome.metrics.get(objective) if objective else None


def _first_line(context: Context) -> str:
    """What starts, before anything slow is imported; in a sweep also how far it is."""
    hydra_cfg = HydraConfig.get()
    overrides = " ".join(context.overrides)
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return f"saescope {__version__}: {overrides or 'the default job'}"
    before = int(hydra_cfg.job.num)
    if _num_jobs is None:
        return f"job {before + 1}: {overrides}"
    left = (time.monotonic() - _started) / before * (_num_jobs - before) if before else None
    eta = f", about {about(left)} left" if left is not None else ""
    return f"job {before + 1} of {_num_jobs}{eta}: {overrides}"


class SweepEnd(Callback):
    """After a multirun: the table and page of the sweep, and the failed jobs by name."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Jobs may have run in other processes, so their folders are read."""
        from saescope.cli.console import print_sweep
        from saescope.jobs.sweep import finish_sweep

        sweep_dir = Path(config.hydra.sweep.dir)
        preset = config.hydra.runtime.choices.get("sweep") or "none"
        tracking = from_mapping(TrackingConfig, plain(config.tracking))
        summary = finish_sweep(sweep_dir, tracking, _group(sweep_dir, preset))
        _failures[:] = print_sweep(sweep_dir, summary)


def _group(sweep_dir: Path, preset: str) -> str:
    """Name of the group of a sweep's runs, in W&B too."""
    return f"{preset if preset != 'none' else 'sweep'}-{'-'.join(sweep_dir.parts[-2:])}"


def _context() -> Context:
    """Folders, group and overrides of this job, from Hydra."""
    hydra_cfg = HydraConfig.get()
    run_dir = Path(hydra_cfg.runtime.output_dir)
    overrides = tuple(hydra_cfg.overrides.task)
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return Context(run_dir, run_dir, None, overrides)
    sweep_dir = Path(hydra_cfg.sweep.dir)
    preset = hydra_cfg.runtime.choices.get("sweep") or "none"
    return Context(run_dir, sweep_dir, _group(sweep_dir, preset), overrides)


def _check_sweep(objective: str | None) -> None:
    """Presets do nothing without -m, a search needs an objective, and jobs side by side get a GPU each."""
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode != RunMode.MULTIRUN:
        preset = hydra_cfg.runtime.choices.get("sweep") or "none"
        if preset != "none":
            raise ConfigError(f"sweep={preset} runs several jobs: put -m first, saescope -m sweep={preset} …")
        return
    sweeper = hydra_cfg.runtime.choices.get("hydra/sweeper")
    if f"hydra/sweeper={sweeper}" in PLUGINS and objective is None:
        raise ConfigError(f"hydra/sweeper={sweeper} needs a metric to search by: objective=si/excess")
    if hydra_cfg.runtime.choices.get("hydra/launcher") == "parallel":
        own_gpu(hydra_cfg.job.num)


def _report(outcome: Outcome) -> None:
    if outcome.state == "failed":
        _failures.append(outcome.error or "failed")
        print(f"saescope: {outcome.error}", file=sys.stderr)
        return
    from saescope.cli.console import print_run

    print_run(outcome.run_dir, outcome.reused_from)
