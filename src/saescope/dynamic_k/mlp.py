"""`dynamic_k=mlp`: quality and cost of MLPs that execute a fraction of their neurons."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from saescope.config import AppConfig
from saescope.dynamic_k.calibration import calibrate, fitting_batch
from saescope.dynamic_k.cost import Macs, cost, macs_of, saving_of
from saescope.dynamic_k.mlp_summary import Pooled, summarise
from saescope.dynamic_k.mlps import find_mlps
from saescope.dynamic_k.part import ALL_TASKS, Part
from saescope.dynamic_k.passes import (
    DocumentLosses,
    Passes,
    calibration_and_evaluation,
    loss_columns,
    unmeasured,
)
from saescope.dynamic_k.timing import timed_length, timed_rows
from saescope.dynamic_k.variants import Masks, phase_of, sparse_positions, variants
from saescope.extraction.setup import Setup
from saescope.model.load import check_context
from saescope.runtime.meter import Meter
from saescope.text.windows import Windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeasuredVariant:
    """One variant of the grid with its losses, and the dense model's at the same positions."""

    masks: Masks
    dense: DocumentLosses
    sparse: DocumentLosses
    macs: Macs

    @property
    def impl(self) -> str:
        """The implementation that skips the dropped neurons."""
        return "gather" if self.masks.variant.granularity == "token" else "sliced"

    @property
    def realised_k(self) -> float:
        """Fraction of the neurons that was kept."""
        return self.masks.kept_neurons.fraction

    def pooled(self) -> Pooled:
        """Losses over all documents, and the fraction of FLOPs that `impl` executes."""
        frac = cost(self.macs, self.impl, self.realised_k)["total_flops_frac"]
        return Pooled(self.dense.ce, self.sparse.ce, self.sparse.kl, frac)


def check(cfg: AppConfig, skeleton: Any) -> None:
    """Check without weights. Raises ConfigError: no MLPs, no such layer, timings beyond the context."""
    job = cfg.dynamic_k
    find_mlps(skeleton, job.layers)
    variants(job)
    if job.rounds:
        check_context(
            skeleton.config,
            f"dynamic_k.prompt_tokens={job.prompt_tokens} with dynamic_k.new_tokens={job.new_tokens}",
            timed_length(job),
            remedy="lower one, or set dynamic_k.rounds=0",
        )


def run_mlp(cfg: AppConfig, setup: Setup) -> Part:
    """Every variant of the grid on evaluation documents, and timings.

    Raises ConfigError for a model without MLPs, ProbeError for a task of one document.
    """
    job, model, windows = cfg.dynamic_k, setup.lm.model, setup.windows
    mlps = find_mlps(model, job.layers)
    calibration_passes, evaluation = calibration_and_evaluation(setup, job)
    calibration = calibrate(mlps, calibration_passes, cfg.seed)
    grid = [
        Masks(v, mlps, calibration, phase_of(v.granularity, job.phase), job.compensation, cfg.seed)
        for v in variants(job)
    ]
    log.info("dynamic k: %d MLPs, %d variants on %d windows", len(mlps), len(grid), len(evaluation.order))
    with Meter("dynamic k, cuts", len(grid), "variants") as meter:
        for masks in grid:
            masks.fit(model, fitting_batch(calibration_passes))
            meter.advance(1)
    macs = macs_of(model, mlps, _context(windows, evaluation.order))
    measured: list[MeasuredVariant] = []
    for phase in ("all", "generation"):
        of_phase = [masks for masks in grid if masks.phase == phase]
        if of_phase:
            measured += _measure(phase, of_phase, evaluation, macs)
    part = Part(left_out=[unmeasured(evaluation, job)])
    for variant in measured:
        part.rows += _rows(variant, cfg, windows)
    part.rows += timed_rows(cfg, setup, mlps, calibration, macs)
    summarise(part, job, {variant.masks.variant: variant.pooled() for variant in measured})
    return part


def _measure(phase: str, grid: list[Masks], evaluation: Passes, macs: Macs) -> list[MeasuredVariant]:
    """Measure variants that are sparse at the same positions; the dense model is scored at those too."""
    edits = {masks.variant: masks.applied for masks in grid}
    dense, sparse = evaluation.losses(edits, among=lambda batch: sparse_positions(phase, batch))
    return [MeasuredVariant(masks, dense, sparse[masks.variant], macs) for masks in grid]


def _context(windows: Windows, order: Any) -> float:
    """Keys per query, as a full attention product has them: mean window length over tokens."""
    length_W = np.array([len(windows.ids[w]) for w in order], dtype=np.float64)
    return float((length_W**2).sum() / length_W.sum())


def _rows(measured: MeasuredVariant, cfg: AppConfig, windows: Windows) -> list[dict[str, Any]]:
    """The pooled row under every implementation that can execute the mask, and one row per task."""
    v, job, realised_k = measured.masks.variant, cfg.dynamic_k, measured.realised_k
    impls = [impl for impl in job.impls if impl in ("mask", measured.impl)] or ["mask"]
    common = {
        "target": "mlp",
        "selector": v.selector,
        "score": v.score,
        "granularity": v.granularity,
        "phase": measured.masks.phase,
        "k": v.k,
        "realised_k": realised_k,
        "seed": cfg.seed,
    }

    def losses(dense: DocumentLosses, sparse: DocumentLosses) -> dict[str, float | int]:
        return loss_columns(dense, sparse, job.bootstraps, cfg.seed)

    pooled = losses(measured.dense, measured.sparse)
    rows = []
    for impl in impls:
        spent = cost(measured.macs, impl, realised_k)
        saving = saving_of(v.granularity, impl)
        rows.append({**common, "impl": impl, **pooled, **spent, "saving": saving, "task": ALL_TASKS})
    for number, task in enumerate(windows.tasks):
        of_task_D = (windows.task_D == number) & (measured.dense.tokens_D > 0)
        if of_task_D.any():
            of_task = losses(measured.dense.of(of_task_D), measured.sparse.of(of_task_D))
            rows.append({**common, "realised_k": None, "impl": impls[0], **of_task, "task": task})
    return rows
