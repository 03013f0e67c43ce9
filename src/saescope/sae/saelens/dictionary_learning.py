"""A dictionary_learning folder (`ae.pt`, `config.json`) → config and weights of a sae_lens SAE.

sae_lens converts these from the Hub only; the same mapping is applied here to a folder, read without running
code, and restricted to the classes whose mathematics it keeps.
"""

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saescope.errors import SaeError, choices
from saescope.sae.saelens.folder import error_summary, read_json
from saescope.sae.saelens.module import build

CONFIG, WEIGHTS = "config.json", "ae.pt"

# dict_class → architecture of sae_lens
CLASSES = {
    "AutoEncoder": "standard",
    "GatedAutoEncoder": "gated",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "jumprelu",
    "MatryoshkaBatchTopKSAE": "jumprelu",
    "JumpReluAutoEncoder": "jumprelu",
}
# sae_lens' name → names in ae.pt; a star marks a matrix stored the other way round
NAMES = {
    "W_enc": ("W_enc", "*encoder.weight"),
    "W_dec": ("W_dec", "*decoder.weight"),
    "b_dec": ("b_dec", "bias", "decoder_bias"),
    "b_enc": ("b_enc", "encoder.bias"),
    "b_gate": ("gate_bias",),
    "b_mag": ("mag_bias",),
    "r_mag": ("r_mag",),
    "threshold": ("threshold",),
}
NEEDED = {
    "standard": ("W_enc", "W_dec", "b_dec", "b_enc"),
    "topk": ("W_enc", "W_dec", "b_dec", "b_enc"),
    "gated": ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"),
    "jumprelu": ("W_enc", "W_dec", "b_dec", "b_enc", "threshold"),
}
SUBMODULE = re.compile(r"^(resid_post|resid_out|mlp_out|attn_out|attention_out)_?(?:layer_?)?(\d+)$")
HOOKS = {
    "resid": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attn": "hook_attn_out",
    "attention": "hook_attn_out",
}


@dataclass(frozen=True)
class Dictionary:
    """A dictionary trained with dictionary_learning."""

    path: Path

    converter = "dictionary_learning_1"

    def config(self) -> dict[str, Any]:
        """Config in sae_lens' terms. Raises SaeError for a class that sae_lens has no architecture for."""
        trainer = read_json(self.path / CONFIG).get("trainer")
        if not isinstance(trainer, dict) or not (self.path / WEIGHTS).is_file():
            raise SaeError(
                f"{self.path} is neither in SAELens layout nor a dictionary_learning folder "
                f"({WEIGHTS}, and {CONFIG} with a trainer)"
            )
        kind = str(trainer.get("dict_class"))
        if kind not in CLASSES:
            raise SaeError(
                f"{self.path} is in dictionary_learning format with dict_class {kind} (trainer "
                f"{trainer.get('trainer_class')}), which is not supported; supported: {choices(CLASSES)}"
            )
        for key in ("activation_dim", "dict_size", *(["k"] if CLASSES[kind] == "topk" else [])):
            if not isinstance(trainer.get(key), int) or trainer[key] < 1:
                raise SaeError(f"{self.path / CONFIG} has no valid trainer.{key}; it cannot be guessed")
        name = str(trainer.get("submodule_name"))
        submodule = SUBMODULE.match(name)
        hook = f"blocks.{submodule[2]}.{HOOKS[submodule[1].split('_')[0]]}" if submodule else None
        return {
            "architecture": CLASSES[kind],
            "d_in": trainer["activation_dim"],
            "d_sae": trainer["dict_size"],
            **({"k": trainer["k"]} if CLASSES[kind] == "topk" else {}),
            # its JumpReLU does not subtract b_dec from the input, all other classes do
            "apply_b_dec_to_input": kind != "JumpReluAutoEncoder",
            "metadata": {
                "hook_name": hook,
                "model_name": trainer.get("lm_name"),
                "dict_class": kind,
                "sae_lens_version": "6.0.0",
            },
        }

    def load(self) -> Any:
        """The SAE in float32. Raises SaeError for a file that would run code or lacks a weight."""
        path = self.path / WEIGHTS
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise SaeError(
                f"{path} is damaged, or a pickle that would run code when read; refused"
            ) from error
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise SaeError(f"{path} cannot be read: {error_summary(error)}") from error
        if not isinstance(stored, dict):
            raise SaeError(f"{path} holds a {type(stored).__name__}, not a dictionary of weights")
        cfg = self.config()
        weights = {name: self._weight(stored, name) for name in NEEDED[cfg["architecture"]]}
        if "threshold" in weights:
            weights["threshold"] = weights["threshold"].expand(cfg["d_sae"]).clone()
        try:
            return build(cfg, weights)
        except RuntimeError as error:
            raise SaeError(f"{path} does not fit {CONFIG}: {error_summary(error)}") from error

    def _weight(self, stored: dict[str, Any], name: str) -> Tensor:
        """The weight sae_lens calls `name`, under whichever of its names it is stored. Raises SaeError."""
        for stored_name in NAMES[name]:
            weight = stored.get(stored_name.removeprefix("*"))
            if isinstance(weight, Tensor):
                return (weight.T if stored_name.startswith("*") else weight).float().contiguous()
        raise SaeError(
            f"{self.path / WEIGHTS} has no {name} under any of its names ({choices(NAMES[name])}); "
            f"it has {choices(map(str, stored))}"
        )
