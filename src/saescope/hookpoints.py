"""Any spelling of a hookpoint → the module to hook, its side, kind and width.

Understood: sparsify (`layers.3`, `layers.3.mlp`, `layers.3.attention`), full Hugging Face names
(`gpt_neox.layers.3`, `transformer.h.3`), TransformerLens / SAELens (`blocks.3.hook_resid_post`,
`hook_resid_pre`, `hook_mlp_out`, `hook_attn_out`), and a layer or depth with a kind.
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from saescope.config import HookpointConfig
from saescope.config.hookpoint import layer_at
from saescope.errors import HookpointError, choices, nearest

SUBLAYERS = {
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe"),
    "attention": ("attention", "self_attn", "attn", "self_attention"),
}
LENS = re.compile(r"^blocks\.(\d+)\.(hook_resid_post|hook_resid_pre|hook_mlp_out|hook_attn_out)$")
LENS_KIND = {
    "hook_mlp_out": "mlp",
    "hook_attn_out": "attention",
    "hook_resid_post": "resid",
    "hook_resid_pre": "resid",
}


@dataclass(frozen=True)
class Hookpoint:
    """A place in the model where activations are read."""

    name: str
    """Module name relative to `model.base_model`, as sparsify stores it (`layers.3.mlp`)."""

    kind: str
    """`resid`, `mlp`, `attention` or `custom`."""

    side: str
    """`output` of the module (first element of a tuple), or its `input`."""

    layer: int | None
    """0-based block, where there is one."""

    num_layers: int
    """Blocks in the model."""

    @property
    def label(self) -> str:
        """Name for people and file names."""
        return self.name if self.side == "output" else f"{self.name}.input"


def resolve(cfg: HookpointConfig, model: nn.Module) -> Hookpoint:
    """Find the hookpoint in `model` (a causal LM, weights not needed).

    Raises HookpointError naming the valid layers or the nearest module when it is not there.
    """
    base: Any = getattr(model, "base_model", model)
    prefix, blocks = _blocks(base)
    if cfg.kind == "custom":
        assert cfg.name is not None
        return _by_name(cfg.name, model, base, prefix, blocks)
    layer = cfg.layer
    if layer is None:
        assert cfg.depth is not None
        layer = layer_at(cfg.depth, len(blocks))
    _check_layer(layer, blocks, f"hookpoint.layer={layer}")
    return _in_block(cfg.kind, layer, prefix, blocks, side="output")


def _blocks(base: nn.Module) -> tuple[str, nn.ModuleList]:
    """The ModuleList of transformer blocks and its name."""
    wanted = getattr(getattr(base, "config", None), "num_hidden_layers", None)
    lists = [(name, module) for name, module in base.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in lists:
        if len(module) == wanted:
            return name, module
    raise HookpointError(
        f"{type(base).__name__} has no list of {wanted} blocks; "
        f"lists found: {choices(f'{name} ({len(module)})' for name, module in lists) or 'none'}"
    )


def _check_layer(layer: int, blocks: nn.ModuleList, asked: str) -> None:
    if not 0 <= layer < len(blocks):
        raise HookpointError(
            f"{asked}: this model has layers 0–{len(blocks) - 1}; choose hookpoint.layer in that range"
        )


def _in_block(kind: str, layer: int, prefix: str, blocks: nn.ModuleList, side: str) -> Hookpoint:
    name = f"{prefix}.{layer}"
    if kind != "resid":
        children = [child for child, _ in blocks[layer].named_children()]
        found = [child for child in SUBLAYERS[kind] if child in children]
        if not found:
            raise HookpointError(
                f"block {name} has no {kind} module; its parts are {choices(children)}; "
                f"choose one with hookpoint=custom hookpoint.name={name}.PART"
            )
        name = f"{name}.{found[0]}"
    return Hookpoint(name, kind, side, layer, len(blocks))


def _by_name(name: str, model: nn.Module, base: nn.Module, prefix: str, blocks: nn.ModuleList) -> Hookpoint:
    lens = LENS.match(name)
    if lens:
        layer, hook = int(lens[1]), lens[2]
        _check_layer(layer, blocks, f"hookpoint.name={name}")
        return _in_block(
            LENS_KIND[hook], layer, prefix, blocks, "input" if hook == "hook_resid_pre" else "output"
        )
    modules = dict(base.named_modules())
    outer = next((n for n, module in model.named_modules() if module is base), "")
    short = name.removeprefix(outer + ".") if outer else name
    if not short or short not in modules:
        match = re.match(rf"^{re.escape(prefix)}\.(\d+)(\.|$)", short)
        if match:
            _check_layer(int(match[1]), blocks, f"hookpoint.name={name}")
        valid = [n for n in modules if n]
        inside = [n for n in valid if n.startswith(f"{prefix}.0")]
        raise HookpointError(
            f"hookpoint.name={name} is not in {type(model).__name__}: {nearest(short, valid)}"
            f"blocks are {prefix}.0 to {prefix}.{len(blocks) - 1}, parts of a block: {choices(inside, 12)}"
        )
    in_block = re.match(rf"^{re.escape(prefix)}\.(\d+)(?:\.(\w+))?$", short)
    kind, block_layer = "custom", re.match(rf"^{re.escape(prefix)}\.(\d+)\.", short + ".")
    if in_block:
        part = in_block[2]
        kind = (
            "resid"
            if part is None
            else next((k for k, names in SUBLAYERS.items() if part in names), "custom")
        )
    return Hookpoint(short, kind, "output", int(block_layer[1]) if block_layer else None, len(blocks))
