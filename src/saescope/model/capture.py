"""Activations at a hookpoint: the forward pass runs up to it and no further.

A forward hook reads the module itself. `output_hidden_states` is not used: its entry i is the *input* of
block i, and its last entry has passed the final norm, so the last block's output is not in it.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from saescope.errors import HookpointError
from saescope.model.blocks import embeddings
from saescope.model.hookpoints import Hookpoint


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """Raised by the hook once the activation is there, so that later blocks and the LM head do not run."""


class NoActivationError(RuntimeError):
    """The forward pass does not call the module, or the module takes or returns no tensor."""


def first(output: Any) -> Tensor:
    """A module's activation: the tensor itself, or the first element of its tuple."""
    tensor = next(iter(output), None) if isinstance(output, tuple | list) else output
    if not isinstance(tensor, Tensor):
        raise NoActivationError(f"the module returns {type(tensor).__name__}, not a tensor")
    return tensor


class Capture:
    """Reads activations at one hookpoint of a causal language model."""

    def __init__(self, model: Any, hookpoint: Hookpoint) -> None:
        self.base = model.base_model
        self.module: nn.Module = self.base.get_submodule(hookpoint.name)
        self.hookpoint = hookpoint
        reads = hookpoint.reads
        self.reader = self.module if reads is None else self.base.get_submodule(reads.name)
        self.read_side = "input" if reads is None else reads.side
        """Module and side of what a transcoder reads."""

    def __call__(self, input_ids_BT: Tensor) -> Tensor:
        """Activations [B, T, d_in] in the model's dtype; blocks above the hookpoint are not run.

        Where the side is `both`: what a transcoder reads, behind it what it predicts, [B, T, d_in + d_out].

        Right-padded batches need no attention mask here: attention is causal, so no real token sees padding.
        Raises NoActivationError.
        """
        caught: list[Tensor] = []

        def keep(tensor: Tensor) -> None:
            caught.append(tensor)
            raise _Reached

        side = self.hookpoint.side
        with ExitStack() as hooks, suppress(_Reached):
            if side == "both":
                hooks.callback(_hook(self.reader, self.read_side, caught.append).remove)
            hooks.callback(_hook(self.module, "output" if side == "both" else side, keep).remove)
            self.base(input_ids=input_ids_BT, use_cache=False)
        if side != "both" and caught:
            return _unfolded(caught[0], input_ids_BT.shape, self.hookpoint)
        if len(caught) == 2:
            return torch.cat([_unfolded(part, input_ids_BT.shape, self.hookpoint) for part in caught], dim=-1)
        reads = self.hookpoint.reads
        before = f"{reads.label} before " if reads is not None else ""
        raise NoActivationError(f"the forward pass does not run {before}{self.hookpoint.label}")

    def width(self) -> int:
        """Activation width d_in (d_in + d_out where the side is `both`), from a run of two tokens.

        Raises HookpointError where the module has no activation of the form [B, T, d_in].
        """
        name = self.hookpoint.label
        with torch.inference_mode():
            device = next(self.base.parameters()).device
            try:
                activation = self(torch.zeros(1, 2, dtype=torch.long, device=device))
            except NoActivationError as error:
                raise HookpointError(f"hookpoint {name} has no activation: {error}") from error
        usable = activation.ndim == 3 and activation.shape[:2] == (1, 2) and activation.shape[2] > 0
        if not usable or not activation.is_floating_point():
            raise HookpointError(
                f"hookpoint {name} gives {activation.dtype} of shape {list(activation.shape)} for 1 text of "
                "2 tokens, not [texts, tokens, width]; choose the block, its mlp or its attention"
            )
        return int(activation.shape[-1])

    @contextmanager
    def replaced(self, edit: Callable[[Tensor, Tensor], Tensor]) -> Any:
        """While open, the activation at the hookpoint is `edit(x, activation)` in every forward pass.

        `x` is what a transcoder reads where the side is `both`, and else the activation itself.
        """
        side = self.hookpoint.side
        inputs: list[Tensor] = []
        shapes: list[torch.Size] = []

        def keep_shape(_module: nn.Module, args: Any, _output: Any) -> None:
            shapes[:] = [args[0].shape]

        def edited(x: Tensor, old: Tensor) -> Tensor:
            if not _is_folded(old, self.hookpoint):
                return edit(x, old)
            return edit(
                _unfolded(x, shapes[0], self.hookpoint), _unfolded(old, shapes[0], self.hookpoint)
            ).flatten(0, 1)

        def keep_input(tensor: Tensor) -> None:
            inputs[:] = [tensor]

        def on_output(module: nn.Module, args: Any, output: Any) -> Any:
            old = first(output)
            new = edited(inputs.pop() if inputs else old, old)
            if isinstance(output, list):
                return [new, *output[1:]]
            return (new, *output[1:]) if isinstance(output, tuple) else new

        def on_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
            old = _input(args, kwargs)
            new = edited(old, old)
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        handles: list[Any] = [embeddings(self.base).register_forward_hook(keep_shape)]
        if self._inside_stream:
            handles += self._replace_in_stream(edited)
        else:
            if side == "both":
                handles.append(_hook(self.reader, self.read_side, keep_input))
            if side == "input":
                handles.append(self.module.register_forward_pre_hook(on_input, with_kwargs=True))
            if side != "input":
                handles.append(self.module.register_forward_hook(on_output))
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

    def _replace_in_stream(self, edit: Callable[[Tensor, Tensor], Tensor]) -> list[Any]:
        """The norm sees x' instead of x; the skip connection carries x, so x' − x is added at the end."""
        change: list[Tensor] = []

        def before_norm(_module: nn.Module, args: Any, kwargs: Any) -> Any:
            old = _input(args, kwargs)
            new = edit(old, old)
            change.append(new - old)
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        def after_block(_module: nn.Module, _args: Any, output: Any) -> Any:
            old = first(output)
            new = old + change.pop().reshape(old.shape)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        block = self.base.get_submodule(self.hookpoint.name.rpartition(".")[0])
        return [
            self.module.register_forward_pre_hook(before_norm, with_kwargs=True),
            block.register_forward_hook(after_block),
        ]


