"""Forward up to the hookpoint and no further.

A forward hook reads the module itself. `output_hidden_states` is not used: its entry i is the *input* of
block i, and its last entry has passed the final norm, so the last block's output is not in it.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saescope.hookpoints import Hookpoint


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """Raised by the hook once the activation is there, so that later blocks and the LM head do not run."""


def first(output: Any) -> Tensor:
    """A module's activation: the tensor itself, or the first element of its tuple."""
    tensor = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(tensor, Tensor):
        raise TypeError(f"the hookpoint returned {type(tensor).__name__}, not a tensor")
    return tensor


class Capture:
    """Reads activations at one hookpoint of a causal language model."""

    def __init__(self, model: Any, hookpoint: Hookpoint) -> None:
        self.base = model.base_model
        self.module: nn.Module = self.base.get_submodule(hookpoint.name)
        self.hookpoint = hookpoint

    def __call__(self, input_ids_BT: Tensor) -> Tensor:
        """Activations [B, T, d_in] in the model's dtype; blocks above the hookpoint are not run.

        Where the side is `both`: the module's input and behind it its output, [B, T, 2 d_in].

        Right-padded batches need no attention mask here: attention is causal, so no real token sees padding.
        """
        caught: list[Tensor] = []

        def keep(tensor: Tensor) -> None:
            caught.append(tensor)
            raise _Reached

        handle = _hook(self.module, self.hookpoint.side, keep)
        try:
            self.base(input_ids=input_ids_BT, use_cache=False)
        except _Reached:
            return caught[0]
        finally:
            handle.remove()
        raise RuntimeError(f"the forward pass never reached {self.hookpoint.label}")

    def width(self) -> int:
        """Activation width, found by running two tokens."""
        with torch.inference_mode():
            device = next(self.base.parameters()).device
            return int(self(torch.zeros(1, 2, dtype=torch.long, device=device)).shape[-1])

    @contextmanager
    def replaced(self, edit: Callable[[Tensor, Tensor], Tensor]) -> Any:
        """While open, the activation at the hookpoint is `edit(x, activation)` in every forward pass.

        `x` is the module's input where the side is `both`, and else the activation itself.
        """
        side = self.hookpoint.side
        inputs: list[Tensor] = []

        def keep_input(module: nn.Module, args: Any, kwargs: Any) -> None:
            inputs[:] = [_input(args, kwargs)]

        def on_output(module: nn.Module, args: Any, output: Any) -> Any:
            old = first(output)
            new = edit(inputs.pop() if inputs else old, old)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        def on_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
            old = _input(args, kwargs)
            new = edit(old, old)
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        handles = []
        if side != "output":
            before = on_input if side == "input" else keep_input
            handles.append(self.module.register_forward_pre_hook(before, with_kwargs=True))
        if side != "input":
            handles.append(self.module.register_forward_hook(on_output))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _input(args: Any, kwargs: Any) -> Tensor:
    tensor: Tensor = args[0] if args else kwargs["hidden_states"]
    return tensor


def _hook(module: nn.Module, side: str, keep: Callable[[Tensor], None]) -> Any:
    def after(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        keep(first(output) if side == "output" else torch.cat([_input(args, kwargs), first(output)], dim=-1))

    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(_input(args, kwargs))

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after, with_kwargs=True)
