"""Lightning callbacks of a training: checkpoints and a clean stop; the metrics of each step."""

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
from saescope.runtime.threads import share_threads
from saescope.training import checkpoint
from saescope.training.module import SaeTraining, reduce_over_processes

OnStep = Callable[[dict[str, float]], None]


class StoppedError(Exception):
    """SIGTERM arrived, and the checkpoint is written."""


class CheckpointSaver(Callback):
    """Restores the checkpoint at the start; writes one every `every` steps, at the end, and on SIGTERM."""

    def __init__(self, path: Path, every: int, resume: bool) -> None:
        self.path, self.every, self.resume = path, every, resume
        self.stop = False
        self.saved_step: int | None = None

    def request_stop(self, *_: Any) -> None:
        """Handler of SIGTERM: save after this step, then stop; passed on to spawned processes."""
        self.stop = True
        for child in multiprocessing.active_children():
            if child.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    def last_checkpoint(self) -> str:
        """The part of an error message that says where the weights before the failure are."""
        if not self.path.exists():
            return "no checkpoint was written yet"
        step = self.saved_step
        with suppress(SaeError, TypeError):
            step = (checkpoint.read(self.path) or {}).get("step", step)
        return f"the last good checkpoint is {self.path} (step {step})"

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Set up this process, name its share of the batches to the loader, and restore the checkpoint."""
        share: Any = trainer.train_dataloader
        share.rank, share.world = trainer.global_rank, trainer.world_size
        leave_group_at_exit()
        keep_freed_memory()  # a setting of the process: a spawned one lacks it
        if trainer.world_size > 1:  # a spawned process has default signal handlers and one thread per core
            signal.signal(signal.SIGTERM, self.request_stop)
            share_threads(trainer.world_size)
        if self.resume:
            state = checkpoint.read(self.path)
            assert state is not None
            pl_module.restore(state)
            self.saved_step = pl_module.step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when a checkpoint is due; never between gradients and the optimiser step they are for.

        Raises StoppedError after SIGTERM.
        """
        if not pl_module.between_steps:
            return
        stop = self.stop
        if trainer.world_size > 1:
            # the signal reaches processes at different steps; all have to stop at the same one
            flag = torch.tensor(float(stop), device=pl_module.device)
            stop = bool(reduce_over_processes(flag, dist.ReduceOp.MAX))
        due = pl_module.step // self.every > (self.saved_step or 0) // self.every
        if due or stop:
            self.save(trainer, pl_module)
        if stop:
            raise StoppedError

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the finished training."""
        self.save(trainer, pl_module)

    def save(self, trainer: Trainer, module: SaeTraining) -> None:
        """Write the checkpoint, in the first process."""
        if trainer.is_global_zero:
            checkpoint.write(self.path, {**module.training_state(), "recipe": module.recipe.identity})
        self.saved_step = module.step
        if dist.is_initialized():
            dist.barrier()


class StepMetrics(Callback):
    """Hands the metrics of each step to `on_step` and to a Lightning logger, in the first process."""

    def __init__(self, on_step: OnStep | None, logger: Logger | None) -> None:
        self.on_step, self.logger = on_step, logger

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Pass `last_metrics` on."""
        if not trainer.is_global_zero:
            return
        metrics = pl_module.last_metrics
        if self.on_step is not None:
            self.on_step(dict(metrics))
        if self.logger is not None:
            self.logger.log_metrics(
                {f"train/{key}": value for key, value in metrics.items()}, step=pl_module.step
            )
