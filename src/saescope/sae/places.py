"""Where a pre-trained SAE reads and what it reconstructs, by the hook names its config gives."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saescope.config import HookpointConfig
from saescope.errors import HookpointError, SaeError
from saescope.model.hookpoints import Hookpoint, resolve

NORMALIZED = re.compile(r"(blocks\.\d+)\.ln2\.hook_normalized")
"""The output of the norm before the MLP without gain and bias, which no module of transformers gives."""


@dataclass(frozen=True)
class Places:
    """Places beside the hookpoint that was chosen, which is the one the SAE reconstructs."""

    reads: Hookpoint | None = None
    """What a transcoder reads; None for an SAE."""

    eps: float | None = None
    """Of the norm the transcoder reads behind, when what is captured lies before it."""

    centring: bool = False
    """That norm is a LayerNorm, not an RMSNorm."""

    def normalised(self, x_ND: Tensor) -> Tensor:
        """TransformerLens' `hook_normalized` of the norm's input; the input itself where there is no norm."""
        if self.eps is None:
            return x_ND
        if self.centring:
            x_ND = x_ND - x_ND.mean(-1, keepdim=True)
        return x_ND / torch.sqrt(x_ND.pow(2).mean(-1, keepdim=True) + self.eps)


def places_of(meta: dict[str, Any], sae_name: str, *, at: Hookpoint, model: Any, transcoder: bool) -> Places:
    """Check that the SAE was trained at the hookpoint `at`, and find what else it reads.

    An SAE whose config does not say where it was trained passes. Raises SaeError.
    """
    hook = meta.get("hook_name")
    if meta.get("hook_head_index") is not None:
        raise SaeError(
            f"{sae_name} reads one attention head (hook_head_index {meta['hook_head_index']} of {hook}); "
            "not supported"
        )
    for key in ("hook_name", "hook_name_out"):
        if transcoder and meta.get(key) is None:
            raise SaeError(
                f"{sae_name} is a transcoder whose config does not say what it reads and what it predicts "
                f"(no metadata.{key}); add it, such as blocks.3.mlp.hook_in and blocks.3.hook_mlp_out"
            )
    target = meta["hook_name_out"] if transcoder else hook
    if target is None:
        return Places()
    does = "predicts" if transcoder else "reads"
    if same_tensor(_resolved(target, model, f"{sae_name} {does}"), at):
        return _read(meta, sae_name, model) if transcoder else Places()
    raise SaeError(
        f"{sae_name} {does} {target}, but the hookpoint chosen is {at.label}; "
        f"use hookpoint=custom hookpoint.name={target}"
    )


def same_tensor(a: Hookpoint, b: Hookpoint) -> bool:
    """Whether two hookpoints are the same activation; the input of block i is the output of block i − 1."""
    return _tensor(a) == _tensor(b)


def block_output(at: Hookpoint) -> int | None:
    """The block whose output a hookpoint is; None where it is another activation."""
    place, layer = _tensor(at)
    return layer if place == "stream after" and isinstance(layer, int) and layer >= 0 else None


def _tensor(at: Hookpoint) -> tuple[str, str | int]:
    is_block = at.layer is not None and at.name.rpartition(".")[2] == str(at.layer)
    if is_block and at.layer is not None:
        return "stream after", at.layer if at.side == "output" else at.layer - 1
    return at.side, at.name


def _read(meta: dict[str, Any], sae_name: str, model: Any) -> Places:
    """What a transcoder reads."""
    hook = str(meta["hook_name"])
    if hook.endswith(".hook_mlp_in") and str(meta.get("hf_hook_name")).endswith("layernorm.output"):
        # Gemma Scope 2: in TransformerLens hook_mlp_in lies before the norm, in its own files behind it
        hook = hook.removesuffix("hook_mlp_in") + "mlp.hook_in"
    behind_norm = NORMALIZED.fullmatch(hook)
    if behind_norm is None:
        return Places(_resolved(hook, model, f"{sae_name} reads"))
    reads = _resolved(f"{behind_norm[1]}.hook_mlp_in", model, f"{sae_name} reads {hook}, that is")
    norm = model.base_model.get_submodule(reads.name)
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if not isinstance(eps, float):
        raise SaeError(
            f"{sae_name} reads {hook}, but the norm {reads.name} of this model has no known epsilon"
        )
    return Places(reads, eps, isinstance(norm, nn.LayerNorm))


def _resolved(hook: str, model: Any, words: str) -> Hookpoint:
    try:
        return resolve(HookpointConfig("custom", name=hook), model)
    except HookpointError as error:
        raise SaeError(f"{words} {hook}, which is no hookpoint of this model: {error}") from error
