"""One way to choose masks, at one k: what is kept where, and how much that was."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.calibration import Calibration
from saescope.dynamic_k.mlps import Mlp, edited
from saescope.dynamic_k.selectors import level, scored, top_mask
from saescope.text.windows import Batch


@dataclass(frozen=True)
class Variant:
    """A selection rule at one kept fraction."""

    selector: str
    score: str
    granularity: str
    k: float

    def family(self) -> tuple[str, str, str]:
        """All but k."""
        return self.selector, self.score, self.granularity


def variants(cfg: DynamicKConfig) -> list[Variant]:
    """Every combination that has a meaning.

    A mask shared by many tokens is a top-k of a mean score. Chance has no level, and no sequence or task.
    """
    rules = [
        (selector, score, granularity)
        for granularity in cfg.granularities
        for score in cfg.scores
        for selector in cfg.selectors
        if selector == "topk" or (granularity == "token" and score != "random")
        if score != "random" or granularity in ("token", "static")
    ]
    return [Variant(*rule, k) for rule in rules for k in cfg.k]


def sparse_positions(variant_phase: str, batch: Batch) -> Tensor:
    """bool [B, T]: real positions that are executed sparsely."""
    return batch.real_BT if variant_phase == "all" else batch.real_BT & ~prompt_positions(batch)


def prompt_positions(batch: Batch) -> Tensor:
    """bool [B, T]: the first half of every window, rounded up."""
    half_B = (batch.real_BT.sum(1) + 1) // 2
    position_T = torch.arange(batch.real_BT.shape[1], device=half_B.device)
    return position_T < half_B[:, None]


def phase_of(granularity: str, phase: str) -> str:
    """`sequence` masks come from a prompt, so they exist in generation only."""
    return "generation" if granularity == "sequence" else phase


@dataclass
class Kept:
    """Neurons kept and seen at sparse positions, over all layers."""

    kept: int = 0
    seen: int = 0

    @property
    def fraction(self) -> float:
        """Realised k."""
        return self.kept / self.seen


@dataclass
class Masks:
    """Executes a variant by masking: saves nothing, and is the reference of the implementations that do."""

    variant: Variant
    mlps: list[Mlp]
    calibration: Calibration
    task_W: Tensor
    """Task of each window."""
    phase: str
    compensation: str
    seed: int
    kept: Kept = field(default_factory=Kept)

    def choice(self, mlp: Mlp, acts_BTF: Tensor, batch: Batch) -> Tensor:
        """bool mask, broadcastable to the activations, before positions are looked at."""
        v = self.variant
        match v.granularity:
            case "token" if v.selector == "topk":
                return top_mask(scored(v.score, mlp, acts_BTF, self.seed), v.k)
            case "token":
                at = self.calibration.cut(mlp, v.selector, v.score, v.k)
                return level(v.selector, scored(v.score, mlp, acts_BTF, self.seed)) >= at
            case "sequence":
                used_BT1 = (prompt_positions(batch) & batch.counted_BT)[..., None]
                score_BTF = scored(v.score, mlp, acts_BTF, self.seed)
                total_BF = (score_BTF * used_BT1).sum(1)
                return top_mask(total_BF / used_BT1.sum(1).clamp_min(1), v.k)[:, None]
            case "task":
                task_B = self.task_W.to(batch.window_B.device)[batch.window_B]
                return self.calibration.task_mask(mlp, v.score, v.k)[task_B][:, None]
            case "static":
                return self.calibration.static_mask(mlp, v.score, v.k)[None, None]
            case other:
                raise AssertionError(f"{other} is no granularity")

    @contextmanager
    def opens(self, batch: Batch) -> Iterator[None]:
        """While open, the model runs sparsely on this batch. Padding is never kept and never counted."""
        sparse_BT1 = sparse_positions(self.phase, batch)[..., None]
        real_BT1 = batch.real_BT[..., None]

        def edit(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
            chosen = self.choice(mlp, acts_BTF, batch)
            self.kept.kept += int((chosen & sparse_BT1).expand(acts_BTF.shape).sum())
            self.kept.seen += int(sparse_BT1.sum()) * mlp.d_ff
            # masked_fill, not a product: 0 · inf would be NaN
            out = acts_BTF.masked_fill(~((chosen | ~sparse_BT1) & real_BT1), 0)
            if self.compensation == "mean":
                mean = self.dropped(mlp, chosen).to(out.dtype)
                out = out + mean * sparse_BT1
            return out

        with edited(self.mlps, edit):
            yield

    def dropped(self, mlp: Mlp, chosen: Tensor) -> Tensor:
        """Calibration mean of the activations this variant drops; W_down of it is what the bias gains."""
        v = self.variant
        if v.granularity != "token":
            return self.calibration.mean_act(mlp) * ~chosen
        return self.calibration.dropped_mean(mlp, v.selector, v.score, v.k, self.seed)


def windows_tasks(task_D: np.ndarray, doc_W: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    """Task of each window."""
    return torch.from_numpy(task_D[doc_W])
