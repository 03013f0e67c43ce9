"""Spellings of a hookpoint that mean the same in every model. Free of torch.

sparsify: `layers.3`, `layers.3.mlp`, `layers.3.attention`, `h.3`. TransformerLens and SAELens:
`blocks.3.hook_resid_post` and the other keys of `LENS`. Names that only one model has (`gpt_neox.layers.3`)
are looked up in the model itself, by `hookpoints.py`.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "attn_z",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_out": "mlp",
    "mlp.hook_post": "mlp_post",
    "hook_mlp_in": "mlp_norm_in",
}
"""TransformerLens' name in a block → position (`blocks.POSITIONS`)."""

EMBED = "hook_embed"
"""TransformerLens' name of the token embeddings, which are in no block."""

PARTS = {
    None: "resid_post",
    "mlp": "mlp",
    "attention": "attention",
    "attn": "attention",
    "self_attn": "attention",
}
"""Part of a block in sparsify's spelling → position; sparsify takes the output of a module as it is."""

_LENS = re.compile(r"blocks\.(\d+)\.([\w.]+)")
_SHORT = re.compile(r"(?:layers|h)\.(\d+)(?:\.(mlp|attention|attn|self_attn))?")
_LAYER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


def parse(name: str) -> tuple[int, str] | None:
    """Layer and position of a name in one of the spellings above; None for any other name."""
    lens, short = _LENS.fullmatch(name), _SHORT.fullmatch(name)
    if lens and lens[2] in LENS:
        return int(lens[1]), LENS[lens[2]]
    return (int(short[1]), PARTS[short[2]]) if short else None


def layer_in(name: str) -> int | None:
    """The first number between dots, which is the layer in module names; None without one."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def with_layer(name: str, layer: int) -> str:
    """The same name at another layer."""
    match = _LAYER.search(name)
    return name[: match.start(1)] + str(layer) + name[match.end(1) :] if match else name


def ranked(name: str, valid: Iterable[str]) -> list[str]:
    """`valid`, the most similar first; what follows the layer number counts before the rest."""

    def likeness(other: str) -> tuple[float, float]:
        return _ratio(_tail(name), _tail(other)), _ratio(name, other)

    return sorted(valid, key=likeness, reverse=True)


def _tail(name: str) -> str:
    match = _LAYER.search(name)
    return name[match.end(1) :] if match else name


def _ratio(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b).ratio() if a != b else 1.0
