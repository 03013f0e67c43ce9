"""Gemma Scope (arXiv 2408.05147; `params.npz`) and Gemma Scope 2 (`params.safetensors`): JumpReLU.

The first has no config: layer and kind are in the names of its folders and of its repository.
"""

import re
from pathlib import Path
from typing import Any

from saescope.errors import SaeError, choices
from saescope.sae.cfg_file import read_object
from saescope.sae.dense import Computation
from saescope.sae.formats.description import Description, Format, Weights
from saescope.sae.formats.files import matrix_of, read_npz, read_safetensors, tensor_of
from saescope.sae.repository import SaeFolder

FILE, FILE_2, CONFIG_2 = "params.npz", "params.safetensors", "config.json"
JUMPRELU = Computation("jumprelu", centred=False)
KINDS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
"""Repository `gemma-scope-2b-pt-KIND` → hookpoint in a block."""

MODULES_2 = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "post_feedforward_layernorm.output": "hook_mlp_out",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
}
"""`hf_hook_point_in` and `hf_hook_point_out` of Gemma Scope 2, in a layer → hookpoint in a block."""
FOLDERS_2 = {
    "resid_post": ("output", None),
    "attn_out": ("self_attn.o_proj.input", None),
    "mlp_out": ("post_feedforward_layernorm.output", None),
    "transcoder": ("pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"),
}
"""Folder of an SAE without a config → its two hook points."""


def describe(folder: SaeFolder, hookpoint: str) -> Description:
    """From the names of folder and repository; fetches nothing."""
    layer, kind = (
        re.search(r"layer_(\d+)", folder.address),
        re.search(r"gemma-scope-\w+-\w+-(\w+)", folder.address),
    )
    if "embedding" in folder.address.split("/"):
        return Description(JUMPRELU, hook="hook_embed")
    if layer is None or kind is None:
        return Description(JUMPRELU)
    if kind[1] == "transcoders":
        block = f"blocks.{layer[1]}"
        return Description(JUMPRELU, hook=f"{block}.hook_mlp_out", reads=f"{block}.ln2.hook_normalized")
    hook = KINDS.get(kind[1])
    return Description(JUMPRELU, hook=hook and f"blocks.{layer[1]}.{hook}")


def read(folder: SaeFolder, hookpoint: str, described: Description) -> tuple[Weights, Computation]:
    """`params.npz`: W_enc [d_in, F], W_dec [F, d_out], b_enc, b_dec, threshold."""
    path = folder.fetch(FILE)
    stored = {name.lower(): tensor for name, tensor in read_npz(path).items()}
    if unknown := set(stored) - {"w_enc", "w_dec", "b_enc", "b_dec", "threshold"}:
        raise SaeError(
            f"{path} also has {choices(sorted(unknown))}, which Gemma Scope has not; not supported"
        )
    weights = _weights(stored, path)
    # trained on embeddings as they lie in the matrix; Gemma multiplies them by the root of the width
    scale = weights["W_enc"].shape[1] ** 0.5 if described.hook == "hook_embed" else 1.0
    return weights, Computation("jumprelu", centred=False, scale=scale)


def describe_2(folder: SaeFolder, hookpoint: str) -> Description:
    """From `config.json`, without one from the names of its folders. Raises SaeError."""
    cfg = read_object(folder.fetch(CONFIG_2)) if CONFIG_2 in folder.files else {}
    if cfg.get("architecture", "jump_relu") != "jump_relu":
        raise SaeError(
            f"{CONFIG_2} of {folder} says architecture: {cfg['architecture']}; only jump_relu is known"
        )
    layer = re.search(r"layer_(\d+)", folder.address)
    points = [cfg.get("hf_hook_point_in"), cfg.get("hf_hook_point_out")]
    if not cfg and layer is not None:
        tails = next((tails for name, tails in FOLDERS_2.items() if name in folder.address), (None, None))
        points = [tail and f"model.layers.{layer[1]}.{tail}" for tail in tails]
    hooks = [_hook_2(point, folder) for point in points]
    return Description(
        JUMPRELU,
        hook=hooks[1] or hooks[0],
        reads=hooks[0] if hooks[1] else None,
        model_name=cfg.get("model_name"),
    )


def read_2(folder: SaeFolder, hookpoint: str, described: Description) -> tuple[Weights, Computation]:
    """`params.safetensors`, the affine connection of a skip transcoder (stored [d_in, d_out]) included."""
    path = folder.fetch(FILE_2)
    stored = read_safetensors(path)
    weights = _weights(stored, path)
    if "affine_skip_connection" in stored:
        weights["W_skip"] = tensor_of(stored, path, "*affine_skip_connection")
    return weights, JUMPRELU


def _weights(stored: Weights, path: Path) -> Weights:
    return {
        "W_enc": matrix_of(stored, path, "*w_enc"),
        **{name: tensor_of(stored, path, name.lower()) for name in ("W_dec", "b_enc", "b_dec", "threshold")},
    }


def _hook_2(point: Any, folder: SaeFolder) -> str | None:
    if point is None:
        return None
    layer = re.search(r"layers\.(\d+)\.(.*)$", str(point))
    if layer is None or layer[2] not in MODULES_2:
        raise SaeError(f"{folder} says it reads or predicts {point}; known: layers.N.{choices(MODULES_2)}")
    return f"blocks.{layer[1]}.{MODULES_2[layer[2]]}"


FORMAT = Format(describe, read)
FORMAT_2 = Format(describe_2, read_2)
