"""SAEs made and saved by sae_lens itself, weights, biases and thresholds at random; our loader on them."""

from pathlib import Path

import torch
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEMetadata
from transformers import AutoConfig, AutoModelForCausalLM

from saescope.config import HookpointConfig, SaeLensSae
from saescope.model.hookpoints import resolve
from saescope.sae import load

D_IN, D_SAE = 32, 96
METADATA = {
    "hook_name": "blocks.2.hook_resid_post",
    "prepend_bos": False,
    "model_class_name": "HookedTransformer",
    "model_from_pretrained_kwargs": {"center_writing_weights": False},
}


def make(architecture: str, *, metadata: dict | None = None, d_in=D_IN, d_sae=D_SAE, seed=0, **cfg):
    """A sae_lens SAE of this architecture, at random."""
    sae_class, cfg_class = get_sae_class(architecture)
    metadata_of_sae = SAEMetadata(**(METADATA if metadata is None else metadata))
    sae = sae_class(cfg_class(d_in=d_in, d_sae=d_sae, metadata=metadata_of_sae, **cfg))
    noise = torch.Generator().manual_seed(seed)
    std = {"W_enc": 0.3, "W_dec": 0.15, "b_dec": 0.5, "r_mag": 0.3}
    with torch.no_grad():
        for name, weight in sae.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=noise) * std.get(name, 0.4))
            if name == "threshold":
                weight.abs_().add_(0.2)
            if name == "W_dec" and architecture == "matching_pursuit":
                weight.div_(weight.norm(dim=1, keepdim=True))
    return sae


def saved(folder: Path, sae) -> str:
    """The folder, after sae_lens has saved the SAE there."""
    sae.save_model(folder)
    return str(folder)


def ours(release: str, model_folder: Path, *, layer=2, d_in=D_IN, hookpoint=None, model_name="", **values):
    """`sae=saelens sae.release=RELEASE` at a block's output (or any hookpoint) of a model without weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder))
    hookpoint_cfg = (
        HookpointConfig("custom", name=hookpoint) if hookpoint else HookpointConfig("resid", layer=layer)
    )
    at = resolve(hookpoint_cfg, model)
    return load(
        SaeLensSae(release=release, **values),
        d_in=d_in,
        hookpoint=at.name,
        model_sae_repo=None,
        model_name=model_name or str(model_folder),
        dtype=torch.float32,
        at=at,
        model=model,
    )


def dense(codes, num_latents: int) -> torch.Tensor:
    """Codes as a matrix [N, F]."""
    out = torch.zeros(len(codes.sizes_N), num_latents)
    rows = torch.repeat_interleave(torch.arange(len(codes.sizes_N)), codes.sizes_N)
    out[rows, codes.latents] = codes.acts
    return out
