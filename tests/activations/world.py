"""A stand-in for the language model, for tests of the cache; importable by spawned processes."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saescope.activations import ActivationCache, ActivationKey, CachedActivations, LiveActivations
from saescope.text.token_rows import rows_digest

CTX, WIDTH = 4, 3
ROW_BYTES = CTX * WIDTH * 4
SHARD_BYTES = 5 * ROW_BYTES
"""Five rows of float32."""


class CountingCapture:
    """Activations that depend on the tokens; counts forward passes and rows."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.calls = 0
        self.rows = 0

    def __call__(self, ids: Tensor) -> Tensor:
        self.calls += 1
        self.rows += len(ids)
        time.sleep(self.delay)
        return torch.sin(ids.float()[..., None] * torch.arange(1.0, WIDTH + 1))

    def width(self) -> int:
        return WIDTH


def token_table(rows: int = 23, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, (rows, CTX)).astype(np.int32)


def make_key(rows: np.ndarray, **changes: Any) -> ActivationKey:
    values = {"model": "m", "hookpoint": "layers.1:output", "d_in": WIDTH, "dtype": "float32", **changes}
    return ActivationKey(rows=rows_digest(rows), num_rows=len(rows), tokens=rows.size, **values)


def cached(
    root: Path,
    capture: CountingCapture,
    rows: np.ndarray,
    cap_gb: float = 1.0,
    **key: Any,
) -> CachedActivations:
    live = LiveActivations(capture, rows, batch_rows=5, device="cpu")
    cache = ActivationCache(root, cap_gb)
    return CachedActivations(cache, make_key(rows, **key), live, shard_bytes=SHARD_BYTES)


def build_in_process(root: str, ready: Any, start: Any, results: Any) -> None:
    """One of several concurrent jobs: read everything in an order of its own, report the work done."""
    capture = CountingCapture(delay=0.03)
    rows = token_table(60)
    ready.release()
    start.wait()
    with cached(Path(root), capture, rows) as source:
        values = source.read(np.arange(60)[::-1].copy())
        results.put((source.built, capture.rows, float(values.double().sum())))
