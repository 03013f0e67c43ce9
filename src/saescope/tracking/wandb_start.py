"""How a W&B run is started: online or offline, by us or by a W&B sweep agent.

An override (`tracking.project=…`) wins over W&B's own settings (`WANDB_*`, its settings files), and those
over our defaults.
"""

import logging
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from saescope import compat
from saescope.config import TrackingConfig
from saescope.runfolder.names import WANDB

log = logging.getLogger(__name__)

PROJECT = "saescope"
"""W&B project where neither an override nor W&B's own settings name one."""

_refused: dict[tuple[str | None, ...], str] = {}
"""Why W&B was not reached or refused a run, so that the next jobs of this process do not wait again."""


@dataclass(frozen=True)
class Start:
    """Settings of a run before it starts."""

    run_dir: Path
    group: str | None
    job_type: str
    notes: str
    config: dict[str, Any]
    run_id: str | None = None
    """W&B's id of the run; None: W&B, an agent or the user chooses."""


@dataclass(frozen=True)
class Destination:
    """Where a run goes; None is the account's default entity, or no group."""

    entity: str | None
    project: str
    group: str | None


@dataclass(frozen=True)
class Started:
    """A run, or why there is none."""

    run: Any
    mode: str
    reason: str = ""
    """Why it is not online, though it should be, or why there is none."""


def by_agent() -> bool:
    """Whether a W&B sweep agent runs this job; it then sets project, run id, group and name."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def own_name() -> str | None:
    """The name that `WANDB_NAME` or a settings file gives to the run."""
    name: str | None = _own().run_name
    return name


def chooses_id() -> bool:
    """Whether an agent or the user (`WANDB_RUN_ID`) says which id the run gets."""
    return by_agent() or bool(_own().run_id)


def log_folders(run_dir: Path) -> list[Path]:
    """Folders that hold the local logs of a job in `run_dir`."""
    own = os.environ.get("WANDB_DIR")
    return [run_dir / WANDB, *([Path(own) / WANDB] if own else [])]


def destination(cfg: TrackingConfig, group: str | None) -> Destination:
    """Where a run goes; `group` is our own name for it."""
    own = _own()
    return Destination(
        cfg.entity or own.entity or None,
        cfg.project or own.project or PROJECT,
        cfg.group or own.run_group or group,
    )


def mode_of(cfg: TrackingConfig) -> str:
    """`online`, `offline` or `disabled`.

    With `tracking.mode=wandb` W&B's own setting decides, then whether there is a login.
    """
    _renew_service()
    if not os.environ.get("WANDB_MODE", "x"):
        del os.environ["WANDB_MODE"]
    if cfg.mode != "wandb":
        return cfg.mode
    own = _own()
    if own.mode in ("offline", "dryrun"):
        return "offline"
    if own.mode == "disabled":
        return "disabled"
    if (own.base_url,) in _refused:
        return "offline"
    wandb = _client()
    try:
        logged_in = bool(wandb.login(prompt=False))
    except Exception as error:
        _refused[(own.base_url,)] = _in_one_line(error)
        logged_in = False
    return "online" if logged_in else "offline"


def start(cfg: TrackingConfig, mode: str, settings: Start) -> Started:
    """Start the run, offline where W&B refuses it online; without a run after a warning."""
    place = destination(cfg, settings.group)
    server = _own().base_url
    key = (server, place.entity, place.project)
    reason = _refused.get((server,), "") if cfg.mode == "wandb" else ""
    if mode == "online":
        try:
            reason = _refused.get(key, "")
            if not reason:
                return Started(_init(cfg, place, "online", settings), "online")
        except Exception as error:
            reason = _in_one_line(error)
            if not compat.wandb_service_died():
                _refused[key] = reason
            settings = replace(settings, run_id=None)  # W&B's service holds on to the id of a refused run
    try:
        run = _init(cfg, place, "offline", settings)
    except Exception as error:
        reason = _in_one_line(error)
        log.warning(
            "W&B could not start (%s); the local files are written all the same, and the same command again "
            "tracks the finished result",
            reason,
        )
        return Started(None, "disabled", reason)
    if reason:
        log.warning(
            "W&B did not accept the run (%s); it is tracked offline, upload it with: %s",
            reason,
            sync_command(run),
        )
    return Started(run, "offline", reason)


def sync_command(run: Any) -> str:
    """The command that uploads an offline run."""
    return f"wandb sync --yes {shlex.quote(run.sync_dir)}"


def _init(cfg: TrackingConfig, place: Destination, mode: str, settings: Start) -> Any:
    _renew_service()
    wandb, agent, own = _client(), by_agent(), _own()
    return wandb.init(
        project=None if agent else place.project,
        entity=None if agent else place.entity,
        group=place.group,
        job_type=settings.job_type,
        id=settings.run_id,
        tags=list(cfg.tags) or None,
        notes=None if own.run_notes else settings.notes or None,
        config=beside_swept(settings.config),
        dir=None if os.environ.get("WANDB_DIR") else str(settings.run_dir.resolve()),
        mode="online" if mode == "online" else "offline",
        reinit="finish_previous",
        settings=wandb.Settings(silent=True, console="off", init_timeout=60),
    )


def beside_swept(config: dict[str, Any]) -> dict[str, Any]:
    """The config beside the one of a W&B sweep agent.

    A swept group choice (`model: pythia-70m`) hides our group of that name; it moves to `model_config`.
    """
    if not by_agent():
        return config
    path = Path(os.environ.get("WANDB_SWEEP_PARAM_PATH") or "missing")
    try:
        swept = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        swept = {}
    hidden = {key for key in config if isinstance(config[key], dict) and key in (swept or {})}
    return {f"{key}_config" if key in hidden else key: value for key, value in config.items()}


def _own() -> Any:
    """W&B's own settings: environment and settings files, read when its session starts."""
    wandb = _client()
    try:
        return compat.wandb_settings()
    except Exception as error:  # such as a WANDB_MODE that does not exist
        log.warning("W&B's own settings cannot be read (%s)", _in_one_line(error))
        return wandb.Settings()


def _renew_service() -> None:
    """End a W&B session whose service has died, so that the next run gets a new one."""
    if not compat.wandb_service_died():
        return
    log.info("W&B's service has ended; a new one is started")
    with suppress(Exception, SystemExit):  # it waits for the dead, and exits with their code
        _client().teardown()


def _client() -> Any:
    """W&B's client, which reports none of its own errors: `tracking=offline` sends nothing."""
    import wandb

    compat.no_wandb_reports()
    return wandb


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text if text.strip("<>") not in ("", "no message") else f"{type(error).__name__}; see wandb login"
