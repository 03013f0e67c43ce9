"""Progress in tokens, with rate and time left: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from tqdm import tqdm

from saescope.measure import BatchModule
from saescope.text.windows import Batch

log = logging.getLogger(__name__)

LOG_EVERY_S = 30.0


class TokenProgress(Callback):
    """One bar per pass on stderr, on rank 0; where stderr is no terminal, a log line every half minute."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Any = None
        self.said = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Open the bar."""
        assert isinstance(pl_module, BatchModule)
        share = pl_module.batches[trainer.global_rank :: trainer.world_size]
        total = sum(int(b.real_BT.sum()) for b in share)
        quiet = not trainer.is_global_zero or not sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=self.name, unit="tok", unit_scale=True, disable=quiet, leave=False)
        self.started = self.said = time.monotonic()
        self.done = 0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Advance by the batch's tokens."""
        tokens = int(batch.real_BT.sum())
        self.bar.update(tokens)
        self.done += tokens
        now = time.monotonic()
        if self.bar.disable and trainer.is_global_zero and now - self.said > LOG_EVERY_S:
            self.said = now
            rate = self.done / (now - self.started)
            left = (self.bar.total - self.done) / rate
            log.info(
                "%s: %d of %d tokens, %.0f tokens/s, %.0f s left",
                self.name,
                self.done,
                self.bar.total,
                rate,
                left,
            )

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Close the bar."""
        self.bar.close()
