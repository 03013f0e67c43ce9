"""Config group `tracking`."""

from dataclasses import dataclass

from saescope.config.check import one_of
from saescope.errors import ConfigError

MODES = ("wandb", "offline", "disabled")


@dataclass(frozen=True)
class TrackingConfig:
    """Weights & Biases; the local files are written in every mode."""

    mode: str = "wandb"
    """`wandb`: online when logged in, else offline. `offline`, `disabled`."""

    project: str | None = None
    """W&B project; null: W&B's own setting (`WANDB_PROJECT`, a settings file), else `saescope`."""

    entity: str | None = None
    """W&B user or team; null: W&B's own setting, else the account's default."""

    group: str | None = None
    """W&B group; null: W&B's own setting (`WANDB_RUN_GROUP`), else the sweep's folder name."""

    tags: tuple[str, ...] = ()
    """Further tags, 1 to 64 characters each; empty: those of `WANDB_TAGS`."""

    def __post_init__(self) -> None:
        one_of("tracking.mode", self.mode, MODES)
        for tag in self.tags:
            if not 1 <= len(tag) <= 64:
                raise ConfigError(f"tracking.tags: '{tag}' has {len(tag)} characters; W&B takes 1 to 64")
        if self.project is not None and (
            not 1 <= len(self.project) <= 128 or set(self.project) & set(r"/\#?%:")
        ):
            raise ConfigError(
                rf"tracking.project='{self.project}' is no W&B project: 1 to 128 characters without /\#?%:"
            )
