"""A sweep as Hydra runs it: where its jobs leave their outcomes, and what follows the last of them."""

import copy
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from saescope.cli.command import command, end_on_sigterm
from saescope.config import TrackingConfig, from_mapping
from saescope.config.compose import HYDRA_ERRORS, in_one_line, plain
from saescope.errors import line
from saescope.runfolder.names import OUTCOMES
from saescope.runfolder.outcomes import begin, end, read_outcomes, runs_of
from saescope.runfolder.status import mark_refused

SUBDIR = "hydra.sweep.subdir"
DEFAULT_SUBDIR = "${hydra.job.num}"


class SweepCallback(Callback):
    """Tells every job of a multirun, in whatever process it runs, where to leave its outcome."""

    def __init__(self) -> None:
        self.id = ""
        self.num_jobs: int | None = None
        self.axes: Mapping[str, list[str]] = {}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """In the process of the command. Launchers copy this object to the processes of the jobs."""
        self.id = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        self.num_jobs, self.axes = command().num_jobs, command().axes
        command().sweep, command().id = config, self.id
        with suppress(*HYDRA_ERRORS):  # of a folder that no job will have: the jobs say so
            command().running = begin(_outcomes(config, self.id))
        end_on_sigterm()
        _guard_subdir(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """In the process of a job, before it."""
        command().job_outcomes = _outcomes(config, self.id) if self.id else None
        command().num_jobs, command().axes = self.num_jobs, self.axes


def _outcomes(config: DictConfig, command_id: str) -> Path:
    return Path(config.hydra.sweep.dir).absolute() / OUTCOMES / command_id


def _guard_subdir(config: DictConfig) -> None:
    """Let `_subdir` resolve `hydra.sweep.subdir`, given on the command line or by a file.

    Hydra resolves it before it calls the job: a pattern without a value for one job would end the sweep.
    """
    given = config.hydra.overrides.hydra
    texts = cast(list[str], OmegaConf.to_container(given, resolve=False))  # they hold interpolations
    overrides = {
        override.key_or_group: at
        for at, override in enumerate(OverridesParser.create().parse_overrides(texts))
    }
    pattern = cast(dict[str, Any], OmegaConf.to_container(config.hydra.sweep, resolve=False))["subdir"]
    guarded = f"{SUBDIR}=${{saescope_subdir:x{str(pattern).encode().hex()}}}"
    with read_write(config.hydra):
        if SUBDIR in overrides:
            given[overrides[SUBDIR]] = guarded
        elif pattern != DEFAULT_SUBDIR:
            given.append(guarded)


def _subdir(encoded: str, *, _root_: DictConfig) -> str:
    """Folder of a job below that of the sweep, created; `hydra.job.num` where the pattern names none.

    `command().no_folder` then says why, and the job fails with it.
    """
    command().no_folder = ""
    values = copy.deepcopy(_root_)
    try:
        with read_write(values.hydra), open_dict(values.hydra):
            values.hydra.sweep.subdir = bytes.fromhex(encoded[1:]).decode()
        name = str(values.hydra.sweep.subdir)
        (Path(values.hydra.sweep.dir) / name).mkdir(parents=True, exist_ok=True)
    except HYDRA_ERRORS as error:
        command().no_folder = line(f"{SUBDIR}: {in_one_line(error)}")
        return str(_root_.hydra.job.num)
    return name


OmegaConf.register_new_resolver("saescope_subdir", _subdir, replace=True)


def finish(config: DictConfig) -> None:
    """What follows the jobs of a sweep: table, page, W&B, upload script, and the failed jobs by name."""
    from saescope.cli.console import print_sweep
    from saescope.jobs.sweep import finish_sweep

    try:
        sweep_dir = Path(config.hydra.sweep.dir)
    except HYDRA_ERRORS:  # then no job has started, and Hydra said so
        return
    try:
        tracking = from_mapping(TrackingConfig, plain(config.tracking))
    except HYDRA_ERRORS:  # every job has failed with it; their table is written all the same
        tracking = TrackingConfig("disabled")
    folder = _outcomes(config, command().id)
    outcomes = read_outcomes(folder)
    if not outcomes:  # refused before its first job
        end(folder)
        return
    runs, own = runs_of(sweep_dir, outcomes)
    group = group_of(sweep_dir, config.hydra.runtime.choices.get("sweep") or "none")
    # rows of earlier commands in this folder come on top of the jobs of this one
    planned = max(command().num_jobs or 0, len(outcomes)) + len(runs) - len(own)
    summary = finish_sweep(
        sweep_dir, tracking, group, runs, interrupted=bool(command().signal), planned=planned
    )
    command().failures += print_sweep(sweep_dir, summary, runs, own)
    command().failures += [outcome.error for outcome in outcomes if outcome.state != "ok"]
    if all(outcome.refused and not outcome.untouched for outcome in outcomes):
        for outcome in outcomes:
            mark_refused(Path(outcome.folder))
    end(folder)


def group_of(sweep_dir: Path, preset: str) -> str:
    """Name of the group of a sweep's runs, in W&B too."""
    return f"{preset if preset != 'none' else 'sweep'}-{'-'.join(sweep_dir.parts[-2:])}"