def _is_folded(activation: Tensor, hookpoint: Hookpoint) -> bool:
    """Whether it is [B · T, d_in]: OPT runs its MLP on all tokens in one row after the other.

    Not asked of a custom module: its rows may be sorted, as those of experts are.
    """
    return activation.ndim == 2 and hookpoint.kind != "custom"


def _unfolded(activation: Tensor, shape_BT: torch.Size, hookpoint: Hookpoint) -> Tensor:
    """The activation as [B, T, d_in] where the module folds the first two axes into one."""
    if not _is_folded(activation, hookpoint) or len(activation) != shape_BT.numel():
        return activation
    return activation.reshape(*shape_BT, activation.shape[-1])


def first_input(args: Any, kwargs: Any) -> Tensor | None:
    """A module's input: its first positional argument, or `hidden_states`; None where that is no tensor."""
    tensor = args[0] if args else kwargs.get("hidden_states")
    return tensor if isinstance(tensor, Tensor) else None


class Captures:
    """Reads activations at several hookpoints of a model in one forward pass."""

    def __init__(self, model: Any, hookpoints: Sequence[Hookpoint]) -> None:
        self.base = model.base_model
        self.modules = [self.base.get_submodule(hookpoint.name) for hookpoint in hookpoints]
        self.hookpoints = tuple(hookpoints)

    def __call__(self, input_ids_BT: Tensor) -> Tensor:
        """Activations [B, T, Σ d_in], those of the hookpoints side by side in their order.

        Blocks above the last hookpoint are not run. Raises NoActivationError.
        """
        return torch.cat(self.each(input_ids_BT), dim=-1)

    def each(self, input_ids_BT: Tensor) -> list[Tensor]:
        """Activations [B, T, d_in] of every hookpoint. Raises NoActivationError."""
        caught: dict[int, Tensor] = {}
        with ExitStack() as handles:
            for number, (module, hookpoint) in enumerate(zip(self.modules, self.hookpoints, strict=True)):

                def keep(tensor: Tensor, number: int = number) -> None:
                    caught[number] = tensor
                    if len(caught) == len(self.hookpoints):
                        raise _Reached

                handles.callback(_hook(module, hookpoint.side, keep).remove)
            try:
                self.base(input_ids=input_ids_BT, use_cache=False)
            except _Reached:
                return [
                    _unfolded(caught[number], input_ids_BT.shape, hookpoint)
                    for number, hookpoint in enumerate(self.hookpoints)
                ]
        missing = [point.label for number, point in enumerate(self.hookpoints) if number not in caught]
        raise NoActivationError(f"the forward pass does not run {', '.join(missing)}")

    def widths(self) -> list[int]:
        """Width of every hookpoint's activations, from a run of two tokens. Raises NoActivationError."""
        device = next(self.base.parameters()).device
        with torch.inference_mode():
            return [x.shape[-1] for x in self.each(torch.zeros(1, 2, dtype=torch.long, device=device))]

    def width(self) -> int:
        """Sum of `widths`."""
        return sum(self.widths())


def _input(args: Any, kwargs: Any) -> Tensor:
    tensor = first_input(args, kwargs)
    if tensor is None:
        raise NoActivationError("the module is given no tensor")
    return tensor


def _hook(module: nn.Module, side: str, keep: Callable[[Tensor], None]) -> Any:
    """Hook that gives `keep` the input or output of the module; returns its handle."""

    def after(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        keep(first(output))

    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(_input(args, kwargs))

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after, with_kwargs=True)
