"""The grid of variants (a rule to choose masks, at one k), and the masks of each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.calibration import Calibration
from saescope.dynamic_k.mlps import Mlp, edited
from saescope.dynamic_k.selectors import cut, level, scored, top_mask
from saescope.errors import ConfigError
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
    """Every combination that is defined.

    A mask shared by many tokens is a top-k of a mean score. `random` has no level, and exists per token and
    static only. Raises ConfigError where no combination is left.
    """
    rules = [
        (selector, score, granularity)
        for granularity in cfg.granularities
        for score in cfg.scores
        for selector in cfg.selectors
        if selector == "topk" or (granularity == "token" and score != "random")
        if score != "random" or granularity in ("token", "static")
    ]
    if not rules:
        raise ConfigError(
            f"dynamic_k.selectors={list(cfg.selectors)}, scores={list(cfg.scores)} and "
            f"granularities={list(cfg.granularities)} leave nothing to run: masks per sequence, task or "
            "static are topk of a measured score, and random is topk per token or static; add topk, or token"
        )
    return [Variant(*rule, k) for rule in rules for k in cfg.k]


def sparse_positions(phase: str, batch: Batch) -> Tensor:
    """bool [B, T]: real positions that are executed sparsely in this phase."""
    return batch.real_BT if phase == "all" else batch.real_BT & ~prompt_positions(batch)


def prompt_positions(batch: Batch) -> Tensor:
    """bool [B, T]: the first half of every window, rounded up."""
    half_B = (batch.real_BT.sum(1) + 1) // 2
    position_T = torch.arange(batch.real_BT.shape[1], device=half_B.device)
    return position_T < half_B[:, None]


def phase_of(granularity: str, phase: str) -> str:
    """`sequence` masks come from a prompt, so they exist in generation only."""
    return "generation" if granularity == "sequence" else phase


@dataclass
class NeuronCount:
    """Neurons kept, of all neurons at sparse positions, over all layers."""

    count: Tensor | int = 0
    total: Tensor | int = 0
    """On the device while passes run, which then need not wait for it."""

    @property
    def fraction(self) -> float:
        """Realised k."""
        return int(self.count) / int(self.total)


@dataclass
class Masks:
    """Executes a variant by masking: saves no work, and is the reference for implementations that do."""

    variant: Variant
    mlps: list[Mlp]
    calibration: Calibration
    phase: str
    compensation: str
    seed: int
    kept_neurons: NeuronCount = field(default_factory=NeuronCount)
    cuts: dict[int, float] = field(default_factory=dict)
    """Cut of each layer, from `fit`."""

    def choice(self, mlp: Mlp, acts_BTF: Tensor, batch: Batch) -> Tensor:
        """bool mask, broadcastable to the activations; dense positions and padding are not yet considered."""
        v = self.variant
        match v.granularity:
            case "token" if v.selector == "topk":
                return top_mask(scored(v.score, mlp, acts_BTF, self.seed), v.k)
            case "token":
                return self._levels(mlp, acts_BTF) >= self.cuts[mlp.layer]
            case "sequence":
                prompt_BT1 = (prompt_positions(batch) & batch.counted_BT)[..., None]
                score_BTF = scored(v.score, mlp, acts_BTF, self.seed)
                total_BF = (score_BTF * prompt_BT1).sum(1)
                return top_mask(total_BF / prompt_BT1.sum(1).clamp_min(1), v.k)[:, None]
            case "task":
                task_B = self.calibration.task_W.to(batch.window_B.device)[batch.window_B]
                return self.calibration.task_mask(mlp, v.score, v.k)[task_B][:, None]
            case "static":
                return self.calibration.static_mask(mlp, v.score, v.k)[None, None]
            case other:
                raise AssertionError(f"{other} is no granularity")

    def fit(self, model: Any, batch: Batch) -> None:
        """Set the cuts, layer by layer in one pass over calibration windows.

        A layer's levels are those under the sparse layers before it, so its mean kept fraction is k there.
        """
        sparse_BT = sparse_positions(self.phase, batch)

        def edit(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
            levels_BTF = self._levels(mlp, acts_BTF)
            self.cuts[mlp.layer] = cut(levels_BTF[sparse_BT], self.variant.k)
            return self._sparse(mlp, acts_BTF, levels_BTF >= self.cuts[mlp.layer], batch)

        if self.variant.selector != "topk":
            with torch.inference_mode(), edited(self.mlps, edit):
                model.base_model(input_ids=batch.input_ids_BT, use_cache=False)

    @contextmanager
    def applied(self, batch: Batch) -> Iterator[None]:
        """While open, the model runs sparsely on this batch. Padding is always 0 and not counted."""
        sparse_BT1 = sparse_positions(self.phase, batch)[..., None]

        def edit(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
            mask = self.choice(mlp, acts_BTF, batch)
            self.kept_neurons.count += (mask & sparse_BT1).expand(acts_BTF.shape).sum()
            self.kept_neurons.total += sparse_BT1.sum() * mlp.d_ff
            return self._sparse(mlp, acts_BTF, mask, batch)

        with edited(self.mlps, edit):
            yield

    def _sparse(self, mlp: Mlp, acts_BTF: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Activations where the mask is true or the position dense, else 0 or the mean of dropped ones."""
        sparse_BT1 = sparse_positions(self.phase, batch)[..., None]
        keep = (mask | ~sparse_BT1) & batch.real_BT[..., None]
        # masked_fill, not a product: 0 · inf would be NaN
        out = acts_BTF.masked_fill(~keep, 0)
        if self.compensation == "mean":
            out = out + self._dropped(mlp, mask).to(out.dtype) * sparse_BT1
        return out

    def _dropped(self, mlp: Mlp, mask: Tensor) -> Tensor:
        """Calibration mean of the dropped activations; W_down times it is added to the bias."""
        v = self.variant
        if v.granularity != "token":
            return self.calibration.mean_act(mlp) * ~mask

        def keep(acts_NF: Tensor) -> Tensor:
            if v.selector == "topk":
                return top_mask(scored(v.score, mlp, acts_NF[None], self.seed)[0], v.k)
            return self._levels(mlp, acts_NF[None])[0] >= self.cuts[mlp.layer]

        return self.calibration.dropped_mean(mlp, (v.selector, v.score, v.k), keep)

    def _levels(self, mlp: Mlp, acts_BTF: Tensor) -> Tensor:
        v = self.variant
        return level(v.selector, scored(v.score, mlp, acts_BTF, self.seed))
