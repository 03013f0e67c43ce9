"""Lightning callbacks of a training: checkpoints, a clean stop, and what is told of each step."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from saescope.errors import SaeError
from saescope.runtime.allocator import keep_freed_memory
from saescope.runtime.processes import leave_group_at_exit
from saescope.training import checkpoint
from saescope.training.module import SaeTraining, everywhere

OnStep = Callable[[dict[str, float]], None]


class StoppedError(Exception):
    """Raised after the checkpoint that SIGTERM asked for."""


class Saving(Callback):
    """Restores at the start; saves every so many steps, at the end, and when asked to stop."""

    def __init__(self, path: Path, every: int, resume: bool) -> None:
        self.path, self.every, self.resume = path, every, resume
        self.stop = False
        self.saved_step: int | None = None

    def ask_to_stop(self, *_: Any) -> None:
        """SIGTERM arrived: save after this step, then leave; spawned processes are told too."""
        self.stop = True
        for child in multiprocessing.active_children():
            if child.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    def last_good(self) -> str:
        """Where the weights before a failure are."""
        if not self.path.exists():
            return "no checkpoint was written yet"
        step = self.saved_step
        with suppress(SaeError, TypeError):
            step = (checkpoint.read(self.path) or {}).get("step", step)
        return f"the last good checkpoint is {self.path} (step {step})"

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take up the checkpoint, and tell the loader which share is ours."""
        share: Any = trainer.train_dataloader
        share.rank, share.world = trainer.global_rank, trainer.world_size
        leave_group_at_exit()
        keep_freed_memory()  # a spawned process begins anew
        if trainer.world_size > 1:  # a spawned process has default signal handlers, and threads for itself
            signal.signal(signal.SIGTERM, self.ask_to_stop)
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // trainer.world_size))
        if self.resume:
            state = checkpoint.read(self.path)
            assert state is not None
            pl_module.restore(state)
            self.saved_step = pl_module.step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time and no gradients are waiting."""
        if not pl_module.between_steps:
            return
        # the signal reaches processes at different steps; all have to stop at the same one
        asked = everywhere(torch.tensor(float(self.stop), device=pl_module.device), dist.ReduceOp.MAX)
        due = pl_module.step // self.every > (self.saved_step or 0) // self.every
        if due or asked:
            self._save(trainer, pl_module)
        if asked:
            raise StoppedError

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """The finished training is a checkpoint too."""
        self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, module: SaeTraining) -> None:
        if trainer.is_global_zero:
            checkpoint.write(self.path, {**module.training_state(), "recipe": repr(module.recipe)})
        self.saved_step = module.step
        if dist.is_initialized():
            dist.barrier()


class Telling(Callback):
    """Hands the metrics of each step to the caller and to a Lightning logger, in the first process."""

    def __init__(self, on_step: OnStep | None, logger: Logger | None) -> None:
        self.on_step, self.logger = on_step, logger

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step."""
        if not trainer.is_global_zero:
            return
        metrics = pl_module.last_metrics
        if self.on_step is not None:
            self.on_step(dict(metrics))
        if self.logger is not None:
            self.logger.log_metrics(
                {f"train/{key}": value for key, value in metrics.items()}, step=pl_module.step
            )
