"""torchmetrics accumulators of the measurement passes: sums reduce over processes, codes are gathered."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from saescope.model.losses import TokenLosses
from saescope.sae.base import SparseCodes
from saescope.stats.scratch import Growing

TOP_SHARE = 0.001
"""Share of tokens that `LargestTokens` keeps."""


def top_count(num_tokens: int) -> int:
    """`TOP_SHARE` of so many tokens, one at least."""
    return max(1, round(TOP_SHARE * num_tokens))


VARIANTS = ("clean", "spliced", "zero", "mean")
"""Versions of the model whose losses are measured: untouched, and with the hookpoint replaced."""
SUMS = ("ce", "kl", "tokens")
ABLATED_SUMS = tuple(f"{name}_{variant}" for variant in ("zero", "mean") for name in SUMS)
"""States of `LossSums` that are the same for every SAE at a hookpoint."""


class ReconstructionSums(Metric):
    """Sums for the reconstruction metrics, per task (or cell of `Strata`), in float64.

    Over all tokens: a variance per batch would depend on the batch size.
    """

    full_state_update = False

    SCALARS = ("tokens", "x2", "err2", "cosine", "norm_ratio", "dot", "xhat2", "l0")

    def __init__(self, num_tasks: int, d_in: int) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        for name in self.SCALARS:
            self.add_state(name, torch.zeros(num_tasks, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("x", torch.zeros(num_tasks, d_in, dtype=torch.float64), dist_reduce_fx="sum")
        self.x: Tensor

    def update(self, x_ND: Tensor, xhat_ND: Tensor, sizes_N: Tensor, task_N: Tensor) -> None:
        """Add N tokens: activations, reconstructions, active latents and task of each."""
        x, xhat = x_ND.double(), xhat_ND.double()
        x2, xhat2, dot = _dot(x, x), _dot(xhat, xhat), _dot(x, xhat)
        error = x - xhat
        x_norm, xhat_norm = x2.sqrt(), xhat2.sqrt()
        tiny = torch.finfo(torch.float64).tiny
        values = {
            "tokens": torch.ones_like(dot),
            "x2": x2,
            "err2": _dot(error, error),
            "cosine": dot / (x_norm * xhat_norm).clamp_min(tiny),
            "norm_ratio": xhat_norm / x_norm.clamp_min(tiny),
            "dot": dot,
            "xhat2": xhat2,
            "l0": sizes_N.double(),
        }
        # never in place: spawned CPU processes get the module's tensors as shared memory
        for name, value in values.items():
            setattr(self, name, getattr(self, name).index_add(0, task_N, value))
        member_KN = nn.functional.one_hot(task_N, self.num_tasks).T.double()
        self.x = self.x + member_KN @ x

    def compute(self) -> dict[str, npt.NDArray[np.float64]]:
        """Sums per task: scalars [K], `x` [K, d_in]."""
        return {name: getattr(self, name).cpu().numpy() for name in (*self.SCALARS, "x")}


class LargestTokens(Metric):
    """The activations of the tokens of largest norm, `TOP_SHARE` of all, in float32."""

    full_state_update = False

    def __init__(self, num_tokens: int, num_tasks: int, d_in: int) -> None:
        """`num_tokens`: of all processes together; fewer may come."""
        super().__init__()
        self.num_tasks = num_tasks
        count = top_count(num_tokens)
        self.add_state("x2", torch.full((count,), -1.0, dtype=torch.float64), dist_reduce_fx="cat")
        self.add_state("x", torch.zeros(count, d_in), dist_reduce_fx="cat")
        self.add_state("task", torch.zeros(count, dtype=torch.int64), dist_reduce_fx="cat")
        self.x2: Tensor
        self.x: Tensor
        self.task: Tensor

    def update(self, x_ND: Tensor, task_N: Tensor) -> None:
        """Add N tokens: activations, and task of each."""
        x2_N = _dot(x_ND.double(), x_ND.double())
        x2_N, best = x2_N.topk(min(len(x2_N), len(self.x2)))
        x2 = torch.cat([self.x2, x2_N])
        # never in place: spawned CPU processes get the module's tensors as shared memory
        self.x2, kept = x2.topk(len(self.x2))
        self.x = torch.cat([self.x, x_ND[best].float()])[kept]
        self.task = torch.cat([self.task, task_N[best]])[kept]

    def compute(self) -> Callable[[npt.NDArray[np.float64], int], npt.NDArray[np.float64]]:
        """(mean of all tokens [d_in], number of tokens) → Σ‖x − mean‖² of the largest ones, per task [K].

        What stands in the state is that of all processes, one after the other.
        """
        x2, task = self.x2.reshape(-1).cpu(), self.task.reshape(-1).cpu()
        x = self.x.reshape(-1, self.x.shape[-1]).cpu().double()

        def deviation(mean_D: npt.NDArray[np.float64], num_tokens: int) -> npt.NDArray[np.float64]:
            _, best = x2.topk(min(top_count(num_tokens), int((x2 >= 0).sum())))
            away = x[best] - torch.from_numpy(mean_D)
            sums = torch.zeros(self.num_tasks, dtype=torch.float64)
            return sums.index_add(0, task[best], _dot(away, away)).numpy()

        return deviation


class LossSums(Metric):
    """Sums of CE and KL per version of the model and task (or cell of `Strata`), in float64."""

    full_state_update = False

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        for variant in VARIANTS:
            for name in SUMS:
                zeros = torch.zeros(num_tasks, dtype=torch.float64)
                self.add_state(f"{name}_{variant}", zeros, dist_reduce_fx="sum")

    def update(self, variant: str, losses: TokenLosses, task_S: Tensor) -> None:
        """Add S predictions of one of `VARIANTS`."""
        values = (("ce", losses.ce_S), ("kl", losses.kl_S), ("tokens", torch.ones_like(losses.ce_S)))
        for name, value_S in values:
            key = f"{name}_{variant}"
            # never in place: spawned CPU processes get the module's tensors as shared memory
            setattr(self, key, getattr(self, key).index_add(0, task_S, value_S.double()))

    def compute(self) -> dict[str, npt.NDArray[np.float64]]:
        """Sums [K] under `ce_clean`, `kl_spliced`, `tokens_zero` …"""
        return {name: getattr(self, name).cpu().numpy() for name in self.metric_state}


class RowList(Metric):
    """Row numbers of tokens."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__(compute_on_cpu=True)
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.rows: list[Tensor]

    def update(self, rows_N: Tensor) -> None:
        """Add N rows."""
        self.rows.append(rows_N)

    def compute(self) -> npt.NDArray[np.int64]:
        """All rows of all processes."""
        return dim_zero_cat(self.rows).cpu().numpy()


