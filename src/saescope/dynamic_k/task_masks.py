"""Masks chosen on calibration documents of one task, run on every task: the transfer matrix and its null."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saescope.dynamic_k.mlps import Mlp, masked
from saescope.dynamic_k.neurons import Neurons
from saescope.dynamic_k.passes import Opens, Passes
from saescope.dynamic_k.selectors import top_mask
from saescope.stats import specialization
from saescope.stats.arrays import FloatArray, IntArray
from saescope.stats.savings import mean_by_task, mean_interval, other_tasks, permutation_p
from saescope.text.windows import Batch

Tables = dict[int, Tensor]
"""Layer → bool [M, F]: one mask of each MLP for each of M choices."""


@dataclass(frozen=True)
class Transfer:
    """Loss over the dense model's per token, under masks of one kept fraction."""

    delta: dict[str, FloatArray]
    """`own` [K masks, K tasks]; `si` the same with masks by SI; `generic`, `random` [1, K]."""
    gain: float
    """Mean over documents' tokens: other tasks' masks − the own task's."""
    gain_interval: tuple[float, float]
    over_generic: float
    """Generic mask − the own task's."""
    over_generic_interval: tuple[float, float]
    si_gain: float
    """As `gain`, masks by SI."""
    paired: float
    """One other task per document: what the null is compared with."""
    null_P: FloatArray
    """`paired` of masks chosen after the task labels of calibration documents were permuted."""
    p: float


def measure_transfer(
    neurons: list[Neurons],
    tokens_D: IntArray,
    passes: Passes,
    k: float,
    *,
    permutations: int,
    resamples: int,
    seed: int,
) -> Transfer:
    """`tokens_D`: calibration tokens of every document; `passes` run the evaluation documents.

    Null: whole documents exchange their task labels before masks are chosen, and everything else stays. Under
    it a mask chosen for the own task is worth no more than another's. Two passes per permutation: own masks,
    and for every document one other task's.
    """
    windows = passes.windows
    task_D, tasks = windows.task_D, len(windows.tasks)
    other_D = other_tasks(task_D, tasks, seed)
    rng = np.random.default_rng(seed)
    seen = np.flatnonzero(tokens_D > 0)
    tables = {
        "own": _tables(neurons, lambda one: contribution(one, tokens_D, task_D, tasks), k),
        "si": _tables(neurons, lambda one: by_si(one, tokens_D, task_D, tasks), k),
        "generic": _tables(neurons, lambda one: contribution(one, tokens_D, task_D, tasks).mean(0)[None], k),
        "random": _tables(neurons, lambda one: rng.random((1, one.mlp.d_ff)), k),
    }
    variants: dict[str, Opens] = {}
    for name, made in tables.items():
        for row in range(len(next(iter(made.values())))):
            variants[f"{name} {row}"] = opens(neurons, made, np.full(len(task_D), row), passes)
    for draw in range(permutations):
        label_D = task_D.copy()
        label_D[seen] = rng.permutation(task_D[seen])
        made = _tables(neurons, lambda one, to=label_D: contribution(one, tokens_D, to, tasks), k)
        variants[f"permuted own {draw}"] = opens(neurons, made, task_D, passes)
        variants[f"permuted other {draw}"] = opens(neurons, made, other_D, passes)
    found = passes.losses(variants)
    dense = found["dense"]

    def over_dense(name: str) -> FloatArray:
        rows = [v for v in variants if v.startswith(f"{name} ")]
        return np.stack([found[row].ce_D - dense.ce_D for row in rows])

    loss = {name: over_dense(name) for name in tables}
    scored_D = dense.tokens_D
    own_D, others_D = own_and_others(loss["own"], task_D)
    si_D, si_others_D = own_and_others(loss["si"], task_D)
    documents = np.arange(len(task_D))
    paired_D = loss["own"][other_D, documents] - own_D
    null_P = (over_dense("permuted other") - over_dense("permuted own")).sum(1) / scored_D.sum()
    paired = float(paired_D.sum() / scored_D.sum())

    def mean(value_D: FloatArray) -> float:
        return float(value_D.sum() / scored_D.sum())

    def interval(value_D: FloatArray) -> tuple[float, float]:
        return mean_interval(value_D, scored_D, resamples=resamples, seed=seed)

    return Transfer(
        {name: mean_by_task(value, scored_D, task_D, tasks) for name, value in loss.items()},
        mean(others_D - own_D),
        interval(others_D - own_D),
        mean(loss["generic"][0] - own_D),
        interval(loss["generic"][0] - own_D),
        mean(si_others_D - si_D),
        paired,
        null_P,
        permutation_p(paired, null_P),
    )


def contribution(one: Neurons, tokens_D: IntArray, task_D: IntArray, tasks: int) -> FloatArray:
    """Mean |a|·‖w_down‖ per token of each task, [K, F]."""
    member_KD = (task_D == np.arange(tasks)[:, None]) * 1.0
    mean_KF: FloatArray = (member_KD @ one.score_DF) / (member_KD @ tokens_D)[:, None]
    return mean_KF


def by_si(one: Neurons, tokens_D: IntArray, task_D: IntArray, tasks: int) -> FloatArray:
    """Firing rate on each task times the neuron's SI, [K, F]: specialists first."""
    member_KD = (task_D == np.arange(tasks)[:, None]) * 1.0
    fired_KF, tokens_K = member_KD @ one.fired_DF, member_KD @ tokens_D
    si_F = np.nan_to_num(specialization(fired_KF.T, tokens_K))
    score_KF: FloatArray = fired_KF / tokens_K[:, None] * si_F
    return score_KF


def own_and_others(loss_KD: FloatArray, task_D: IntArray) -> tuple[FloatArray, FloatArray]:
    """Of each document: its loss under its own task's mask, and the mean over the other tasks' masks."""
    own_D = loss_KD[task_D, np.arange(len(task_D))]
    return own_D, (loss_KD.sum(0) - own_D) / (len(loss_KD) - 1)


def opens(neurons: list[Neurons], tables: Tables, row_D: IntArray, passes: Passes) -> Opens:
    """Run each document under row `row_D` of the tables."""
    row_W = torch.from_numpy(row_D[passes.windows.doc_W]).to(passes.device)
    mlps = [one.mlp for one in neurons]
    on_device = {layer: table.to(passes.device) for layer, table in tables.items()}

    @contextmanager
    def opened(batch: Batch) -> Iterator[None]:
        row_B = row_W[batch.window_B]

        def choose(mlp: Mlp, _acts_BTF: Tensor) -> Tensor:
            return on_device[mlp.layer][row_B][:, None]

        with masked(mlps, choose):
            yield

    return opened


def _tables(neurons: list[Neurons], score: object, k: float) -> Tables:
    assert callable(score)
    return {one.mlp.layer: top_mask(torch.from_numpy(score(one)), k) for one in neurons}
