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
    def replaced(self, edit: Callable[[Tensor], Tensor]) -> Any:
        """While open, the activation at the hookpoint is `edit(activation)` in every forward pass."""
        side = self.hookpoint.side

        def on_output(module: nn.Module, args: Any, output: Any) -> Any:
            new = edit(first(output))
            return (new, *output[1:]) if isinstance(output, tuple) else new

        def on_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if args:
                return (edit(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"])}

        if side == "output":
            handle = self.module.register_forward_hook(on_output)
        else:
            handle = self.module.register_forward_pre_hook(on_input, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def _hook(module: nn.Module, side: str, keep: Callable[[Tensor], None]) -> Any:
    if side == "output":
        return module.register_forward_hook(lambda _module, _args, output: keep(first(output)))

    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    return module.register_forward_pre_hook(before, with_kwargs=True)
