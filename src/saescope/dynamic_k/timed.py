"""Which implementations are timed at which k, on which tokens, as rows of `dynamic_k.csv`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saescope.config import AppConfig
from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.calibration import Calibration
from saescope.dynamic_k.cost import Macs, cost, saving_of
from saescope.dynamic_k.execute import gathered_top, sliced
from saescope.dynamic_k.mlps import Mlp, abs_act
from saescope.dynamic_k.part import Inputs
from saescope.dynamic_k.selectors import kept_count
from saescope.dynamic_k.speed import CONTROL, DENSE, Contender, timings
from saescope.text.windows import Windows

GRANULARITY = {"gather": "token", "sliced": "static"}
"""What each timed implementation executes: top-k by |a| of each token, or of the calibration mean."""


def timed_length(job: DynamicKConfig) -> int:
    """Tokens of a timed sequence: prompt, one step to warm up, new tokens."""
    return job.prompt_tokens + 1 + job.new_tokens


def timed_rows(
    cfg: AppConfig, inputs: Inputs, mlps: list[Mlp], calibration: Calibration, macs: Macs
) -> list[dict[str, Any]]:
    """Rows of the timings; none where nothing is to be timed. Quality columns are left to the other rows."""
    job = cfg.dynamic_k
    asked = [(impl, k) for impl in GRANULARITY if impl in job.impls for k in job.k]
    if not job.rounds or not asked:
        return []
    contenders = [Contender(_name(impl, k), _opens(impl, k, mlps, calibration)) for impl, k in asked]
    found = timings(
        inputs.lm.model,
        _ids(inputs.windows, job, cfg.seed).to(inputs.machine.device),
        contenders,
        batch_sizes=job.batch_sizes,
        new_tokens=job.new_tokens,
        rounds=job.rounds,
    )
    what = {name: {"selector": "dense", "impl": name, "k": 1.0} for name in (DENSE, CONTROL)}
    for impl, k in asked:
        realised = sum(kept_count(k, mlp.d_ff) for mlp in mlps) / sum(mlp.d_ff for mlp in mlps)
        what[_name(impl, k)] = {
            "selector": "topk",
            "score": "abs_act",
            "granularity": GRANULARITY[impl],
            "impl": impl,
            "k": k,
            "realised_k": realised,
            **cost(macs, impl, realised),
            "saving": saving_of(GRANULARITY[impl], impl),
        }
    return [
        {
            "target": "mlp",
            **what[timing.name],
            "phase": timing.phase,
            "tokens_per_s": timing.tokens_per_s,
            "speedup": timing.speedup,
            "seed": cfg.seed,
        }
        for timing in found
    ]


def _name(impl: str, k: float) -> str:
    return f"{impl} {k}"


def _opens(
    impl: str, k: float, mlps: list[Mlp], calibration: Calibration
) -> Callable[[], AbstractContextManager[Any]]:
    if impl == "gather":
        return lambda: gathered_top(mlps, lambda mlp: kept_count(k, mlp.d_ff), abs_act)
    return lambda: sliced(mlps, lambda mlp: calibration.static_mask(mlp, "abs_act", k))


def _ids(windows: Windows, job: DynamicKConfig, seed: int) -> Tensor:
    """Probe text end to end, from random places, [largest batch, tokens]."""
    length = timed_length(job)
    text = np.concatenate(windows.ids).astype(np.int64)
    start_B = np.random.default_rng(seed).integers(0, len(text), max(job.batch_sizes))
    return torch.from_numpy(text[(start_B[:, None] + np.arange(length)) % len(text)])
