"""A recipe as sparsify's trainer reads it: untrained SAE, learning rate, optimisers, schedules."""

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from saescope.compat import sparsify_muon
from saescope.config import Recipe
from saescope.errors import SaeError
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
    """An SAE as sparsify initialises it from `init_seed`: W_dec = W_enc at unit norm, biases 0.

    A transcoder has W_dec = 0 and W_skip = 0.
    """
    recipe.check_new()
    recipe.check(d_in, num_latents)
    cfg = SparseCoderConfig(
        activation=recipe.activation,
        expansion_factor=max(1, num_latents // d_in),
        normalize_decoder=recipe.normalize_decoder,
        num_latents=num_latents,
        k=recipe.k,
        multi_topk=recipe.multi_topk,
        transcode=recipe.transcode,
        skip_connection=recipe.skip_connection,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.init_seed)
        return SparseCoder(d_in, cfg, "cpu", dtype=torch.float32)


def check_kind(coder: SparseCoder, recipe: Recipe) -> None:
    """Raise SaeError unless weights to start from are of the recipe's kind, and of a kind that is trained."""
    if coder.W_dec is None:
        raise SaeError("an SAE without a decoder cannot be trained; load it with its decoder")
    transcode, skip = coder.cfg.transcode, coder.W_skip is not None
    if skip and not transcode:
        raise SaeError(
            "an SAE with a skip connection that is no transcoder cannot be trained; choose another"
        )
    if (transcode, skip) != (recipe.transcode, recipe.skip_connection):
        kind = f"{'a transcoder' if transcode else 'an SAE'}{' with a skip connection' if skip else ''}"
        raise SaeError(
            f"the weights to start from are {kind}; set {recipe.prefix}transcode={str(transcode).lower()} "
            f"{recipe.prefix}skip_connection={str(skip).lower()}, or choose others"
        )


def build_optimizers(
    coder: SparseCoder, recipe: Recipe, steps: int
) -> tuple[list[torch.optim.Optimizer], list[LRScheduler]]:
    """sparsify's optimisers and schedulers for a run of `steps` batches, of the weights that are trained."""
    lr = learning_rate(recipe, coder.num_latents)
    params = [parameter for parameter in coder.parameters() if parameter.requires_grad]
    warmup: Any = get_linear_schedule_with_warmup
    if recipe.optimizer == "signum":
        return [ScheduleFreeSignum(params, lr=lr)], []
    if recipe.optimizer == "adam":
        adam = torch.optim.Adam(params, lr=lr)
        return [adam], [warmup(adam, recipe.lr_warmup_steps, steps)]
    muon = sparsify_muon()([p for p in params if p.ndim >= 2], lr=lr)
    adam = torch.optim.Adam([p for p in params if p.ndim < 2], lr=lr)
    return [muon, adam], [warmup(muon, 0, steps), warmup(adam, recipe.lr_warmup_steps, steps)]
