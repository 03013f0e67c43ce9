"""The upper part of a model: run from one of its blocks on, given the residual stream that enters it.

The blocks below only pass their input on, so whatever the model does before, between and after its blocks
(masks, position embeddings, final norm, unembedding, logit caps) stays its own code.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saescope.model.blocks import Blocks
from saescope.model.capture import first
from saescope.model.hookpoints import Hookpoint

log = logging.getLogger(__name__)

CHECKED_TOKENS = 8
TOLERANCE = 1e-3
"""Largest difference of logits in the check, in their standard deviations. The same operations on the same
numbers differ by nothing; a model that needs more of its lower blocks than the stream differs by much."""


class UpperBlocks:
    """Block `entry` of a causal language model and all blocks above it; `entry` = number of blocks: none."""

    def __init__(self, model: Any, entry: int) -> None:
        blocks = Blocks(model.base_model).modules
        assert 0 < entry <= len(blocks), "there is a block below"
        self.below: list[nn.Module] = list(blocks)[:entry]
        self.others: tuple[Any, ...] | None = None
        """What a block returns beside the stream; None where it returns the stream alone."""

    @contextmanager
    def recorded(self) -> Iterator[list[Tensor]]:
        """While open, every forward pass appends the stream [B, T, d] that enters the upper blocks."""
        streams: list[Tensor] = []

        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            streams.append(first(output))
            if isinstance(output, tuple):
                self.others = tuple(None if isinstance(item, Tensor) else item for item in output[1:])

        handle = self.below[-1].register_forward_hook(keep)
        try:
            yield streams
        finally:
            handle.remove()

    @contextmanager
    def entered(self, stream_BTd: Tensor) -> Iterator[None]:
        """While open, forward passes over texts of this shape [B, T] start from `stream_BTd`."""

        def pass_on(*args: Any, **kwargs: Any) -> Any:
            return self._output(args[0] if args else kwargs["hidden_states"])

        def give_stream(*_args: Any, **_kwargs: Any) -> Any:
            return self._output(stream_BTd)

        for block in self.below:
            block.forward = give_stream if block is self.below[-1] else pass_on  # type: ignore[method-assign]
        try:
            yield
        finally:
            for block in self.below:
                del block.forward

    def _output(self, stream_BTd: Tensor) -> Any:
        """The stream in the form in which a block of this model returns it."""
        return stream_BTd if self.others is None else (stream_BTd, *self.others)


def upper_blocks(model: Any, hookpoint: Hookpoint, input_ids_BT: Tensor) -> UpperBlocks | None:
    """The blocks that an edit at `hookpoint` can reach; None where there is nothing below to leave out.

    `input_ids_BT` are some tokens to check it with: a model that cannot be entered there gives None, and a
    line in the log.
    """
    entry = entry_of(model, hookpoint)
    return None if entry is None else entered_at(model, [entry], input_ids_BT)[entry]


def entry_of(model: Any, hookpoint: Hookpoint) -> int | None:
    """The first block that an edit at `hookpoint` can reach; None where it needs the blocks below."""
    reads = hookpoint.layer if hookpoint.reads is None else hookpoint.reads.layer
    if hookpoint.layer is None or reads is None or reads < hookpoint.layer:
        return None  # an edit that reads below needs the blocks there
    is_block_output = hookpoint.side == "output" and hookpoint.name.endswith(f".{hookpoint.layer}")
    return hookpoint.layer + 1 if is_block_output else hookpoint.layer


def top(model: Any) -> int:
    """What follows the last block, final norm and unembedding, as an entry."""
    return len(Blocks(model.base_model))


def entered_at(model: Any, entries: Collection[int], input_ids_BT: Tensor) -> dict[int, UpperBlocks | None]:
    """The blocks from each entry on, checked against one pass of the whole; None as in `upper_blocks`."""
    input_ids_BT = input_ids_BT[:1, :CHECKED_TOKENS]
    uppers = {entry: UpperBlocks(model, entry) for entry in entries if entry > 0}
    checked: dict[int, UpperBlocks | None] = dict.fromkeys(entries)
    with ExitStack() as recording:
        streams = {entry: recording.enter_context(upper.recorded()) for entry, upper in uppers.items()}
        whole = _logits(model, input_ids_BT) if uppers else None
    for entry, upper in uppers.items():
        part = None
        if streams[entry]:
            with upper.entered(streams[entry][0]):
                part = _logits(model, input_ids_BT)
        if whole is not None and part is not None:
            gap = (whole - part).abs().max()
            checked[entry] = upper if gap <= TOLERANCE * whole.std() else None
        if checked[entry] is None:
            name = type(model).__name__
            log.info("%s cannot be entered at block %d; losses run the whole model", name, entry)
    return checked


def _logits(model: Any, input_ids_BT: Tensor) -> Tensor | None:
    """The logits in float32; None where the model, or what it has become, does not run."""
    try:
        with torch.inference_mode():
            logits: Tensor = model(input_ids=input_ids_BT, use_cache=False).logits.float()
    # a model that reads more of its lower blocks than their stream fails in its own way
    except Exception as error:
        log.debug("%s does not run from one of its blocks: %s", type(model).__name__, error)
        return None
    return logits
