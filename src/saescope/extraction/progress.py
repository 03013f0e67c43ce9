"""Progress of a measurement pass, in tokens."""

from typing import Any

from lightning.pytorch import Callback, Trainer

from saescope.extraction.modules import BatchModule
from saescope.runtime.meter import Meter
from saescope.text.windows import Batch


class TokenProgress(Callback):
    """One meter per pass, on rank 0."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meter: Meter | None = None
        self.tokens: list[int] = []
        """Of each batch of this process; counted on the host, where the batches come from."""

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start counting."""
        assert isinstance(pl_module, BatchModule)
        share = pl_module.batches[trainer.global_rank :: trainer.world_size]
        self.tokens = [int(batch.real_BT.sum()) for batch in share]
        self.meter = Meter(self.name, sum(self.tokens), "tokens", quiet=not trainer.is_global_zero)

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
        assert self.meter is not None
        self.meter.advance(self.tokens[batch_idx])

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Stop counting: what follows would be shown beside a pass that has failed."""
        if self.meter is not None:
            self.meter.close()

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop counting."""
        assert self.meter is not None
        self.meter.close()
