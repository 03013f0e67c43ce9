"""How a W&B run is started: online or offline, by us or by a W&B sweep agent."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from saescope.config import TrackingConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Settings of a run before it starts."""

    run_dir: Path
    group: str | None
    job_type: str
    notes: str
    config: dict[str, Any]


def by_agent() -> bool:
    """Whether a W&B sweep agent runs this job; it then sets project, run id, group and name."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def mode_of(cfg: TrackingConfig) -> str:
    """`online`, `offline` or `disabled`. `WANDB_MODE` is respected; an empty one is removed."""
    if not os.environ.get("WANDB_MODE", "x"):
        del os.environ["WANDB_MODE"]
    if cfg.mode != "wandb":
        return cfg.mode
    wanted_mode = os.environ.get("WANDB_MODE")
    if wanted_mode in ("offline", "dryrun"):
        return "offline"
    if wanted_mode == "disabled":
        return "disabled"
    import wandb

    try:
        logged_in = bool(wandb.login(prompt=False))  # type: ignore[call-arg]
    except Exception as error:
        log.warning("W&B login could not be checked (%s); tracking offline", error)
        logged_in = False
    return "online" if logged_in else "offline"


def start(cfg: TrackingConfig, mode: str, settings: Start) -> Any:
    """The started run, or None after a warning."""
    import wandb

    agent = by_agent()
    try:
        return wandb.init(
            project=None if agent else cfg.project,
            entity=None if agent else cfg.entity,
            group=cfg.group or settings.group,
            job_type=settings.job_type,
            # none rather than empty, so that WANDB_TAGS and WANDB_NOTES still apply
            tags=list(cfg.tags) or None,
            notes=settings.notes or None,
            config=_beside_swept(settings.config) if agent else settings.config,
            dir=str(settings.run_dir),
            mode="online" if mode == "online" else "offline",
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off", init_timeout=60),
        )
    except Exception as error:
        log.warning("W&B could not start (%s); the local files are written all the same", error)
        return None


def _beside_swept(config: dict[str, Any]) -> dict[str, Any]:
    """A swept group choice (`model: pythia-70m`) hides our group of that name; it moves to `model_config`."""
    path = Path(os.environ.get("WANDB_SWEEP_PARAM_PATH") or "missing")
    try:
        swept = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        swept = {}
    hidden = {key for key in config if isinstance(config[key], dict) and key in (swept or {})}
    return {f"{key}_config" if key in hidden else key: value for key, value in config.items()}
