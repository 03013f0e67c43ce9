"""Tokens per second of the implementations that do less work, as rows of `dynamic_k.csv`.

Every round times the dense model, the dense model again (the control, which shows the noise) and every
implementation once. The order rotates from round to round, so that a busy machine slows all alike.
`speedup` is the median over rounds of dense time / time; `tokens_per_s` comes from the median time. Decoding
uses the KV cache of a densely executed prompt.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saescope.config import AppConfig
from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.calibration import Calibration
from saescope.dynamic_k.cost import Macs, cost, saving_of
from saescope.dynamic_k.implementations import gathered_top, sliced
from saescope.dynamic_k.mlps import Mlp, abs_act
from saescope.dynamic_k.selectors import kept_count
from saescope.extraction.setup import Setup
from saescope.runtime.meter import Meter
from saescope.text.windows import Windows

GRANULARITY = {"gather": "token", "sliced": "static"}
"""What each timed implementation executes: top-k by |a| of each token, or of the calibration mean."""

DENSE, CONTROL = "dense", "dense_control"


@dataclass(frozen=True)
class Contender:
    """An implementation to time."""

    name: str
    """`dense`, `dense_control`, or a key of the caller."""
    applied: Callable[[], AbstractContextManager[Any]]
    """The model is this implementation while the context is open; opening is not timed."""


@dataclass(frozen=True)
class Timing:
    """Result of one contender in one phase."""

    name: str
    phase: str
    """`prefill_b<B>` or `decode_b<B>`."""
    tokens_per_s: float
    speedup: float


def timed_length(job: DynamicKConfig) -> int:
    """Tokens of a timed sequence: prompt, one step to warm up, new tokens."""
    return job.prompt_tokens + 1 + job.new_tokens


def timed_rows(
    cfg: AppConfig, setup: Setup, mlps: list[Mlp], calibration: Calibration, macs: Macs
) -> list[dict[str, Any]]:
    """Rows of the timings; none where nothing is to be timed. Their quality columns are null."""
    job = cfg.dynamic_k
    requested = [(impl, k) for impl in GRANULARITY if impl in job.impls for k in job.k]
    if not job.rounds or not requested:
        return []
    contenders = [Contender(_name(impl, k), _applied(impl, k, mlps, calibration)) for impl, k in requested]
    results = timings(
        setup.lm.model,
        _ids(setup.windows, job, cfg.seed).to(setup.machine.device),
        contenders,
        batch_sizes=job.batch_sizes,
        new_tokens=job.new_tokens,
        rounds=job.rounds,
    )
    columns = {name: {"selector": "dense", "impl": name, "k": 1.0} for name in (DENSE, CONTROL)}
    for impl, k in requested:
        realised = sum(kept_count(k, mlp.d_ff) for mlp in mlps) / sum(mlp.d_ff for mlp in mlps)
        columns[_name(impl, k)] = {
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
            **columns[timing.name],
            "phase": timing.phase,
            "tokens_per_s": timing.tokens_per_s,
            "speedup": timing.speedup,
            "seed": cfg.seed,
        }
        for timing in results
    ]


def timings(
    model: Any,
    ids_BT: Tensor,
    contenders: list[Contender],
    *,
    batch_sizes: tuple[int, ...],
    new_tokens: int,
    rounds: int,
) -> list[Timing]:
    """Time prefill of all but the last `new_tokens` + 1 ids, and decoding of the last `new_tokens`.

    `ids_BT` [max batch, prompt + 1 + new tokens]: the decoded tokens are fixed, so that all contenders do the
    same steps. The step between the two is a warm-up.
    """
    contenders = [Contender(DENSE, nullcontext), Contender(CONTROL, nullcontext), *contenders]
    prompt = ids_BT.shape[1] - new_tokens - 1
    seconds: dict[tuple[str, str], list[float]] = {}
    runs = rounds * len(contenders) * len(batch_sizes)
    with torch.inference_mode(), Meter("timing", runs, "runs") as meter:
        for size in batch_sizes:
            for number in range(rounds):
                first = number % len(contenders)
                for contender in contenders[first:] + contenders[:first]:
                    for step, duration in _durations(model, ids_BT[:size], prompt, contender).items():
                        seconds.setdefault((contender.name, f"{step}_b{size}"), []).append(duration)
                    meter.advance(1)
    results = []
    for (name, phase), durations in seconds.items():
        step, _, size_text = phase.partition("_b")
        tokens = int(size_text) * (prompt if step == "prefill" else new_tokens)
        ratios = np.array(seconds[DENSE, phase]) / np.array(durations)
        results.append(Timing(name, phase, tokens / float(np.median(durations)), float(np.median(ratios))))
    return results


def _name(impl: str, k: float) -> str:
    return f"{impl} {k}"


def _applied(
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


def _durations(model: Any, ids_BT: Tensor, prompt: int, contender: Contender) -> dict[str, float]:
    """Seconds of one decoding and one prefill."""
    cache = _prefill(model, ids_BT[:, :prompt])
    with contender.applied():
        _decode(model, ids_BT[:, prompt : prompt + 1], cache)
        return {
            "decode": _timed(model, lambda: _decode(model, ids_BT[:, prompt + 1 :], cache)),
            "prefill": _timed(model, lambda: _prefill(model, ids_BT[:, :prompt])),
        }


def _prefill(model: Any, ids_BT: Tensor) -> Any:
    return model(input_ids=ids_BT, use_cache=True, logits_to_keep=1).past_key_values


def _decode(model: Any, ids_BT: Tensor, cache: Any) -> None:
    """One step per column; the cache grows."""
    for at in range(ids_BT.shape[1]):
        model(input_ids=ids_BT[:, at : at + 1], past_key_values=cache, use_cache=True, logits_to_keep=1)


def _timed(model: Any, run: Callable[[], Any]) -> float:
    _synchronise(model)
    began = time.perf_counter()
    run()
    _synchronise(model)
    return time.perf_counter() - began


def _synchronise(model: Any) -> None:
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
