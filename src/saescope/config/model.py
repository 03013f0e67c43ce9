"""Config group `model`."""

from dataclasses import dataclass

from saescope.errors import ConfigError


@dataclass(frozen=True)
class ModelConfig:
    """Which language model to load."""

    name: str
    """Hub id, a folder, or `embedded` (the small GPT-NeoX inside the package)."""

    deduped: bool = False
    """Pythia only: the model trained on the deduplicated Pile."""

    revision: str | None = None
    """Branch, tag or commit on the Hub; for Pythia also a training step (`step1000`)."""

    random_init: bool = False
    """Control: the same architecture with random weights, drawn from `seed`."""

    sae_repo: str | None = None
    """SAE repository of this model, used by `sae=hub` when `sae.repo` is null."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model."""

    def __post_init__(self) -> None:
        if self.deduped and "pythia" not in self.name.lower():
            raise ConfigError(f"model.deduped=true is for Pythia models only, not for {self.name}")

    @property
    def repo(self) -> str:
        """Name or folder to load, with the suffix `-deduped` where `deduped` is set."""
        suffix = "-deduped" if self.deduped and not self.name.endswith("-deduped") else ""
        return self.name + suffix
