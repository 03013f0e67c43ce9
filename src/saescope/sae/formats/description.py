"""What is known of an SAE of another library before its weights are read."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from saescope.sae.dense import Computation
from saescope.sae.repository import SaeFolder

Weights = dict[str, Tensor]
"""By the names of `dense.DenseSae`."""


@dataclass(frozen=True)
class Description:
    """What its config, or its name where it has none, says."""

    computation: Computation | None
    """None where only the weights' file tells."""

    d_in: int | None = None
    num_latents: int | None = None

    hook: str | None = None
    """The hookpoint it reconstructs; None where nothing says."""

    reads: str | None = None
    """The hookpoint a transcoder reads."""

    every_layer: bool = False
    """One SAE for the outputs of all blocks, or of `layers`."""

    layers: tuple[int, ...] = ()
    """Blocks it was trained on; empty: all."""

    model_name: str | None = None

    notices: tuple[str, ...] = ()
    """Warnings for readers of results, in sentences."""


@dataclass(frozen=True)
class Format:
    """How a library stores SAEs."""

    describe: Callable[[SaeFolder, str], Description]
    """From a folder and the hookpoint's name; fetches configs only. Raises SaeError."""

    read: Callable[[SaeFolder, str, Description], tuple[Weights, Computation]]
    """Weights in float32 and what is computed from them. Raises SaeError."""
