"""Effects of many sets in one long pass: with progress, and resumed where a killed job stopped."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from saescope.causal.ablation import Ablation
from saescope.causal.removal import LatentSet
from saescope.config import AppConfig
from saescope.extraction.setup import Setup
from saescope.left_out import LeftOut
from saescope.runfolder.partial import Arrays, read_partial, save_partial
from saescope.runtime.meter import Meter
from saescope.stats.arrays import IntArray
from saescope.stats.causal import Effects
from saescope.text.windows import Batch, Windows

log = logging.getLogger(__name__)

SAVE_EVERY_S = 20.0
"""Seconds of work that a killed job loses, about."""
_SUMS = ("ce_GD", "kl_GD", "norm_GD", "firings_GD", "tokens_D")


class Passes(Protocol):
    """Forward passes batch by batch, at one hookpoint (`Ablation`) or several (`JointAblation`)."""

    @property
    def setup(self) -> Setup: ...  # noqa: D102 - as in `Ablation`

    @property
    def windows(self) -> Windows: ...  # noqa: D102

    @property
    def cut(self) -> list[Batch]: ...  # noqa: D102

    @property
    def order(self) -> IntArray: ...  # noqa: D102

    @property
    def tokens(self) -> int: ...  # noqa: D102

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def num_tokens(self) -> int: ...  # noqa: D102

    def each_batch(  # noqa: D102
        self, sets: Sequence[LatentSet], meter: Meter, start: int = 0
    ) -> Iterator[Effects]: ...


def measure(
    ablation: Passes, sets: Sequence[LatentSet], name: str, cfg: AppConfig, run_dir: Path | None
) -> Effects:
    """`ablation.effects(sets)`, saved batch by batch; `name` tells the passes of a job apart.

    None as folder: nothing is saved.
    """
    total = Effects.zeros(len(sets), len(ablation.windows.task_D))
    identity, start, unsaved = "", 0, False
    if run_dir is not None:
        identity = _identity(ablation, sets, cfg)
        saved = read_partial(run_dir, name, identity)
        if saved is not None:
            start = int(saved.pop("batches"))
            total = Effects(**{key: saved[key] for key in _SUMS})  # type: ignore[arg-type]
    done = sum(int(batch.real_BT.sum()) for batch in ablation.cut[:start])
    tokens = len(sets) * ablation.num_tokens
    last = time.monotonic()
    with Meter(f"causal, {name}", tokens, "tokens", start=len(sets) * done) as meter:
        for number, part in enumerate(ablation.each_batch(sets, meter, start), start + 1):
            total.add(part)
            over = number == len(ablation.cut)  # saved too: a later step may be killed
            if run_dir is not None and (over or time.monotonic() - last > SAVE_EVERY_S):
                arrays: Arrays = {key: getattr(total, key) for key in _SUMS}
                try:
                    save_partial(run_dir, name, identity, arrays | {"batches": np.array(number)})
                except OSError as error:  # a full disk costs the resumption, not the job
                    if not unsaved:
                        log.warning(
                            "causal, %s: what is done could not be saved in %s (%s); a job that is stopped "
                            "now does it again",
                            name,
                            run_dir,
                            error.strerror or error,
                        )
                    unsaved = True
                last = time.monotonic()
    return total


def unmeasured(ablation: Ablation, setting: str, part: str) -> LeftOut:
    """Counted tokens that `ablation` does not run on; `setting` limits them."""
    total = ablation.windows.num_tokens
    why = f"Effects are measured on about {setting} tokens, in the half of the documents that measures."
    return LeftOut("tokens", total - int(ablation.windows.tokens_W[ablation.order].sum()), total, why, part)


def _identity(ablation: Passes, sets: Sequence[LatentSet], cfg: AppConfig) -> str:
    """Of everything that decides the sums: configuration, windows and how they are batched, sets."""
    settings = [cfg.scientific(), ablation.tokens, ablation.seed, ablation.setup.machine.batch_tokens]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(ablation.order.tobytes())
    for latents in sets:
        digest.update(b"/" + latents.latents_F.tobytes())
        if latents.to_MF is not None:
            digest.update(latents.to_MF.tobytes())
    return digest.hexdigest()[:32]
