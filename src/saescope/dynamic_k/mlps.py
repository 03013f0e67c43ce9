"""The MLPs of a language model, and masks on their neurons.

A neuron's activation a is what the down-projection multiplies: act(W_up x) in GPT-NeoX and GPT-2,
act(W_gate x) · W_up x in gated MLPs. A forward pre-hook on the down-projection therefore sees, and changes,
exactly the neurons.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saescope.errors import ConfigError, choices
from saescope.model.blocks import LAST_PROJECTION, SUBLAYERS, Blocks


@dataclass(frozen=True)
class Mlp:
    """One MLP: its block, and its projections (`nn.Linear`, or GPT-2's transposed `Conv1D`)."""

    layer: int
    """0-based block."""

    name: str
    """Module name relative to `model.base_model`."""

    module: nn.Module
    up: nn.Module
    gate: nn.Module | None
    down: nn.Module

    d_ff: int
    """Neurons."""

    @property
    def projections(self) -> tuple[nn.Module, ...]:
        """The matrices, down-projection last."""
        return (self.up, *([] if self.gate is None else [self.gate]), self.down)


Choose = Callable[[Mlp, Tensor], Tensor]
"""(mlp, activations [B, T, d_ff]) → bool mask, broadcastable to the activations."""

Edit = Callable[[Mlp, Tensor], Tensor]
"""(mlp, activations [B, T, d_ff]) → activations [B, T, d_ff]."""


def find_mlps(model: Any, layers: tuple[int, ...] | None = None) -> list[Mlp]:
    """The MLPs of the model's blocks (weights not needed), of all or of the listed `layers`.

    Raises ConfigError for a layer the model does not have, or a block without up- and down-projection.
    """
    base: Any = getattr(model, "base_model", model)
    blocks = Blocks(base)
    last = len(blocks) - 1
    for layer in layers or ():
        if layer > last:
            raise ConfigError(f"dynamic_k.layers names layer {layer}; this model has layers 0–{last}")
    chosen = range(len(blocks)) if layers is None else sorted(set(layers))
    return [_mlp(blocks, layer) for layer in chosen]


def _mlp(blocks: Blocks, layer: int) -> Mlp:
    block = blocks.modules[layer]
    parts = dict(block.named_children())
    name = next((part for part in SUBLAYERS["mlp"] if part in parts), None)
    inside = {} if name is None else {n: m for n, m in parts[name].named_children() if is_matrix(m)}
    down = next((n for n in LAST_PROJECTION["mlp"] if n in inside), None)
    others = [n for n in inside if n != down]
    gates = [n for n in others if "gate" in n]
    ups = [n for n in others if n not in gates]
    if name is None or down is None or len(ups) != 1 or len(gates) > 1:
        names = parts if name is None else [f"{name}.{n}" for n, _ in parts[name].named_children()]
        raise ConfigError(
            "dynamic_k=mlp needs an MLP of an up- and a down-projection in every block; "
            f"{blocks.name(layer)} has {choices(names) or 'no parts'}; choose dynamic_k=sae or dynamic_k=none"
        )
    return Mlp(
        layer,
        f"{blocks.name(layer)}.{name}",
        parts[name],
        inside[ups[0]],
        inside[gates[0]] if gates else None,
        inside[down],
        int(weight_in_out(inside[down]).shape[0]),
    )


def is_matrix(module: nn.Module) -> bool:
    """Whether the module multiplies by a matrix: has a 2-D weight and looks nothing up in it."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def weight_in_out(module: nn.Module) -> Tensor:
    """A projection's weight as [inputs, outputs], a view: `nn.Linear` stores its transpose, `Conv1D` this."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.T if isinstance(module, nn.Linear) else weight


def down_norm_F(mlp: Mlp) -> Tensor:
    """‖w_down‖ of every neuron: the norm of what it writes at activation 1, [d_ff], float32."""
    norm_F: Tensor = torch.linalg.vector_norm(weight_in_out(mlp.down).float(), dim=1)
    return norm_F


def abs_act(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
    """|a|."""
    return acts_BTF.abs()


def abs_act_x_wnorm(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
    """|a|·‖w_down‖: the norm of what the neuron adds to the stream (WINA, 2505.19427)."""
    return acts_BTF.abs() * down_norm_F(mlp).to(acts_BTF.dtype)


@contextmanager
def edited(mlps: list[Mlp], edit: Edit) -> Iterator[None]:
    """While open, the activations of `mlps` are `edit(mlp, activations)` in every forward pass."""

    def hook(mlp: Mlp) -> Callable[[nn.Module, Any], Any]:
        return lambda _module, args: (edit(mlp, args[0]), *args[1:])

    handles: list[Any] = []
    try:
        handles += [mlp.down.register_forward_pre_hook(hook(mlp)) for mlp in mlps]
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def masked(mlps: list[Mlp], choose: Choose) -> Iterator[None]:
    """While open, neurons outside the mask `choose(mlp, activations)` are 0 in every forward pass.

    A kept activation keeps its bits: with an all-true mask the model is the untouched one.
    """

    def keep(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
        # not multiplied: 0 · inf would be NaN
        return acts_BTF.masked_fill(~choose(mlp, acts_BTF), 0)

    with edited(mlps, keep):
        yield


@contextmanager
def watched(mlps: list[Mlp], watch: Callable[[Mlp, Tensor], None]) -> Iterator[None]:
    """While open, `watch(mlp, activations)` is called in every forward pass, which it does not change."""

    def unchanged(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
        watch(mlp, acts_BTF)
        return acts_BTF

    with edited(mlps, unchanged):
        yield
