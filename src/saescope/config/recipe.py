"""How an SAE is trained: sparsify's hyper-parameters, each with its default and its check."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from saescope.config.check import at_least, is_seed, one_of
from saescope.errors import ConfigError, SaeError

OPTIMIZERS = ("signum", "adam", "muon")
ACTIVATIONS = ("topk", "groupmax")
FREEZE = ("none", "decoder", "encoder", "soft")
ADDED_LATER: dict[str, Any] = {"freeze": "none", "transcode": False, "skip_connection": False}
"""Settings that the first trainings did not have, at the values that mean what those did."""


def identifies(name: str, value: Any) -> bool:
    """Whether a setting is part of a training's identity.

    One that was added later is not where it means what trainings did before: those are still found.
    """
    return name not in ADDED_LATER or value != ADDED_LATER[name]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters under sparsify's names (`TrainConfig` and `SparseCoderConfig`)."""

    prefix: ClassVar[str] = ""
    """Of the names in error messages; `sae.` where they were set on the command line."""

    k: int = 32
    """Active latents per token."""

    activation: str = "topk"
    """`topk` or `groupmax`."""

    multi_topk: bool = False
    """Add an eighth of the FVU at 4k latents."""

    normalize_decoder: bool = True
    """Unit-norm decoder rows, gradients along them removed."""

    optimizer: str = "signum"
    """`signum` (sign descent, schedule-free), `adam` or `muon`."""

    lr: float | None = None
    """Null: by the number of latents."""

    lr_warmup_steps: int = 1000
    """Linear warm-up; `adam`, and the vectors under `muon`."""

    auxk_alpha: float = 0.0
    """Weight of the AuxK term; 0 leaves it out."""

    dead_feature_threshold: int = 10_000_000
    """A latent is dead when it has not fired for more than this many tokens."""

    k_decay_steps: int = 0
    """Steps over which k falls from 10 × d_in to `k`."""

    grad_acc_steps: int = 1
    """Batches per optimiser step."""

    micro_acc_steps: int = 1
    """Parts a batch is split into for forward and backward; less memory, the same gradient."""

    init_seed: int = 0
    """Seed of the initial weights."""

    freeze: str = "none"
    """What stays as it was initialised, as control (Korznikov et al. 2026, arXiv 2602.14111): `decoder`
    (directions), `encoder` (its weights; thresholds are trained), `soft` (each decoder row within cosine 0.8
    of its initial one) or `none`."""

    transcode: bool = False
    """Predict a module's output from its input."""

    skip_connection: bool = False
    """Of a transcoder: add W_skip x to the decoded codes."""

    def __post_init__(self) -> None:
        one_of(f"{self.prefix}optimizer", self.optimizer, OPTIMIZERS)
        one_of(f"{self.prefix}activation", self.activation, ACTIVATIONS)
        one_of(f"{self.prefix}freeze", self.freeze, FREEZE)
        for name in ("k", "grad_acc_steps", "micro_acc_steps"):
            at_least(f"{self.prefix}{name}", getattr(self, name), 1)
        for name in ("auxk_alpha", "dead_feature_threshold", "k_decay_steps", "lr_warmup_steps"):
            at_least(f"{self.prefix}{name}", getattr(self, name), 0)
        is_seed(f"{self.prefix}init_seed", self.init_seed)
        if self.lr is not None and not self.lr > 0:
            raise ConfigError(
                f"{self.prefix}lr={self.lr} must be above 0, or null to choose it by the number of latents"
            )
        if self.activation == "groupmax" and self.k_decay_steps:
            raise ConfigError(
                f"{self.prefix}k_decay_steps={self.k_decay_steps} needs {self.prefix}activation=topk: "
                "groupmax cannot split latents into any number of groups"
            )
        if self.skip_connection and not self.transcode:
            raise ConfigError(
                f"{self.prefix}skip_connection=true needs {self.prefix}transcode=true: beside an autoencoder "
                "it would learn the identity"
            )

    @property
    def identity(self) -> str:
        """These hyper-parameters as text; equal texts, equal trainings."""
        values = ((field.name, getattr(self, field.name)) for field in fields(Recipe))
        parts = (f"{name}={value!r}" for name, value in values if identifies(name, value))
        return f"Recipe({', '.join(parts)})"

    @property
    def recipe(self) -> "Recipe":
        """These hyper-parameters alone, where a subclass has more."""
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})

    def check_new(self) -> None:
        """Raise ConfigError when only an SAE that exists already can be trained with this recipe."""
        if self.transcode and self.freeze in ("decoder", "soft"):
            raise ConfigError(
                f"{self.prefix}freeze={self.freeze} needs initial directions, but a new transcoder's decoder "
                f"is 0; choose {self.prefix}freeze=encoder or {self.prefix}transcode=false"
            )

    def check(self, d_in: int, num_latents: int) -> None:
        """Raise SaeError when an SAE of these sizes cannot be trained with this recipe."""
        if self.k > num_latents:
            raise SaeError(
                f"{self.prefix}k={self.k} is larger than the {num_latents} latents of the SAE; make k smaller"
            )
        if self.activation == "groupmax" and num_latents % self.k:
            raise SaeError(
                f"groupmax needs k to divide the number of latents; {self.k} does not divide {num_latents}"
            )
        largest = self.k_at(0, d_in, num_latents)
        if self.multi_topk and 4 * largest > num_latents:
            raise SaeError(
                f"{self.prefix}multi_topk selects 4 × k = {4 * largest} latents, but the SAE has "
                f"{num_latents}; make k smaller"
            )

    def k_at(self, step: int, d_in: int, num_latents: int) -> int:
        """k after `step` steps: sparsify's linear decay from 10 × d_in."""
        if step >= self.k_decay_steps:
            return self.k
        progress = step / self.k_decay_steps
        return round(min(num_latents, round(d_in * 10)) * (1 - progress) + self.k * progress)
