"""mlsae: one TopK SAE for the outputs of all blocks (tim-lawson/mlsae, mlsae/model/autoencoder.py).

`config.json`, `model.safetensors`, of the SAE alone or (`-tfm`) of SAE and language model together, of which
only the SAE is read. Every token is standardised by itself.
"""

import re
from typing import Any

import torch

from saescope.errors import SaeError
from saescope.sae.cfg_file import read_object
from saescope.sae.dense import Computation
from saescope.sae.formats.description import Description, Format, Weights
from saescope.sae.formats.files import matrix_of, read_safetensors, tensor_of
from saescope.sae.repository import SaeFolder

CONFIG, FILE = "config.json", "model.safetensors"


def describe(folder: SaeFolder, hookpoint: str) -> Description:
    """From `config.json`, and the name for what it leaves out. Raises SaeError."""
    cfg = read_object(folder.fetch(CONFIG))
    with_model = {"model_name", "expansion_factor", "k"} <= set(cfg)
    if not with_model and not {"n_inputs", "n_latents", "k"} <= set(cfg):
        what = f"; it is of a language model ({cfg['model_type']})" if "model_type" in cfg else ""
        what = "; it is of a crosscoder, which is not supported" if _is_crosscoder(cfg, folder) else what
        raise SaeError(
            f"{folder} has {FILE}, but its {CONFIG} is not of an mlsae SAE (n_inputs, n_latents, k){what}"
        )
    if cfg.get("tuned_lens") or re.search(r"-lens\b", folder.address):
        raise SaeError(
            f"{folder} is an mlsae SAE of activations transformed by a tuned lens, which is not supported; "
            "the one without -lens in its name reads plain activations"
        )
    for key in ("k",) if with_model else ("n_inputs", "n_latents", "k"):
        if not isinstance(cfg[key], int) or isinstance(cfg[key], bool) or cfg[key] < 1:
            raise SaeError(f"{CONFIG} of {folder} has no valid {key}; it cannot be guessed")
    named = re.search(r"-layers((?:-\d+)+)\b", folder.address)
    layers = cfg.get("layers") or ([int(n) for n in named[1].strip("-").split("-")] if named else [])
    if not isinstance(layers, list) or not all(isinstance(layer, int) for layer in layers):
        raise SaeError(f"{CONFIG} of {folder} says layers: {layers}; a list of layer numbers is expected")
    return Description(
        Computation("topk", k=cfg["k"], standardised=bool(cfg.get("standardize", True))),
        d_in=cfg.get("n_inputs"),
        num_latents=cfg.get("n_latents"),
        every_layer=True,
        layers=tuple(layers),
        model_name=cfg.get("model_name"),
    )


def read(folder: SaeFolder, hookpoint: str, described: Description) -> tuple[Weights, Computation]:
    """Weights of the SAE; it has no encoder bias."""
    path = folder.fetch(FILE)
    stored = read_safetensors(path, "autoencoder.") or read_safetensors(path)
    weights = {
        "W_enc": matrix_of(stored, path, "encoder.weight"),
        "W_dec": tensor_of(stored, path, "*decoder.weight"),
        "b_dec": tensor_of(stored, path, "pre_encoder_bias"),
    }
    assert described.computation is not None
    return weights | {"b_enc": torch.zeros(len(weights["W_enc"]))}, described.computation


def _is_crosscoder(cfg: dict[str, Any], folder: SaeFolder) -> bool:
    return "crosscoder" in folder.address.lower() or {"activation_dim", "dict_size", "num_layers"} <= set(cfg)


FORMAT = Format(describe, read)
