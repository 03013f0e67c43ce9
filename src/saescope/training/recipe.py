"""A recipe as sparsify's trainer reads it: untrained SAE, learning rate, optimisers, schedules."""

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from saescope.compat import sparsify_muon
from saescope.config import Recipe
from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.training.signum import ScheduleFreeSignum

# sparsify quotes its learning rates at this many latents and scales with 1/sqrt(latents).
REFERENCE_LATENTS = 2**14


def learning_rate(recipe: Recipe, num_latents: int) -> float:
    """`recipe.lr`, or sparsify's rule; Muon's does not depend on the number of latents."""
    if recipe.lr is not None:
        return recipe.lr
    if recipe.optimizer == "muon":
        return 2e-3
    base = 2e-4 if recipe.optimizer == "adam" else 5e-3
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
    lr = learning_rate(recipe, coder.num_latents)
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
