"""Forward up to the hookpoint and no further.

A forward hook reads the module itself. `output_hidden_states` is not used: its entry i is the *input* of
block i, and its last entry has passed the final norm, so the last block's output is not in it.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saescope.errors import HookpointError
from saescope.hookpoints import Hookpoint


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """Raised by the hook once the activation is there, so that later blocks and the LM head do not run."""


class NoActivationError(RuntimeError):
    """The module is not called, or returns no tensor."""


def first(output: Any) -> Tensor:
    """A module's activation: the tensor itself, or the first element of its tuple."""
    tensor = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(tensor, Tensor):
        raise NoActivationError(f"the module returns {type(tensor).__name__}, not a tensor")
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
        raise NoActivationError(f"the forward pass does not run {self.hookpoint.label}")

    def width(self) -> int:
        """Activation width, found by running two tokens.

        Raises HookpointError where the module has no activation of the form [B, T, d_in].
        """
        name = self.hookpoint.label
        with torch.inference_mode():
            device = next(self.base.parameters()).device
            try:
                found = self(torch.zeros(1, 2, dtype=torch.long, device=device))
            except NoActivationError as error:
                raise HookpointError(f"hookpoint {name} has no activation: {error}") from error
        if found.shape[:2] != (1, 2) or found.ndim != 3 or not found.is_floating_point():
            raise HookpointError(
                f"hookpoint {name} gives {found.dtype} of shape {list(found.shape)} for 1 text of 2 tokens, "
                "not [texts, tokens, width]; choose the block, its mlp or its attention"
            )
        return int(found.shape[-1])

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
            handles = [self.module.register_forward_hook(on_output)]
        elif self._inside_stream:
            handles = self._replace_in_stream(edit)
        else:
            handles = [self.module.register_forward_pre_hook(on_input, with_kwargs=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def _inside_stream(self) -> bool:
        """The hookpoint is the residual stream between attention and MLP: the input of the MLP's norm."""
        point = self.hookpoint
        return (point.kind, point.side) == ("resid", "input") and not point.name.endswith(f".{point.layer}")

    def _replace_in_stream(self, edit: Callable[[Tensor], Tensor]) -> list[Any]:
        """The norm sees x' instead of x; the skip connection carries x, so x' − x is added at the end."""
        change: list[Tensor] = []

        def at_norm(_module: nn.Module, args: Any) -> Any:
            new = edit(args[0])
            change.append(new - args[0])
            return (new, *args[1:])

        def at_end(_module: nn.Module, _args: Any, output: Any) -> Any:
            new = first(output) + change.pop()
            return (new, *output[1:]) if isinstance(output, tuple) else new

        block = self.base.get_submodule(self.hookpoint.name.rpartition(".")[0])
        return [self.module.register_forward_pre_hook(at_norm), block.register_forward_hook(at_end)]


def _hook(module: nn.Module, side: str, keep: Callable[[Tensor], None]) -> Any:
    if side == "output":
        return module.register_forward_hook(lambda _module, _args, output: keep(first(output)))

    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    return module.register_forward_pre_hook(before, with_kwargs=True)
