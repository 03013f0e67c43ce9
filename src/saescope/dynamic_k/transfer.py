"""Masks chosen on calibration documents of one task, run on every task: the transfer matrix and its null."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saescope.dynamic_k.mlps import masked
from saescope.dynamic_k.neurons import Neurons
from saescope.dynamic_k.part import Section, section
from saescope.dynamic_k.passes import BatchEdit, Passes
from saescope.dynamic_k.selectors import top_mask
from saescope.metrics import at_floor
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

    Null: the task labels of whole documents are permuted before masks are chosen; everything else stays.
    Under it the mask of a document's own task is no better than another task's. Two passes per permutation:
    with own masks, and with one other task's mask for each document.
    """
    windows = passes.windows
    task_D, num_tasks = windows.task_D, len(windows.tasks)
    other_D = other_tasks(task_D, num_tasks, seed)
    rng = np.random.default_rng(seed)
    edits: dict[tuple[str, int], BatchEdit] = {}
    for choice, tables in _mask_tables(neurons, tokens_D, task_D, num_tasks, k, rng).items():
        for row in range(len(next(iter(tables.values())))):
            edits[choice, row] = by_document(neurons, tables, np.full(len(task_D), row), passes)
    for draw in range(permutations):
        label_D = _permuted(task_D, tokens_D, rng)
        by_label = partial(contribution, tokens_D=tokens_D, task_D=label_D, num_tasks=num_tasks)
        tables = _tables(neurons, k, by_label)
        edits["permuted own", draw] = by_document(neurons, tables, task_D, passes)
        edits["permuted other", draw] = by_document(neurons, tables, other_D, passes)
    dense, edited = passes.losses(edits, name="dynamic k, masks of other tasks")
    loss: dict[str, FloatArray] = {
        choice: np.stack([losses.ce_D - dense.ce_D for (name, _), losses in edited.items() if name == choice])
        for choice in dict.fromkeys(name for name, _ in edits)
    }
    return _summary(loss, dense.tokens_D, task_D, num_tasks, other_D, resamples=resamples, seed=seed)


def _mask_tables(
    neurons: list[Neurons],
    tokens_D: IntArray,
    task_D: IntArray,
    num_tasks: int,
    k: float,
    rng: np.random.Generator,
) -> dict[str, Tables]:
    """Masks by way of choosing: one per task (`own`, `si`), or one for all (`generic`, `random`)."""
    by_task = partial(contribution, tokens_D=tokens_D, task_D=task_D, num_tasks=num_tasks)
    return {
        "own": _tables(neurons, k, by_task),
        "si": _tables(neurons, k, partial(by_si, tokens_D=tokens_D, task_D=task_D, num_tasks=num_tasks)),
        "generic": _tables(neurons, k, lambda mlp_neurons: by_task(mlp_neurons).mean(0)[None]),
        "random": _tables(neurons, k, lambda mlp_neurons: rng.random((1, mlp_neurons.mlp.d_ff))),
    }


def _permuted(task_D: IntArray, tokens_D: IntArray, rng: np.random.Generator) -> IntArray:
    """Task labels exchanged among the documents that have calibration tokens."""
    calibrated = np.flatnonzero(tokens_D > 0)
    label_D = task_D.copy()
    label_D[calibrated] = rng.permutation(task_D[calibrated])
    return label_D


def _summary(
    loss: dict[str, FloatArray],
    scored_D: FloatArray,
    task_D: IntArray,
    num_tasks: int,
    other_D: IntArray,
    *,
    resamples: int,
    seed: int,
) -> Transfer:
    """From losses over the dense model's, [masks, D] by way of choosing, and scored predictions [D]."""

    def mean(value_D: FloatArray) -> float:
        return float(value_D.sum() / scored_D.sum())

    def interval(value_D: FloatArray) -> tuple[float, float]:
        return mean_interval(value_D, scored_D, resamples=resamples, seed=seed)

    own_D, others_D = own_and_others(loss["own"], task_D)
    si_own_D, si_others_D = own_and_others(loss["si"], task_D)
    over_generic_D = loss["generic"][0] - own_D
    paired = mean(loss["own"][other_D, np.arange(len(task_D))] - own_D)
    null_P = (loss["permuted other"] - loss["permuted own"]).sum(1) / scored_D.sum()
    return Transfer(
        delta={
            choice: mean_by_task(loss[choice], scored_D, task_D, num_tasks)
            for choice in ("own", "si", "generic", "random")
        },
        gain=mean(others_D - own_D),
        gain_interval=interval(others_D - own_D),
        over_generic=mean(over_generic_D),
        over_generic_interval=interval(over_generic_D),
        si_gain=mean(si_others_D - si_own_D),
        paired=paired,
        null_P=null_P,
        p=permutation_p(paired, null_P),
    )


