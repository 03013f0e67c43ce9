"""Several SAEs trained side by side on one stream of batches, each as if it were alone.

Where activations cannot be stored, the language model is by far the most expensive part of a training, and
what it gives is the same for every SAE at the hookpoint.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from saescope.training.callbacks import CheckpointSaver, OnStep, StepMetrics, StoppedError
from saescope.training.module import LossNotFiniteError, SaeTraining

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Companion:
    """An SAE that is trained beside another one."""

    module: SaeTraining

    checkpoint_path: Path

    on_step: OnStep | None = None
    """Gets `module.last_metrics` after every batch."""


class SideBySide(LightningModule):
    """The steps of `lead` and of its companions on every batch, one after the other."""

    def __init__(self, lead: SaeTraining, companions: Sequence[Companion]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.lead = lead
        self.companions = list(companions)
        """Those whose loss is finite so far."""
        self.stepped: list[Companion] = []
        """Those that made a step on the last batch: one that is ahead waits until `lead` is at its step."""
        for number, companion in enumerate(companions):
            self.add_module(f"companion_{number}", companion.module)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Those of all SAEs, each under its own schedule."""
        modules = [self.lead, *(companion.module for companion in self.companions)]
        return [optimizer for module in modules for optimizer in module.configure_optimizers()]

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One step of every SAE. Raises LossNotFiniteError for `lead`; a companion leaves."""
        self.stepped = [each for each in self.companions if each.module.step == self.lead.step]
        for companion in tuple(self.stepped):
            try:
                companion.module.training_step(batch, batch_idx)
            except LossNotFiniteError as error:
                log.warning("%s: %s; its own job goes on from there", companion.checkpoint_path.parent, error)
                self.companions.remove(companion)
                self.stepped.remove(companion)
        self.lead.training_step(batch, batch_idx)


class LeadCallback(Callback):
    """A callback of `lead` that sees it in place of the whole."""

    def __init__(self, inner: Callback) -> None:
        self.inner = inner

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Pass on."""
        self.inner.on_train_start(trainer, pl_module.lead)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Pass on."""
        self.inner.on_train_batch_end(trainer, pl_module.lead, outputs, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Pass on."""
        self.inner.on_train_end(trainer, pl_module.lead)


class CompanionCallback(Callback):
    """Metrics and checkpoints of one companion, which stops when the first SAE does."""

    def __init__(self, companion: Companion, every: int, resume: bool) -> None:
        self.companion = companion
        self.metrics = StepMetrics(companion.on_step, None)
        self.saver = CheckpointSaver(companion.checkpoint_path, every, resume)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Restore its checkpoint."""
        self.saver.on_train_start(trainer, self.companion.module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the step; save when a checkpoint is due."""
        if self.companion not in pl_module.stepped:
            return
        module = self.companion.module
        self.metrics.on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        self.saver.on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Save where SIGTERM stops the training, as the first SAE's callback has done."""
        module = self.companion.module
        running = self.companion in pl_module.companions
        if isinstance(exception, StoppedError) and running and module.between_steps:
            self.saver.save(trainer, module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the finished training."""
        if self.companion in pl_module.companions:
            self.saver.on_train_end(trainer, self.companion.module)
