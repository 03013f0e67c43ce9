"""Config group `sae`."""

from dataclasses import dataclass

from saescope.config.check import at_least, one_of
from saescope.errors import ConfigError

SOURCES = ("hub", "neurons", "random")


@dataclass(frozen=True)
class SaeConfig:
    """Where the sparse autoencoder comes from, and at which k it is read."""

    source: str
    """`hub` (Hub id or folder in sparsify layout), `neurons` or `random` (controls)."""

    repo: str | None = None
    """Hub id or folder; null: the model's own `sae_repo`."""

    revision: str | None = None
    """Branch, tag or commit of the SAE repository."""

    k: int | None = None
    """Active latents per token; null: as trained."""

    expansion_factor: int | None = None
    """num_latents / d_in; for a pre-trained SAE only checked."""

    num_latents: int | None = None
    """Number of latents; for a pre-trained SAE only checked."""

    init_seed: int = 0
    """Seed of untrained weights."""

    def __post_init__(self) -> None:
        one_of("sae.source", self.source, SOURCES)
        at_least("sae.k", self.k, 1)
        at_least("sae.expansion_factor", self.expansion_factor, 1)
        at_least("sae.num_latents", self.num_latents, 1)
        if self.source != "hub" and self.k is None:
            raise ConfigError(f"sae={self.source} needs a k; set it on the command line: sae.k=32")
        if self.source == "random" and self.expansion_factor is None and self.num_latents is None:
            raise ConfigError("sae=random needs a width; set sae.expansion_factor=8 or sae.num_latents=4096")
