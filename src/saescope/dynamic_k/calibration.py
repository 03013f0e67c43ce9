"""Statistics of the neurons on calibration documents: mean scores per task, means of dropped activations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saescope.dynamic_k.mlps import Mlp, watched
from saescope.dynamic_k.passes import Passes
from saescope.dynamic_k.selectors import scored, top_mask
from saescope.text.windows import Batch, batches

SAMPLE_TOKENS = 1024
"""Tokens whose activations are stored per layer, and tokens that cuts are fitted on; spread evenly."""

MEASURED = ("abs_act", "abs_act_x_wnorm")


@dataclass
class _Layer:
    score_sum: dict[str, Tensor] = field(default_factory=dict)
    """[K, d_ff] by score."""
    act_sum_F: Tensor | None = None
    rows: list[Tensor] = field(default_factory=list)


@dataclass
class Calibration:
    """Statistics of the dense model at counted positions of the calibration windows."""

    task_W: Tensor
    """Task of each window."""
    num_tasks: int
    seed: int
    tokens_K: Tensor
    """Counted calibration tokens of each task."""
    every: int
    """Every how many tokens one is sampled."""
    layers: dict[int, _Layer] = field(default_factory=dict)
    cache: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    """Masks and means already computed."""

    def task_mask(self, mlp: Mlp, score: str, k: float) -> Tensor:
        """bool [K, d_ff]: the neurons with the largest mean score on each task."""
        return self._mask(("task", mlp.layer, score, k), self.layers[mlp.layer].score_sum[score], k)

    def static_mask(self, mlp: Mlp, score: str, k: float) -> Tensor:
        """bool [d_ff]: the largest mean scores over all tasks; for `random`, a draw."""
        if score == "random":
            generator = torch.Generator().manual_seed(2_000_003 * (self.seed + 1) + mlp.layer)
            score_F = torch.rand(mlp.d_ff, generator=generator).to(self.mean_act(mlp).device)
        else:
            score_F = self.layers[mlp.layer].score_sum[score].sum(0)
        return self._mask(("static", mlp.layer, score, k), score_F, k)

    def mean_act(self, mlp: Mlp) -> Tensor:
        """E[a], [d_ff]."""
        total_F = self.layers[mlp.layer].act_sum_F
        assert total_F is not None
        return (total_F / self.tokens_K.sum()).float()

    def dropped_mean(
        self, mlp: Mlp, rule: tuple[str, str, float], keep: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """E[a·(1 − mask)] of the masks [N, d_ff] that `keep` gives sampled activations, [d_ff]; 0 at k = 1.

        `rule` (selector, score, k) is the cache key: the result is computed once.
        """
        key = ("dropped", mlp.layer, *rule)
        if key not in self.cache:
            sample_NF = self.sample(mlp)
            self.cache[key] = sample_NF.masked_fill(keep(sample_NF), 0).mean(0)
        return self.cache[key]

    def sample(self, mlp: Mlp) -> Tensor:
        """Activations of sampled tokens, [N, d_ff], float32."""
        layer = self.layers[mlp.layer]
        layer.rows = [torch.cat(layer.rows)]
        return layer.rows[0].float()

    @contextmanager
    def counting(self, mlps: list[Mlp], batch: Batch) -> Iterator[None]:
        """While open, the activations of this batch enter the statistics."""
        task_B = self.task_W.to(batch.counted_BT.device)[batch.window_B]
        counted = batch.counted_BT.nonzero(as_tuple=True)
        task_N = task_B[counted[0]]

        def count(mlp: Mlp, acts_BTF: Tensor) -> None:
            acts_NF = acts_BTF[counted]
            layer = self.layers.setdefault(mlp.layer, _Layer())
            for name in MEASURED:
                score_NF = scored(name, mlp, acts_NF[None], self.seed)[0]
                zeros = torch.zeros(self.num_tasks, mlp.d_ff, dtype=torch.float32, device=acts_NF.device)
                sums_KF = layer.score_sum.setdefault(name, zeros)
                sums_KF.index_add_(0, task_N, score_NF)
            total_F = acts_NF.float().sum(0).double()
            layer.act_sum_F = total_F if layer.act_sum_F is None else layer.act_sum_F + total_F
            layer.rows.append(acts_NF[:: self.every].clone())

        with watched(mlps, count):
            yield

    def _mask(self, key: tuple[object, ...], score_F: Tensor, k: float) -> Tensor:
        if key not in self.cache:
            self.cache[key] = top_mask(score_F, k)
        return self.cache[key]


def calibrate(mlps: list[Mlp], passes: Passes, seed: int) -> Calibration:
    """One dense pass over the calibration windows."""
    windows, order = passes.windows, passes.order
    task_W = torch.from_numpy(windows.task_W)
    tokens_W = windows.tokens_W[order]
    tokens_K = torch.zeros(len(windows.tasks), dtype=torch.float64)
    tokens_K.index_add_(0, task_W[torch.from_numpy(order)], torch.from_numpy(tokens_W).double())
    every = max(1, int(tokens_W.sum()) // SAMPLE_TOKENS)
    calibration = Calibration(task_W, len(windows.tasks), seed, tokens_K, every)
    passes.watch(lambda batch: calibration.counting(mlps, batch))
    return calibration


def fitting_batch(passes: Passes) -> Batch:
    """About `SAMPLE_TOKENS` tokens of the calibration windows, spread evenly, in one batch."""
    windows, order = passes.windows, passes.order
    tokens = sum(len(windows.ids[w]) for w in order)
    chosen = order[:: max(1, tokens // SAMPLE_TOKENS)]
    (batch,) = batches(windows, chosen, len(chosen) * max(len(windows.ids[w]) for w in chosen))
    return batch.to(passes.device)
