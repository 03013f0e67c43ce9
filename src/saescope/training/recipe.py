"""What sparsify's trainer lets one choose, with its defaults, and the optimisers it builds from that."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from saescope.compat import sparsify_muon
from saescope.errors import SaeError, choices, nearest
from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.training.signum import ScheduleFreeSignum

OPTIMIZERS = ("signum", "adam", "muon")
ACTIVATIONS = ("topk", "groupmax")
# sparsify quotes its learning rates at this many latents and scales with 1/sqrt(latents).
REFERENCE_LATENTS = 2**14


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters under sparsify's names (`TrainConfig` and `SparseCoderConfig`)."""

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
    """None: by the number of latents."""

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
    """Parts a batch is split into for forward and backward."""

    init_seed: int = 0
    """Seed of the initial weights."""

    def __post_init__(self) -> None:
        for name, valid in (("optimizer", OPTIMIZERS), ("activation", ACTIVATIONS)):
            value = getattr(self, name)
            if value not in valid:
                raise SaeError(f"{name}={value}: {nearest(str(value), valid)}valid are {choices(valid)}")
        for name in ("k", "grad_acc_steps", "micro_acc_steps"):
            if getattr(self, name) < 1:
                raise SaeError(f"{name}={getattr(self, name)} must be 1 or more")
        for name in ("auxk_alpha", "dead_feature_threshold", "k_decay_steps", "lr_warmup_steps"):
            if not getattr(self, name) >= 0:
                raise SaeError(f"{name}={getattr(self, name)} must be 0 or more")
        if self.lr is not None and not self.lr > 0:
            raise SaeError(f"lr={self.lr} must be positive, or null to choose it by the number of latents")
        if self.activation == "groupmax" and self.k_decay_steps:
            raise SaeError(
                "k_decay_steps needs activation=topk: groupmax cannot split latents into any k groups"
            )

    def check(self, d_in: int, num_latents: int) -> None:
        """Raise SaeError when the sizes of an SAE cannot be trained with this recipe."""
        if self.k > num_latents:
            raise SaeError(f"k={self.k} is larger than the {num_latents} latents of the SAE; make k smaller")
        if self.activation == "groupmax" and num_latents % self.k:
            raise SaeError(
                f"groupmax needs k to divide the number of latents; {self.k} does not divide {num_latents}"
            )
        largest = self.k_at(0, d_in, num_latents)
        if self.multi_topk and 4 * largest > num_latents:
            raise SaeError(
                f"multi_topk selects 4 × k = {4 * largest} latents, but the SAE has {num_latents}; "
                "make k smaller"
            )

    def k_at(self, step: int, d_in: int, num_latents: int) -> int:
        """k after `step` steps: sparsify's linear decay from 10 × d_in."""
        if step >= self.k_decay_steps:
            return self.k
        progress = step / self.k_decay_steps
        return round(min(num_latents, round(d_in * 10)) * (1 - progress) + self.k * progress)

    def learning_rate(self, num_latents: int) -> float:
        """`lr`, or sparsify's rule; Muon's does not depend on the number of latents."""
        if self.lr is not None:
            return self.lr
        if self.optimizer == "muon":
            return 2e-3
        base = 2e-4 if self.optimizer == "adam" else 5e-3
        return float(base / (num_latents / REFERENCE_LATENTS) ** 0.5)


def new_coder(d_in: int, num_latents: int, recipe: Recipe) -> SparseCoder:
    """An SAE as sparsify initialises it from `init_seed`: W_dec = W_enc at unit norm, biases 0."""
    recipe.check(d_in, num_latents)
    cfg = SparseCoderConfig(
        activation=recipe.activation,
        expansion_factor=max(1, num_latents // d_in),
        normalize_decoder=recipe.normalize_decoder,
        num_latents=num_latents,
        k=recipe.k,
        multi_topk=recipe.multi_topk,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.init_seed)
        return SparseCoder(d_in, cfg, "cpu", dtype=torch.float32)


def build_optimizers(
    coder: SparseCoder, recipe: Recipe, steps: int
) -> tuple[list[torch.optim.Optimizer], list[LRScheduler]]:
    """sparsify's optimisers and schedulers for a run of `steps` batches."""
    lr = recipe.learning_rate(coder.num_latents)
    params = list(coder.parameters())
    warmup: Any = get_linear_schedule_with_warmup
    if recipe.optimizer == "signum":
        return [ScheduleFreeSignum(params, lr=lr)], []
    if recipe.optimizer == "adam":
        adam = torch.optim.Adam(params, lr=lr)
        return [adam], [warmup(adam, recipe.lr_warmup_steps, steps)]
    muon = sparsify_muon()([p for p in params if p.ndim >= 2], lr=lr)
    adam = torch.optim.Adam([p for p in params if p.ndim < 2], lr=lr)
    return [muon, adam], [warmup(muon, 0, steps), warmup(adam, recipe.lr_warmup_steps, steps)]
