"""A progress bar in tokens, with rate and time left."""

import sys
from typing import Any

from lightning.pytorch import Callback, Trainer
from tqdm import tqdm

from saescope.measure import BatchModule
from saescope.text.windows import Batch


class TokenProgress(Callback):
    """One bar per pass on stderr, on rank 0; silent when stderr is no terminal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Any = None

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Open the bar."""
        assert isinstance(pl_module, BatchModule)
        total = sum(
            int(b.real_BT.sum()) for b in pl_module.batches[trainer.global_rank :: trainer.world_size]
        )
        quiet = not trainer.is_global_zero or not sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=self.name, unit="tok", unit_scale=True, disable=quiet, leave=False)

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
        self.bar.update(int(batch.real_BT.sum()))

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Close the bar."""
        self.bar.close()
