"""Any spelling of a hookpoint → the module to hook, its side and kind.

Understood: sparsify (`layers.3`, `layers.3.mlp`, `h.3`) and TransformerLens / SAELens
(`blocks.3.hook_resid_post`, …) in every model (`hookpoint_names.py`), the model's own module names with and
without its root (`gpt_neox.layers.3.mlp.act`), `.input` after any of them for the module's input, and a layer
or depth with a kind.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from saescope.config import HookpointConfig
from saescope.config.hookpoint import layer_at
from saescope.errors import HookpointError, choices
from saescope.model.blocks import Blocks, Place
from saescope.model.hookpoint_names import EMBED, LENS, layer_in, parse, ranked, with_layer

log = logging.getLogger(__name__)

POSITION_OF_KIND = {"resid": "resid_post", "mlp": "mlp", "attention": "attention"}
SHOWN = 6
"""Valid names listed in an error."""


@dataclass(frozen=True)
class Hookpoint:
    """A place in the model where activations are read."""

    name: str
    """Module name relative to `model.base_model`, as sparsify stores it (`layers.3.mlp`)."""

    kind: str
    """`resid`, `mlp`, `attention` or `custom`."""

    side: str
    """`output` of the module (first element of a tuple), its `input`, or `both` (for a transcoder): the
    activation it reads and behind it the module's output."""

    layer: int | None
    """0-based block, where there is one."""

    num_layers: int
    """Blocks in the model."""

    reads: "Hookpoint | None" = None
    """Where the side is `both`: the activation the transcoder reads; None is the module's own input."""
    position: str | None = field(default=None, compare=False)
    """The one of `blocks.POSITIONS` it was chosen as; None for a module by its own name, taken as it is."""

    @property
    def label(self) -> str:
        """Name for people and for file names, which `resolve` understands."""
        return self.name if self.side == "output" else f"{self.name}.input"


def resolve(cfg: HookpointConfig, model: nn.Module, *, quiet: bool = False) -> Hookpoint:
    """Find the hookpoint in `model` (a causal LM, weights not needed), and log what it is unless `quiet`.

    Raises HookpointError naming the valid layers, or the valid names nearest first, when it is not there.
    """
    base: Any = getattr(model, "base_model", model)
    blocks = Blocks(base)
    if cfg.kind == "custom":
        assert cfg.name is not None
        requested = cfg.name
        place, position = _by_name(cfg.name, model, base, blocks)
    else:
        layer = cfg.layer
        if layer is None:
            assert cfg.depth is not None
            layer = layer_at(cfg.depth, len(blocks))
            requested = f"{cfg.kind} at depth {cfg.depth:g}"
        else:
            requested = f"{cfg.kind} of layer {layer}"
        check_layer(layer, len(blocks))
        position = POSITION_OF_KIND[cfg.kind]
        place = blocks.place(layer, position)
    hookpoint = _hookpoint(place, blocks, position)
    log.log(
        logging.DEBUG if quiet else logging.INFO,
        "%s is the %s of module %s (%s, %s)",
        requested,
        hookpoint.side,
        hookpoint.name,
        hookpoint.kind,
        "in no block"
        if hookpoint.layer is None
        else f"layer {hookpoint.layer} of 0–{hookpoint.num_layers - 1}",
    )
    return hookpoint


def check_layer(layer: int, num_layers: int) -> None:
    """Raises HookpointError for a layer the model does not have."""
    last = num_layers - 1
    if layer > last:
        raise HookpointError(
            f"hookpoint.layer={layer}: this model has layers 0–{last}; "
            f"choose hookpoint.layer={last} or less, or hookpoint.depth"
        )


def _hookpoint(place: Place, blocks: Blocks, position: str | None) -> Hookpoint:
    layer = layer_in(place.name.removeprefix(blocks.prefix)) if blocks.holds(place.name) else None
    return Hookpoint(place.name, place.kind, place.side, layer, len(blocks), position=position)


def _by_name(name: str, model: nn.Module, base: nn.Module, blocks: Blocks) -> tuple[Place, str | None]:
    """The place a name means: a module's own name first, then the spellings every model shares.

    With it the position, where the name is one of those spellings.

    Raises HookpointError with the valid names.
    """
    outer = next((n for n, module in model.named_modules() if module is base), "")
    modules = {n: m for n, m in base.named_modules() if n and not isinstance(m, nn.ModuleList)}
    plain, side = name, "output"
    if name.endswith(".input") and _without(outer, name) not in modules:
        plain, side = name.removesuffix(".input"), "input"
    short = _without(outer, plain)
    if short in modules:
        return _own_name(short, side, modules[short], blocks), None
    if plain == EMBED:
        return blocks.embedding(), None
    parsed = parse(plain)
    if parsed is not None and (side == "output" or not plain.startswith("blocks.")):
        layer, position = parsed
        _check_layer(layer, name, blocks)
        place = blocks.place(layer, position)
        if side == "output":
            return place, position
        return _own_name(place.name, side, modules[place.name], blocks), None
    named_layer = layer_in(name)
    if named_layer is not None:
        _check_layer(named_layer, name, blocks)
    nearest = ranked(name, _valid(named_layer, modules, blocks))
    raise HookpointError(
        f"hookpoint.name={name} is not in {type(model).__name__}: did you mean '{nearest[0]}'? "
        f"valid, nearest first: {choices(nearest, SHOWN)}; "
        f"blocks are {blocks.name(0)} to {blocks.name(len(blocks) - 1)}"
    )


def _without(root: str, name: str) -> str:
    """`name` relative to the module `root`."""
    return name.removeprefix(root + ".") if root else name


def _own_name(name: str, side: str, module: nn.Module, blocks: Blocks) -> Place:
    """The place of a module; its kind is that of the position in the block where the two are the same."""
    if side == "input" and isinstance(module, nn.Embedding):
        raise HookpointError(
            f"hookpoint.name={name}.input holds token ids, not activations; choose hookpoint.name={name}"
        )
    layer = layer_in(name.removeprefix(blocks.prefix)) if blocks.holds(name) else None
    if layer is not None:
        for place in blocks.places(layer).values():
            if (place.name, place.side) == (name, side):
                return place
    return Place(name, side, "custom")


def _check_layer(layer: int, name: str, blocks: Blocks) -> None:
    last = len(blocks) - 1
    if layer > last:
        raise HookpointError(
            f"hookpoint.name={name}: this model has layers 0–{last}; "
            f"nearest: hookpoint.name={with_layer(name, last)}"
        )


def _valid(layer: int | None, modules: dict[str, nn.Module], blocks: Blocks) -> list[str]:
    """Names to choose from: those of `layer`; without one those of block 0 and outside the blocks."""
    block_number = layer or 0
    block = blocks.name(block_number)
    module_names = [n for n in modules if n == block or n.startswith(block + ".")]
    positions = blocks.places(block_number)
    lens_names = [f"blocks.{block_number}.{hook}" for hook, position in LENS.items() if position in positions]
    outside = [n for n in modules if not blocks.holds(n)] if layer is None else []
    return [*module_names, *lens_names, *outside]
