"""Tokens per second of the implementations that do less work, against the dense model on the same machine.

Every round times the dense model, the dense model again (the control: what the clock itself does), and every
implementation once, each round from another start, so that a busy machine slows all alike. `speedup` is the
median over rounds of dense time / time; `tokens_per_s` comes from the median time. Decoding uses a KV cache
that holds a dense prompt.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saescope.runtime.meter import Meter

DENSE, CONTROL = "dense", "dense_control"


@dataclass(frozen=True)
class Contender:
    """Something to time."""

    name: str
    """`dense`, `dense_control`, or a key of the caller's."""
    opens: Callable[[], AbstractContextManager[Any]]
    """The model is this implementation while open; opening is not timed."""


@dataclass(frozen=True)
class Timing:
    """Result of one contender in one phase."""

    name: str
    phase: str
    """`prefill_b<B>` or `decode_b<B>`."""
    tokens_per_s: float
    speedup: float


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

    `ids_BT` [max batch, prompt + 1 + new tokens]: what is decoded is given, so all contenders do the same
    steps. The step between the two warms the weights up.
    """
    everyone = [Contender(DENSE, nullcontext), Contender(CONTROL, nullcontext), *contenders]
    prompt = ids_BT.shape[1] - new_tokens - 1
    seconds: dict[tuple[str, str], list[float]] = {}
    with torch.inference_mode(), Meter("timing", rounds * len(everyone) * len(batch_sizes), "runs") as meter:
        for size in batch_sizes:
            for number in range(rounds):
                first = number % len(everyone)
                for contender in everyone[first:] + everyone[:first]:
                    for step, took in _once(model, ids_BT[:size], prompt, contender).items():
                        seconds.setdefault((contender.name, f"{step}_b{size}"), []).append(took)
                    meter.advance(1)
    out = []
    for (name, phase), taken in seconds.items():
        step, _, size_text = phase.partition("_b")
        tokens = int(size_text) * (prompt if step == "prefill" else new_tokens)
        ratios = np.array(seconds[DENSE, phase]) / np.array(taken)
        out.append(Timing(name, phase, tokens / float(np.median(taken)), float(np.median(ratios))))
    return out


def _once(model: Any, ids_BT: Tensor, prompt: int, contender: Contender) -> dict[str, float]:
    """Seconds of one decoding and one prefill."""
    cache = _prefill(model, ids_BT[:, :prompt])
    with contender.opens():
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
