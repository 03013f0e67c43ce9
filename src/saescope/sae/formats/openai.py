"""OpenAI's GPT-2 autoencoders, `autoencoders/<layer>.pt` (openai/sparse_autoencoder model.py, paths.py)."""

import re
from typing import Any

from saescope.errors import SaeError, choices
from saescope.model.hookpoint_names import layer_in
from saescope.sae.dense import Computation
from saescope.sae.formats.description import Description, Format, Weights
from saescope.sae.formats.files import read_pickle, tensor_of
from saescope.sae.formats.marks import OPENAI_FILE
from saescope.sae.repository import SaeFolder

LOCATIONS = {
    "resid_delta_attn": "hook_attn_out",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_post_mlp": "hook_resid_post",
    "mlp_post_act": "mlp.hook_post",
}
"""Name of a folder above the file → hookpoint in a block."""


def describe(folder: SaeFolder, hookpoint: str) -> Description:
    """From the names of file and folders; fetches nothing. Raises SaeError for a layer without a file."""
    layer = _file(folder, hookpoint).removesuffix(".pt")
    location = re.search("|".join(LOCATIONS), folder.address)
    return Description(
        None, hook=f"blocks.{layer}.{LOCATIONS[location[0]]}" if location else None, model_name="gpt2"
    )


def read(folder: SaeFolder, hookpoint: str, described: Description) -> tuple[Weights, Computation]:
    """Weights and activation function; tokens are standardised where that is TopK, as its loader decides."""
    path = folder.fetch(_file(folder, hookpoint))
    stored = read_pickle(path)
    if "encoder.weight" not in stored or "pre_bias" not in stored:
        raise SaeError(
            f"{path} is not in the format of OpenAI's autoencoders (encoder.weight, pre_bias, latent_bias, "
            f"decoder.weight); it has {choices(map(str, stored), 12)}"
        )
    weights = {
        "W_enc": tensor_of(stored, path, "encoder.weight"),
        "W_dec": tensor_of(stored, path, "*decoder.weight", "decoder.linear.weight"),
        "b_dec": tensor_of(stored, path, "pre_bias"),
        "b_enc": tensor_of(stored, path, "latent_bias"),
    }
    return weights, _computation(stored, str(path))


def _computation(stored: dict[str, Any], path: str) -> Computation:
    activation = stored.get("activation", "ReLU")
    state = stored.get("activation_state_dict") or {}
    k = state.get("k") if isinstance(state, dict) and state.get("postact_fn") == "ReLU" else None
    if activation == "TopK" and isinstance(k, int) and not isinstance(k, bool) and k >= 1:
        return Computation("topk", k=k, standardised=True)
    if activation == "ReLU":
        return Computation("relu")
    raise SaeError(
        f"{path} has activation {activation} ({state}); supported: ReLU, and TopK with k and postact_fn ReLU"
    )


def _file(folder: SaeFolder, hookpoint: str) -> str:
    files = [name for name in folder.files if OPENAI_FILE.fullmatch(name)]
    layer = layer_in(hookpoint)
    if len(files) == 1 or f"{layer}.pt" in files:
        return files[0] if len(files) == 1 else f"{layer}.pt"
    raise SaeError(f"{folder} has no {layer}.pt for {hookpoint}; it has {choices(files, 12)}")


FORMAT = Format(describe, read)
