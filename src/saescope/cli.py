"""The command line. The only file that imports hydra: compose, validate, convert, run, exit code."""

import dataclasses
import logging
import os
import re
import sys
import typing
from pathlib import Path
from string import Template
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from saescope.config import AppConfig, CoverageConfig, TrackingConfig, config_dir, from_mapping
from saescope.config.coverage import listed, override
from saescope.errors import ConfigError, SaescopeError, choices, line, nearest
from saescope.gpus import own_gpu
from saescope.jobs import Context, Outcome, failed, run_job

log = logging.getLogger(__name__)

_failures: list[str] = []
"""One line per failed job of this command."""

# Libraries whose chatter would bury ours; their warnings and errors still come through.
QUIET = (
    "lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub", "matplotlib", "fsspec", "datasets",
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
        _job()
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:  # jobs catch their own
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        _failures.append(line(_one_line(error)))
        print(f"saescope: {_failures[-1]}", file=sys.stderr)
    except KeyboardInterrupt:
        print("saescope: interrupted", file=sys.stderr)
        return 130
    return 1 if _failures else 0


def _help() -> str:
    """What Hydra prints for a bare --help in twice the time: it reads all configuration for every group."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        composed = compose("config", return_hydra_config=True)
    folders = sorted(path for path in Path(config_dir()).iterdir() if path.is_dir() and path.name != "hydra")
    options = {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}
    values = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    text = Template(composed.hydra.help.template).substitute(
        APP_CONFIG_GROUPS="".join(f"{name}: {', '.join(found)}\n" for name, found in options.items()),
        CONFIG=OmegaConf.to_yaml(values),
    )
    return f"{text}\n"


def coverage() -> int:
    """`saescope-coverage [overrides]`. Returns the exit code."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((Path(config_dir()) / "coverage.yaml").read_text(encoding="utf-8"), end="")
        return 0
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        with initialize_config_dir(config_dir(), version_base="1.3"):
            composed = compose("coverage", overrides=[override(arg) for arg in sys.argv[1:]])
        values = typing.cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        cfg = from_mapping(CoverageConfig, listed(values))
        # Imported here: rich and the tables are not needed to answer a mistake.
        from saescope.coverage.show import run

        run(cfg)
    except (HydraException, OmegaConfBaseException, SaescopeError) as error:
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        said = str(error) if isinstance(error, SaescopeError) else line(_one_line(error, CoverageConfig))
        print(f"saescope-coverage: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("saescope-coverage: interrupted", file=sys.stderr)
        return 130
    return 0


def report() -> int:
    """`saescope-report DIR... [--out DIR]`. Returns the exit code."""
    from argparse import ArgumentParser

    parser = ArgumentParser(
        "saescope-report",
        description="Rebuild sweep.csv, sweep.parquet and sweep.html from run folders, failed jobs included.",
    )
    parser.add_argument(
        "dirs", metavar="DIR", nargs="+", type=Path, help="run folder, sweep folder, or any folder above them"
    )
    parser.add_argument(
        "--out", type=Path, help="where to write (default: DIR; for several, sweep-report in this folder)"
    )
    parser.add_argument(
        "--overlap", action="store_true", help="compare the SAEs too (overlap.csv); large ones take minutes"
    )
    asked = parser.parse_args()
    out = asked.out or (asked.dirs[0] if len(asked.dirs) == 1 else Path("sweep-report"))
    try:
        # Imported here: pandas and the page are not needed to answer --help.
        from saescope.sweeps import rebuild

        summary = rebuild(asked.dirs, out, overlap=asked.overlap)
    except (SaescopeError, OSError) as error:
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        print(f"saescope-report: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("saescope-report: interrupted", file=sys.stderr)
        return 130
    for sentence in summary.sentences:
        print(f"• {sentence}")
    for lost in summary.failed:
        print(f"failed: {lost}")
    print(f"report:  {summary.paths[-1]}")
    return 0


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="config")
def _job(values: DictConfig) -> None:
    """One job. Errors are recorded, not raised, so that the other jobs of a sweep go on."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    context = _context()
    try:
        _check_sweep()
        plain = OmegaConf.to_container(values, resolve=True)
        outcome = run_job(from_mapping(AppConfig, typing.cast(dict[str, Any], plain)), context)
    except SaescopeError as error:
        outcome = failed(error, context)
    _report(outcome)


class SweepEnd(Callback):
    """After a multirun: the table and page of the sweep, and the failed jobs by name."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Jobs may have run in other processes, so their folders are read."""
        from saescope.console import print_sweep
        from saescope.sweeps import finish_sweep

        sweep_dir = Path(config.hydra.sweep.dir)
        values = typing.cast(dict[str, Any], OmegaConf.to_container(config.tracking, resolve=True))
        preset = config.hydra.runtime.choices.get("sweep") or "none"
        summary = finish_sweep(sweep_dir, from_mapping(TrackingConfig, values), _group(sweep_dir, preset))
        _failures[:] = print_sweep(sweep_dir, summary)


def _group(sweep_dir: Path, preset: str) -> str:
    """What the runs of a sweep share, in W&B too."""
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
        _failures.append(outcome.error or "failed")
        print(f"saescope: {outcome.error}", file=sys.stderr)
        return
    from saescope.console import print_run

    print_run(outcome.run_dir, outcome.reused_from)


def _one_line(error: Exception, root: type = AppConfig) -> str:
    """Hydra's composition errors in one line, with the valid names."""
    command = "saescope --cfg job" if root is AppConfig else "saescope-coverage --help"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        valid = [name for name in error.options if name]
        return f"{group}={option} is not known: {nearest(option, valid)}valid: {choices(valid)}"
    text = line(str(error))
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}; choose another hydra.run.dir or hydra.sweep.dir"
    match = re.search(r"[Cc]ould not override '([^']+)'", text)
    if isinstance(error, ConfigCompositionException) and match:
        key = match[1].split("@")[0]
        parent, _, last = key.rpartition(".")
        keys = list(_keys(root))
        if key in keys:
            return f"'{key}' does not apply to the chosen option of '{parent}'; see conf/{parent}/"
        siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
        if siblings and not key.startswith("hydra"):
            return (
                f"unknown key '{key}': {nearest(last, siblings)}"
                f"valid under '{parent or 'the top level'}': {choices(siblings)}"
            )
        return f"unknown key '{key}': {nearest(key, keys)}`{command}` prints all keys"
    return f"{text.removesuffix('.')}; write overrides as key=value, see `{command.split()[0]} --help`"


def _keys(kind: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields, groups included."""
    out: list[str] = []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        out.append(prefix + field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            out += _keys(hints[field.name], f"{prefix}{field.name}.")
    return out
