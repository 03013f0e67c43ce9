"""The stage of a job: the parts that `cfg.causal` selects."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saescope.analysis.features import FeatureResults
from saescope.causal.part import Part
from saescope.config import Ablate, AppConfig, Attribute
from saescope.extraction.codes import Codes
from saescope.extraction.setup import Setup
from saescope.model.hookpoints import Hookpoint
from saescope.sae.base import Sae

if TYPE_CHECKING:
    from saescope.causal.layers import Reading

log = logging.getLogger(__name__)


def further_hookpoints(cfg: AppConfig, own: Hookpoint, model: Any) -> list[Hookpoint]:
    """Hookpoints that the stage reads beside the job's own; `model` needs no weights.

    Raises HookpointError for a layer that the model lacks, ConfigError where the own one is in no layer.
    """
    from saescope.causal.layers import places

    return places(cfg, own, model)


def run(
    cfg: AppConfig,
    setup: Setup,
    coder: Sae,
    codes: Codes,
    features: FeatureResults,
    run_dir: Path | None = None,
    sae_at: Callable[[Setup], Sae] | None = None,
) -> Part:
    """Measure what the latents of each task do there and elsewhere.

    `sae_at` loads or trains the SAE of a further hookpoint, for `causal.layers`.

    `metrics` has every key of the parts that ran, null with a reason where it does not apply, and no key of
    the others; with `causal=none` there is none. Sets are ablated in float32, whatever the job runs in. A
    killed job leaves its sums in `run_dir`, and goes on from there. Raises ProbeError for a task of a single
    document.
    """
    if cfg.causal.method == "none":
        return Part()
    read: Sequence[Reading] = ()
    warnings: list[str] = []
    if isinstance(cfg.causal, Ablate) and cfg.causal.layers is not None:
        from saescope.causal.layers import read_layers

        assert sae_at is not None
        read, warnings = read_layers(cfg, setup, coder, codes, sae_at)  # as other jobs read and train there
    with _in_float32(setup.lm.model):
        part = _parts(cfg, setup, coder, codes, features, run_dir, read)
    part.warnings += warnings
    part.metrics = {key: _finite(part.metrics[key]) for key in sorted(part.metrics)}
    return part


def _parts(
    cfg: AppConfig,
    setup: Setup,
    coder: Sae,
    codes: Codes,
    features: FeatureResults,
    run_dir: Path | None,
    read: "Sequence[Reading]",
) -> Part:
    part = Part()
    match cfg.causal:
        case Attribute() as job:
            from saescope.causal.latents import run_attribution

            part.add(run_attribution(cfg, job.tokens, setup, coder, codes, features.features, run_dir)[0])
        case Ablate() as job:
            from saescope.causal.latents import run_attribution
            from saescope.causal.modules import run_modules
            from saescope.causal.selectivity import run_ablation

            of_latents, attribution = run_attribution(
                cfg, job.attribution_tokens, setup, coder, codes, features.features, run_dir
            )
            part.add(of_latents)
            # gradients tell what taking latents out does, not what other activations in their place do
            estimate = attribution if job.to == "zero" else None
            part.add(run_ablation(cfg, job, setup, coder, codes, run_dir, estimate))
            part.add(run_modules(cfg, job, setup, coder, codes, features.features, attribution, run_dir))
            if job.layers is not None:
                from saescope.causal.layers import run_layers

                part.add(run_layers(cfg, job, setup, codes, read, run_dir))
    return part


@contextmanager
def _in_float32(model: torch.nn.Module) -> Iterator[None]:
    """Have the model compute in float32 while open.

    In bfloat16 any change to an activation also changes the rounding of all that comes after it: about 0.01
    nats of KL a token in a model of 135M, as much as a small set has on tasks that do not need it, and far
    more than a single latent.
    """
    tensors = [it for it in (*model.parameters(), *model.buffers()) if it.is_floating_point()]
    before = [it.dtype for it in tensors]
    if any(dtype != torch.float32 for dtype in before):
        log.info("causal: the model runs in float32, where small effects are not lost in rounding")
    for tensor in tensors:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor, dtype in zip(tensors, before, strict=True):
            tensor.data = tensor.data.to(dtype)


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