def contribution(mlp_neurons: Neurons, tokens_D: IntArray, task_D: IntArray, num_tasks: int) -> FloatArray:
    """Mean |a|·‖w_down‖ per token of each task, [K, F]."""
    member_KD = (task_D == np.arange(num_tasks)[:, None]) * 1.0
    mean_KF: FloatArray = (member_KD @ mlp_neurons.score_DF) / (member_KD @ tokens_D)[:, None]
    return mean_KF


def by_si(mlp_neurons: Neurons, tokens_D: IntArray, task_D: IntArray, num_tasks: int) -> FloatArray:
    """Firing rate on each task times the neuron's SI, [K, F]: specialists first."""
    member_KD = (task_D == np.arange(num_tasks)[:, None]) * 1.0
    fired_KF, tokens_K = member_KD @ mlp_neurons.fired_DF, member_KD @ tokens_D
    si_F = np.nan_to_num(specialization(fired_KF.T, tokens_K))
    score_KF: FloatArray = fired_KF / tokens_K[:, None] * si_F
    return score_KF


def own_and_others(loss_KD: FloatArray, task_D: IntArray) -> tuple[FloatArray, FloatArray]:
    """Of each document: its loss under its own task's mask, and the mean over the other tasks' masks."""
    own_D = loss_KD[task_D, np.arange(len(task_D))]
    return own_D, (loss_KD.sum(0) - own_D) / (len(loss_KD) - 1)


def by_document(neurons: list[Neurons], tables: Tables, row_D: IntArray, passes: Passes) -> BatchEdit:
    """Run each document under row `row_D` of the tables."""
    row_W = torch.from_numpy(row_D[passes.windows.doc_W]).to(passes.device)
    on_device = {layer: table.to(passes.device) for layer, table in tables.items()}
    mlps = [mlp_neurons.mlp for mlp_neurons in neurons]

    def edit(batch: Batch) -> AbstractContextManager[None]:
        row_B = row_W[batch.window_B]
        return masked(mlps, lambda mlp, _acts_BTF: on_device[mlp.layer][row_B][:, None])

    return edit


def transfer_section(transfer: Transfer, tasks: tuple[str, ...], k: float) -> Section:
    """Masks (rows) by tasks they run on (columns): CE minus the dense model's, nats per token."""
    delta, null_P = transfer.delta, transfer.null_P
    rows: list[list[Any]] = [[f"{task} mask", *delta["own"][at]] for at, task in enumerate(tasks)]
    rows += [[f"{task} mask by SI", *delta["si"][at]] for at, task in enumerate(tasks)]
    rows += [["generic mask", *delta["generic"][0]], ["random mask", *delta["random"][0]]]
    low, high = transfer.gain_interval
    p_text = f"p ≤ 1/{null_P.size + 1}" if at_floor(transfer.p, null_P.size) else f"p = {transfer.p:.3g}"
    generic_low, generic_high = transfer.over_generic_interval
    return section(
        f"Task masks at k = {k:g}: CE above the dense model's",
        [
            "A mask keeps the neurons with the largest mean |a|·‖w_down‖ on one task's calibration "
            "documents; it is run on other documents of every task.",
            f"Another task's mask costs {transfer.gain:.4f} nats per token more than the own one "
            f"[{low:.4f}, {high:.4f}]; with the task labels of calibration documents permuted "
            f"{null_P.mean():.4f} (largest of {null_P.size}: {null_P.max():.4f}; "
            f"paired difference {transfer.paired:.4f}, {p_text}).",
            f"Generic mask less the own one: {transfer.over_generic:+.4f} nats "
            f"[{generic_low:.4f}, {generic_high:.4f}]; "
            "above 0, the own mask is worth having.",
            "By SI: firing rate on the task times the neuron's SI; another task's mask then costs "
            f"{transfer.si_gain:.4f} nats more.",
        ],
        ["mask", *tasks],
        rows,
    )


def _tables(neurons: list[Neurons], k: float, score: Callable[[Neurons], FloatArray]) -> Tables:
    """In every MLP, the neurons with the largest of the scores [M, F]."""
    return {
        mlp_neurons.mlp.layer: top_mask(torch.from_numpy(score(mlp_neurons)), k) for mlp_neurons in neurons
    }
