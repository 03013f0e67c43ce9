"""`dynamic_k=sae`: one SAE read at k′ latents a token: reconstruction, CE and KL with it spliced in.

A curve of fidelity over rate, never an inference saving: a spliced SAE adds its own products to the model's,
so the cost columns are null and `saving` is `none`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from saescope.config import AppConfig
from saescope.dynamic_k.part import Part
from saescope.dynamic_k.passes import (
    BatchEdit,
    Passes,
    calibration_and_evaluation,
    loss_columns,
    unmeasured,
)
from saescope.dynamic_k.reads import KEYS, Point, cut_for, read
from saescope.dynamic_k.sae_summary import multi_topk, summarise, warnings
from saescope.extraction.setup import Setup
from saescope.model.capture import Capture
from saescope.model.losses import edit_at
from saescope.sae.base import Sae, SparseCodes
from saescope.stats.reconstruction import variance_unexplained
from saescope.text.windows import Batch

BEYOND = (2.0, 4.0)
"""Multiples of k also read where the SAE was trained for it (Multi-TopK trains k and 4k)."""


class ReadQuality:
    """Sums over counted tokens behind the FVU and L0 of one read, in float64, on the device until the end."""

    def __init__(self) -> None:
        self.tokens = 0
        self.entries: Any = 0
        self.err2: Any = 0.0
        self.x2: Any = 0.0
        self.x_D: Any = 0.0

    def update(self, target_ND: Tensor, xhat_ND: Tensor, codes: SparseCodes) -> None:
        """Add N tokens."""
        target = target_ND.double()
        self.tokens += len(target)
        self.entries += (codes.acts != 0).sum()
        self.err2 += (target - xhat_ND.double()).pow(2).sum()
        self.x2 += target.pow(2).sum()
        self.x_D += target.sum(0)

    @property
    def l0(self) -> float:
        """Mean number of latents read."""
        return int(self.entries) / self.tokens

    @property
    def fvu(self) -> float | None:
        """Fraction of variance unexplained, pooled over all tokens."""
        return variance_unexplained(self.tokens, self.x_D.cpu().numpy(), float(self.x2), float(self.err2))


class SplicedReads:
    """SplicedReads of one encode per batch, decoded one after the other into the model at the hookpoint."""

    def __init__(self, capture: Capture, sae: Sae, points: list[Point]) -> None:
        self.capture, self.sae = capture, sae
        self.quality = {point: ReadQuality() for point in points}
        self._counted: tuple[Tensor, ...]
        self._x_ND: Tensor
        self._codes: SparseCodes
        self._keys: dict[str, Tensor] = {}

    def encoding(self, batch: Batch) -> AbstractContextManager[None]:
        """In the dense pass: encode the counted positions, change nothing."""

        def encode(x_BTD: Tensor, old_BTD: Tensor) -> Tensor:
            self._counted = batch.counted_BT.nonzero(as_tuple=True)
            self._x_ND = x_BTD[self._counted].float()
            self._codes = self.sae.encode(self._x_ND)
            selectors = {point.selector for point in self.quality}
            self._keys = {name: KEYS[name](self._codes) for name in selectors}
            return old_BTD

        return self.capture.replaced(encode)

    def spliced(self, point: Point) -> BatchEdit:
        """Splice in the read `point` of what the dense pass encoded; counted positions only."""

        def edit(_batch: Batch) -> AbstractContextManager[None]:
            def decode(_x_ND: Tensor, old_ND: Tensor) -> Tensor:
                codes = read(self._codes, self._keys[point.selector], point.cut)
                xhat_ND = self.sae.reconstruct(self._x_ND, codes)
                self.quality[point].update(old_ND, xhat_ND, codes)
                return xhat_ND

            return self.capture.replaced(edit_at(self._counted, decode))

        return edit


def run_sae(cfg: AppConfig, setup: Setup, sae: Sae) -> Part:
    """Read the job's SAE at the grid's fractions of its k (of its mean L0, where the number varies).

    `topk` reads are prefixes of one encode, so they are nested; the other selectors get the cut that gives
    the same mean L0 on calibration documents, and are read on others. Tokens get no more latents than
    `encode` finds, k in a TopK SAE (4k in a Multi-TopK one), since it was trained for no more.
    Raises ProbeError for a task of one document.
    """
    job = cfg.dynamic_k
    sae.to(setup.machine.device)
    hookpoint = (setup.on_both_sides(sae) if sae.transcodes else setup).hookpoint
    capture = Capture(setup.lm.model, hookpoint)
    calibration, evaluation = calibration_and_evaluation(setup, job)
    part = Part(left_out=[unmeasured(evaluation, job)])
    beyond = BEYOND if multi_topk(sae) else ()
    with _widened(sae, max((1.0, *beyond))):
        base, points = calibrate(capture, sae, calibration, job.selectors, (*job.k, *beyond))
        reads = SplicedReads(capture, sae, points)
        dense, spliced = evaluation.losses(
            {point: reads.spliced(point) for point in points}, during_dense=reads.encoding, at=hookpoint
        )
    for point in points:
        quality = reads.quality[point]
        part.rows.append(
            {
                "target": "sae",
                "selector": point.selector,
                "score": "act",
                "granularity": "token",
                "phase": "all",
                "impl": "splice",
                "k": point.k,
                "realised_k": quality.l0 / base,
                **loss_columns(dense, spliced[point], job.bootstraps, cfg.seed),
                "saving": "none",
                "seed": cfg.seed,
                "fvu": quality.fvu,
            }
        )
    summarise(part, base, points)
    part.warnings += warnings(sae)
    return part


def calibrate(
    capture: Capture, sae: Sae, passes: Passes, selectors: tuple[str, ...], fractions: tuple[float, ...]
) -> tuple[float, list[Point]]:
    """What the fractions are of (k, or the mean L0 where k is None), and the reads.

    At every fraction, each selector's cut keeps as many calibration entries as the `topk` prefix does.
    """
    batches_of_keys: dict[str, list[Tensor]] = {name: [] for name in {"topk", *selectors}}
    tokens = 0

    def encoding(batch: Batch) -> AbstractContextManager[None]:
        def encode(x_BTD: Tensor, old_BTD: Tensor) -> Tensor:
            nonlocal tokens
            codes = sae.encode(x_BTD[batch.counted_BT].float())
            tokens += len(codes.sizes_N)
            for name, keys in batches_of_keys.items():
                keys.append(KEYS[name](codes))
            return old_BTD

        return capture.replaced(encode)

    passes.watch(encoding)
    keys = {name: torch.cat(batches) for name, batches in batches_of_keys.items()}
    base = len(keys["topk"]) / tokens if sae.k is None else float(sae.k)
    points = []
    for selector in selectors:
        for k in fractions:
            cut = 1.0 - max(1, round(k * base))
            if selector != "topk":
                cut = cut_for(keys[selector], int((keys["topk"] >= cut).sum()))
            points.append(Point(selector, k, cut))
    return base, points


@contextmanager
def _widened(sae: Sae, factor: float) -> Iterator[None]:
    """While open, a TopK SAE encodes `factor` times its k."""
    if factor == 1.0:
        yield
        return
    coder: Any = sae.coder
    cfg = coder.cfg
    cfg.k, before = min(round(factor * cfg.k), sae.num_latents), cfg.k
    try:
        yield
    finally:
        cfg.k = before
