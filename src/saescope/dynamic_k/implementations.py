"""Implementations that do less work: gathered rows of one token, and physically smaller weights.

`gathered`: the down-projection reads only the rows of the kept neurons, by `embedding_bag` (a fused gather,
multiply and add). The up-projection is computed in full, because the choice depends on it.
`sliced`: one mask for all tokens, known beforehand: all projections of the MLP are cut to the kept neurons.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from saescope.dynamic_k.mlps import Choose, Mlp, weight_in_out

Compensate = Mapping[int, Tensor]
"""Layer → mean of the dropped activations, [d_ff]."""


class GatheredDown(nn.Module):
    """A down-projection that reads the rows of the neurons its mask keeps."""

    def __init__(self, mlp: Mlp, choose: Choose, dropped_F: Tensor | None) -> None:
        super().__init__()
        self.mlp, self.choose = mlp, choose
        self.weight_FD = weight_in_out(mlp.down).contiguous()
        self.bias_D = _bias(mlp, dropped_F)

    def forward(self, acts_BTF: Tensor) -> Tensor:
        """[B, T, d_ff] → [B, T, d]."""
        mask_NF = self.choose(self.mlp, acts_BTF).expand(acts_BTF.shape).flatten(0, -2)
        acts_NF = acts_BTF.flatten(0, -2)
        size_N = mask_NF.sum(-1)
        row_E, index_E = mask_NF.nonzero(as_tuple=True)
        out_ND = nn.functional.embedding_bag(
            index_E,
            self.weight_FD,
            offsets=size_N.cumsum(0) - size_N,
            mode="sum",
            per_sample_weights=acts_NF[row_E, index_E],
        )
        out = out_ND.view(*acts_BTF.shape[:-1], -1)
        return out if self.bias_D is None else out + self.bias_D


class GatheredTop(GatheredDown):
    """`GatheredDown` for a fixed number of rows per token, which needs neither a mask nor lengths."""

    def __init__(
        self, mlp: Mlp, count: int, score: Callable[[Mlp, Tensor], Tensor], dropped_F: Tensor | None
    ) -> None:
        super().__init__(mlp, score, dropped_F)
        self.count = count

    def forward(self, acts_BTF: Tensor) -> Tensor:
        """[B, T, d_ff] → [B, T, d]."""
        acts_NF = acts_BTF.flatten(0, -2)
        index_NJ = self.choose(self.mlp, acts_NF).topk(self.count, dim=-1, sorted=False).indices
        out_ND = nn.functional.embedding_bag(
            index_NJ, self.weight_FD, mode="sum", per_sample_weights=acts_NF.gather(-1, index_NJ)
        )
        out = out_ND.view(*acts_BTF.shape[:-1], -1)
        return out if self.bias_D is None else out + self.bias_D


@contextmanager
def gathered(mlps: list[Mlp], choose: Choose, dropped: Compensate | None = None) -> Iterator[None]:
    """While open, down-projections gather the rows that `choose` keeps for each token."""
    with _swapped(
        [(mlp, {mlp.down: GatheredDown(mlp, choose, (dropped or {}).get(mlp.layer))}) for mlp in mlps]
    ):
        yield


@contextmanager
def gathered_top(
    mlps: list[Mlp], count: Callable[[Mlp], int], score: Callable[[Mlp, Tensor], Tensor]
) -> Iterator[None]:
    """While open, down-projections gather the `count(mlp)` rows with the largest score."""
    with _swapped([(mlp, {mlp.down: GatheredTop(mlp, count(mlp), score, None)}) for mlp in mlps]):
        yield


@contextmanager
def sliced(
    mlps: list[Mlp], keep: Callable[[Mlp], Tensor], dropped: Compensate | None = None
) -> Iterator[None]:
    """While open, the MLPs have the weights of the neurons in `keep(mlp)` (bool, [d_ff]) and no others."""
    swaps = []
    for mlp in mlps:
        index_J = keep(mlp).nonzero().squeeze(-1)
        entering = [mlp.up] if mlp.gate is None else [mlp.up, mlp.gate]
        small = {
            module: _linear(weight_in_out(module)[:, index_J], _part(module, index_J)) for module in entering
        }
        bias_D = _bias(mlp, (dropped or {}).get(mlp.layer))
        small[mlp.down] = _linear(weight_in_out(mlp.down)[index_J], bias_D)
        swaps.append((mlp, small))
    with _swapped(swaps):
        yield


def _linear(weight_io: Tensor, bias: Tensor | None) -> nn.Module:
    with torch.device("meta"):
        width_in, width_out = weight_io.shape
        linear = nn.Linear(width_in, width_out, bias=bias is not None, dtype=weight_io.dtype)
    linear.weight = nn.Parameter(weight_io.T.contiguous(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return linear


def _part(module: nn.Module, index_J: Tensor) -> Tensor | None:
    bias = getattr(module, "bias", None)
    return bias[index_J] if isinstance(bias, Tensor) else None


def _bias(mlp: Mlp, dropped_F: Tensor | None) -> Tensor | None:
    """The down-projection's bias plus W_down·E[dropped]; None where there is neither."""
    bias = getattr(mlp.down, "bias", None)
    if dropped_F is None:
        return bias if isinstance(bias, Tensor) else None
    weight_FD = weight_in_out(mlp.down)
    gain_D = dropped_F.to(weight_FD.dtype) @ weight_FD
    return gain_D + bias if isinstance(bias, Tensor) else gain_D


@contextmanager
def _swapped(swaps: Sequence[tuple[Mlp, Mapping[nn.Module, nn.Module]]]) -> Iterator[None]:
    """While open, children of the MLP modules are replaced; afterwards they are put back, also on errors."""
    old: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for mlp, new in swaps:
            for name, child in list(mlp.module.named_children()):
                if child in new:
                    old.append((mlp.module, name, child))
                    setattr(mlp.module, name, new[child])
        yield
    finally:
        for module, name, child in old:
            setattr(module, name, child)
