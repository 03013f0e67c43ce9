"""saprmarks/dictionary_learning: `ae.pt`, and `config.json` with a `trainer` (its dictionary.py)."""

import re
from typing import Any

from saescope.errors import SaeError, choices
from saescope.sae.cfg_file import read_object
from saescope.sae.dense import Computation
from saescope.sae.formats.description import Description, Format, Weights
from saescope.sae.formats.files import matrix_of, read_pickle, tensor_of
from saescope.sae.repository import SaeFolder

CONFIG, FILE = "config.json", "ae.pt"
CLASSES = {
    "AutoEncoder": Computation("relu"),
    "AutoEncoderNew": Computation("relu", centred=False),
    "GatedAutoEncoder": Computation("gated"),
    "AutoEncoderTopK": Computation("topk"),
    "BatchTopKSAE": Computation("jumprelu"),
    "MatryoshkaBatchTopKSAE": Computation("jumprelu"),
    "JumpReluAutoEncoder": Computation("jumprelu", centred=False),
}
"""dict_class → what it computes. The trainers p-anneal and gated-anneal write the first and the third."""

NAMES = {
    "W_enc": ("encoder.weight", "*W_enc"),
    "W_dec": ("W_dec", "*decoder.weight"),
    "b_dec": ("b_dec", "bias", "decoder_bias", "decoder.bias"),
    "b_enc": ("b_enc", "encoder.bias"),
    "b_gate": ("gate_bias",),
    "b_mag": ("mag_bias",),
    "r_mag": ("r_mag",),
    "threshold": ("threshold",),
}
"""Our name → names in `ae.pt`; a star marks a matrix stored the other way round."""

SUBMODULE = re.compile(r"^(resid_post|resid_out|mlp_out|attn_out|attention_out)_?(?:layer_?)?(\d+)$")
HOOKS = {
    "resid": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attn": "hook_attn_out",
    "attention": "hook_attn_out",
}


def describe(folder: SaeFolder, hookpoint: str) -> Description:
    """From `config.json`. Raises SaeError for a class that is not supported, and for missing sizes."""
    trainer = _trainer(folder)
    kind = str(trainer.get("dict_class"))
    if kind not in CLASSES:
        why = ""
        if "crosscoder" in kind.lower():
            why = " (a crosscoder codes the activations of several layers or models at once)"
        raise SaeError(
            f"{folder} is in dictionary_learning format with dict_class {kind} (trainer "
            f"{trainer.get('trainer_class')}), which is not supported{why}; supported: {choices(CLASSES)}"
        )
    computation = CLASSES[kind]
    top = computation.activation == "topk"
    for key in ("activation_dim", "dict_size", *(["k"] if top else [])):
        value = trainer.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SaeError(f"{CONFIG} of {folder} has no valid trainer.{key}; it cannot be guessed")
    submodule = SUBMODULE.match(str(trainer.get("submodule_name")))
    return Description(
        Computation("topk", k=trainer["k"]) if top else computation,
        d_in=trainer["activation_dim"],
        num_latents=trainer["dict_size"],
        hook=f"blocks.{submodule[2]}.{HOOKS[submodule[1].split('_')[0]]}" if submodule else None,
        model_name=trainer.get("lm_name"),
    )


def read(folder: SaeFolder, hookpoint: str, described: Description) -> tuple[Weights, Computation]:
    """`ae.pt`. A batch top-k SAE has one threshold for all its latents, learnt in training."""
    path = folder.fetch(FILE)
    stored = read_pickle(path)
    computation = described.computation
    assert computation is not None
    weights = {
        name: (matrix_of if name.startswith("W_") else tensor_of)(stored, path, *NAMES[name])
        for name in computation.weights
    }
    if "threshold" in weights and weights["threshold"].ndim == 0:
        weights["threshold"] = weights["threshold"].expand(len(weights["W_enc"])).clone()
    return weights, computation


def _trainer(folder: SaeFolder) -> dict[str, Any]:
    trainer = read_object(folder.fetch(CONFIG)).get("trainer")
    if not isinstance(trainer, dict):
        raise SaeError(
            f"{folder} has {FILE}, but {CONFIG} has no trainer, so what its SAE computes is not known; "
            "dictionary_learning writes both"
        )
    return trainer


FORMAT = Format(describe, read)