def _dot(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Dot product of each pair of rows, [N]; never stores `a * b`."""
    dot_N: Tensor = torch.linalg.vecdot(a_ND, b_ND)
    return dot_N


class CodeRows(NamedTuple):
    """Codes in the order in which batches arrived, as `codes.assemble` takes them."""

    rows: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    latents: npt.NDArray[np.int32]
    acts: npt.NDArray[np.float32]


class CodeLists(Metric):
    """The sparse codes themselves, in CPU memory, of a single process in files when they are large."""

    full_state_update = False

    FIELDS = CodeRows._fields
    LARGE: ClassVar[dict[str, type]] = {"latents": np.int32, "acts": np.float32}
    """Those with a value for each active latent."""

    def __init__(self) -> None:
        super().__init__(compute_on_cpu=True)
        for name in self.FIELDS:
            self.add_state(name, [], dist_reduce_fx="cat")
        self.growing = self._none_yet()

    def update(self, rows_N: Tensor, codes: SparseCodes) -> None:
        """Add N tokens; `rows_N` is the final row of each."""
        values = dict(zip(self.FIELDS, (rows_N, codes.sizes_N, codes.latents.int(), codes.acts), strict=True))
        if not (dist.is_available() and dist.is_initialized()):  # nothing to gather
            for name, growing in self.growing.items():
                growing.append(values.pop(name).cpu().numpy())
        for name, value in values.items():
            getattr(self, name).append(value)

    def compute(self) -> CodeRows:
        """All codes of all processes."""
        arrays = {name: growing.array() for name, growing in self.growing.items()}
        for name in self.FIELDS:
            parts = getattr(self, name)
            if len(parts):  # a tensor, not a list, once gathered
                arrays[name] = dim_zero_cat(parts).cpu().numpy()
        return CodeRows(**arrays)

    def reset(self) -> None:
        """Forget all codes, and their files with the last array that `compute` gave."""
        super().reset()
        self.growing = self._none_yet()

    def _none_yet(self) -> dict[str, Growing[Any]]:
        return {name: Growing(dtype) for name, dtype in self.LARGE.items()}
