"""`dynamic_k=mlp`: quality and cost of MLPs that execute a fraction of their neurons."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from saescope.config import AppConfig
from saescope.dynamic_k.calibration import calibrate, fitting_batch
from saescope.dynamic_k.cost import Macs, cost, macs_of, saving_of
from saescope.dynamic_k.mlp_summary import summarise
from saescope.dynamic_k.mlps import find_mlps
from saescope.dynamic_k.part import Inputs, Part
from saescope.dynamic_k.passes import DocumentLosses, Opens, Passes, loss_columns
from saescope.dynamic_k.split import split
from saescope.dynamic_k.timed import timed_length, timed_rows
from saescope.dynamic_k.variants import Masks, phase_of, sparse_positions, variants
from saescope.errors import ConfigError
from saescope.runtime.meter import Meter
from saescope.text.windows import Batch, Windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Measured:
    masks: Masks
    dense: DocumentLosses
    losses: DocumentLosses
    macs: Macs


def run_mlp(cfg: AppConfig, inputs: Inputs) -> Part:
    """Every variant of the grid on evaluation documents, and timings.

    Raises ConfigError for a model without MLPs, ProbeError for a task of one document.
    """
    job, model, windows = cfg.dynamic_k, inputs.lm.model, inputs.windows
    mlps = find_mlps(model, job.layers)
    halves = split(windows, job.calibration_tokens, job.tokens)
    model.to(inputs.machine.device)
    where = (inputs.machine.batch_tokens, inputs.machine.device)
    before = Passes(model, windows, halves.calibration_W, *where)
    calibration = calibrate(mlps, before, cfg.seed)
    every = [
        Masks(
            v,
            mlps,
            calibration,
            calibration.task_W,
            phase_of(v.granularity, job.phase),
            job.compensation,
            cfg.seed,
        )
        for v in variants(job)
    ]
    log.info("dynamic k: %d MLPs, %d variants on %d windows", len(mlps), len(every), len(halves.evaluation_W))
    for masks in every:
        masks.fit(model, fitting_batch(before))
    measured: list[_Measured] = []
    for phase in ("all", "generation"):
        mine = [masks for masks in every if masks.phase == phase]
        if mine:
            measured += _losses(phase, mine, model, windows, halves.evaluation_W, where)
    part = Part()
    for one in measured:
        part.rows += _rows(one, cfg, windows)
    part.rows += timed_rows(cfg, inputs, mlps, calibration, measured[0].macs)
    summarise(part, job, {one.masks.variant: _pooled(one) for one in measured})
    return part


def _losses(
    phase: str, mine: list[Masks], model: Any, windows: Windows, order: Any, where: tuple[int, Any]
) -> list[_Measured]:
    """All variants that are sparse at the same positions, against the dense model at those."""
    scored = None if phase == "all" else lambda batch: sparse_positions(phase, batch)[:, :-1]
    passes = Passes(model, windows, order, *where, scored=scored)
    tokens = sum(int(batch.real_BT.sum()) for batch in passes.batches)
    with Meter("dynamic k", tokens * len(mine), "tokens") as meter:
        opens = {str(n): _with_meter(masks.opens, meter) for n, masks in enumerate(mine)}
        found = passes.losses(opens)
    macs = macs_of(model, mine[0].mlps, _context(windows, order))
    return [_Measured(masks, found["dense"], found[str(n)], macs) for n, masks in enumerate(mine)]


def _with_meter(opens: Opens, meter: Meter) -> Opens:
    @contextmanager
    def metered(batch: Batch) -> Iterator[None]:
        with opens(batch):
            yield
        meter.advance(int(batch.real_BT.sum()))

    return metered


def _context(windows: Windows, order: Any) -> float:
    """Keys per query, as a full attention product has them: mean window length over tokens."""
    length_W = np.array([len(windows.ids[w]) for w in order], dtype=np.float64)
    return float((length_W**2).sum() / length_W.sum())


def _pooled(one: _Measured) -> tuple[float, float, float, float]:
    """(dense CE, CE, KL, total_flops_frac as realised)."""
    n = one.dense.tokens_D.sum()
    granularity = one.masks.variant.granularity
    impl = "gather" if granularity == "token" else "sliced"
    frac = cost(one.macs, impl, one.masks.kept.fraction)["total_flops_frac"]
    return (
        float(one.dense.ce_D.sum() / n),
        float(one.losses.ce_D.sum() / n),
        float(one.losses.kl_D.sum() / n),
        frac,
    )


def _rows(one: _Measured, cfg: AppConfig, windows: Windows) -> list[dict[str, Any]]:
    """The pooled row under every implementation that can execute the mask, and one row per task."""
    v, job = one.masks.variant, cfg.dynamic_k
    fitting = ("mask", "gather" if v.granularity == "token" else "sliced")
    impls = [impl for impl in job.impls if impl in fitting] or ["mask"]
    common = {
        "target": "mlp",
        "selector": v.selector,
        "score": v.score,
        "granularity": v.granularity,
        "phase": one.masks.phase,
        "k": v.k,
        "realised_k": one.masks.kept.fraction,
        "seed": cfg.seed,
    }
    pooled = loss_columns(one.dense, one.losses, job.bootstraps, cfg.seed)
    out = []
    for impl in impls:
        spent = cost(one.macs, impl, one.masks.kept.fraction)
        saving = saving_of(v.granularity, impl)
        out.append({**common, "impl": impl, **pooled, **spent, "saving": saving, "task": "all"})
    for number, task in enumerate(windows.tasks):
        mine = (windows.task_D == number) & (one.dense.tokens_D > 0)
        if mine.any():
            of_task = loss_columns(_only(one.dense, mine), _only(one.losses, mine), job.bootstraps, cfg.seed)
            out.append({**common, "realised_k": None, "impl": impls[0], **of_task, "task": task})
    return out


def _only(losses: DocumentLosses, mine: Any) -> DocumentLosses:
    return DocumentLosses(losses.ce_D[mine], losses.kl_D[mine], losses.agree_D[mine], losses.tokens_D[mine])


def check(cfg: AppConfig, skeleton: Any) -> None:
    """Before weights are loaded. Raises ConfigError: no MLPs, no such layer, timings beyond its context."""
    find_mlps(skeleton, cfg.dynamic_k.layers)
    variants(cfg.dynamic_k)
    job, limit = cfg.dynamic_k, getattr(skeleton.config, "max_position_embeddings", None)
    if job.rounds and limit is not None and timed_length(job) > limit:
        raise ConfigError(
            f"dynamic_k.prompt_tokens={job.prompt_tokens} with dynamic_k.new_tokens={job.new_tokens} exceeds "
            f"the model's context of {limit} tokens; lower one, or set dynamic_k.rounds=0"
        )
