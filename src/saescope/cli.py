"""The command line. The only file that imports hydra: compose, validate, convert, run, exit code."""

import dataclasses
import logging
import os
import re
import sys
import typing
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from saescope.config import AppConfig, config_dir, from_mapping
from saescope.errors import SaescopeError, choices, nearest
from saescope.jobs import Context, Outcome, failed, run_job

log = logging.getLogger(__name__)

_failures: list[str] = []
"""One line per failed job of this command."""

# Libraries whose chatter would bury ours; their warnings and errors still come through.
QUIET = (
    "lightning.pytorch",
    "lightning.fabric",
    "httpx",
    "huggingface_hub",
    "matplotlib",
    "fsspec",
    "datasets",
)


def main() -> int:
    """`saescope [overrides]`, `saescope -m axis=a,b`. Returns the exit code."""
    # Hydra then raises its errors here instead of printing several lines and leaving.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _failures.clear()
    try:
        _job()
    except (HydraException, OmegaConfBaseException) as error:
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        _failures.append(_one_line(error))
        print(f"saescope: {_failures[-1]}", file=sys.stderr)
    except KeyboardInterrupt:
        print("saescope: interrupted", file=sys.stderr)
        return 130
    return 1 if _failures else 0


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="config")
def _job(values: DictConfig) -> None:
    """One job. Errors are recorded, not raised, so that the other jobs of a sweep go on."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    context = _context()
    try:
        plain = OmegaConf.to_container(values, resolve=True)
        outcome = run_job(from_mapping(AppConfig, typing.cast(dict[str, Any], plain)), context)
    except SaescopeError as error:
        outcome = failed(error, context)
    _report(outcome)


class SweepEnd(Callback):
    """After a multirun: the jobs in one table, and the failed ones by name."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Jobs may have run in other processes, so their folders are read."""
        from saescope.console import print_sweep

        found = print_sweep(Path(config.hydra.sweep.dir))
        _failures[:] = found


def _context() -> Context:
    """Folders, group and overrides of this job, from Hydra."""
    hydra_cfg = HydraConfig.get()
    run_dir = Path(hydra_cfg.runtime.output_dir)
    overrides = tuple(hydra_cfg.overrides.task)
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return Context(run_dir, run_dir, None, overrides)
    sweep_dir = Path(hydra_cfg.sweep.dir)
    preset = hydra_cfg.runtime.choices.get("sweep") or "none"
    name = preset if preset != "none" else "sweep"
    return Context(run_dir, sweep_dir, f"{name}-{'-'.join(sweep_dir.parts[-2:])}", overrides)


def _report(outcome: Outcome) -> None:
    if outcome.state == "failed":
        _failures.append(outcome.error or "failed")
        print(f"saescope: {outcome.error}", file=sys.stderr)
        return
    from saescope.console import print_run

    print_run(outcome.run_dir, outcome.reused_from)


def _one_line(error: Exception) -> str:
    """Hydra's composition errors in one line, with the valid names."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        valid = [name for name in error.options if name]
        return f"{group}={option} is not known: {nearest(option, valid)}valid: {choices(valid)}"
    text = " ".join(str(error).split())
    match = re.search(r"[Cc]ould not override '([^']+)'", text)
    if isinstance(error, ConfigCompositionException) and match:
        key = match[1].split("@")[0]
        parent, _, last = key.rpartition(".")
        keys = list(_keys(AppConfig))
        if key in keys:
            return f"'{key}' does not apply to the chosen option of '{parent}'; see conf/{parent}/"
        siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
        if siblings and not key.startswith("hydra"):
            return (
                f"unknown key '{key}': {nearest(last, siblings)}"
                f"valid under '{parent or 'the top level'}': {choices(siblings)}"
            )
        return f"unknown key '{key}': {nearest(key, keys)}`saescope --cfg job` prints all keys"
    return f"{text.removesuffix('.')}; write overrides as key=value, see `saescope --help`"


def _keys(kind: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields, groups included."""
    out: list[str] = []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        out.append(prefix + field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            out += _keys(hints[field.name], f"{prefix}{field.name}.")
    return out
