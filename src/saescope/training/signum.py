"""sparsify's default optimiser in one pass over memory.

sparsify uses `ScheduleFreeWrapper(SignSGD(...), momentum=0.95)`: sign descent on z, the running average x of
all z (Defazio et al. 2024, arXiv:2405.15682), gradients taken at y between the two. The wrapper walks each
parameter a dozen times. Here the same element-wise operations run on blocks that stay in cache: the results
are bit-equal and `state_dict` has the wrapper's layout.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
# Four blocks (y, z, gradient, its sign) of this many float32 fit a last-level cache of 8 MiB. With much
# smaller blocks the threads spend more time waiting for each other than the cache saves.
BLOCK = 2**19


class ScheduleFreeSignum(torch.optim.Optimizer):
    """While training, parameters are y; `average` gives x, the weights to save and to use."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = MOMENTUM) -> None:
        super().__init__(params, {"lr": lr})
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """z ← z − lr·sign(gradient); x ← average of z; y ← between x and z."""
        for group in self.param_groups:
            lr = group["lr"]
            group["lr_max"] = max(lr, group.get("lr_max", 0))
            weight = group["lr_max"] ** 2
            group["weight_sum"] = group.get("weight_sum", 0.0) + weight
            share = weight / group["weight_sum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "z" not in state:
                    state["z"] = torch.clone(p, memory_format=torch.preserve_format)
                size = BLOCK if p.device.type == "cpu" else p.numel()
                flat = (p.data.view(-1), state["z"].view(-1), p.grad.reshape(-1))
                for y, z, grad in zip(*(tensor.split(size) for tensor in flat), strict=True):
                    y.lerp_(end=z, weight=1 - 1 / self.momentum)  # y is x from here
                    z.add_(grad.sign(), alpha=-lr)
                    y.lerp_(end=z, weight=share)
                    y.lerp_(end=z, weight=1 - self.momentum)  # and y again
            group["k"] = group.get("k", 0) + 1

    @torch.no_grad()
    def project(self, p: Tensor, projection: Callable[[Tensor], None]) -> None:
        """Apply `projection`, which changes its argument, to x and z of a parameter after a step.

        Where the set it projects on is convex, y, which lies between the two, is in it as well.
        """
        z = self.state[p]["z"]
        x = average(p.data, self.state[p], self.momentum)
        projection(x)
        projection(z)
        p.copy_(x.lerp_(z, 1 - self.momentum))


def average(y: Tensor, state: dict[str, Any], momentum: float = MOMENTUM) -> Tensor:
    """x from y and the optimiser state of one parameter; y itself before the first step."""
    return y.lerp(state["z"], 1 - 1 / momentum) if "z" in state else y.clone()
