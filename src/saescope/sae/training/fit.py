"""Drives `SaeTraining` with a Lightning `Trainer`: resumes, saves, stops cleanly."""

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessRaisedException

from saescope.errors import SaeError
from saescope.sae.coder import SparseCoder
from saescope.sae.training import checkpoint
from saescope.sae.training.batches import ActivationBatches, Share
from saescope.sae.training.module import LossNotFiniteError, SaeTraining

log = logging.getLogger(__name__)
OnStep = Callable[[dict[str, float]], None]


def fit(
    module: SaeTraining,
    batches: ActivationBatches,
    *,
    checkpoint_path: Path,
    save_every: int = 1000,
    logger: Logger | None = None,
    accelerator: str = "cpu",
    devices: int = 1,
    on_step: OnStep | None = None,
    callbacks: Sequence[Callback] = (),
) -> SparseCoder:
    """Train for `module.total_steps` batches and return the SAE, ready to save.

    Continues from `checkpoint_path` when it exists; a finished one is returned as it is. `on_step` gets
    `module.last_metrics` after every batch, in the first process. SIGTERM saves, then has its usual effect.
    Raises SaeError when there are too few batches, the loss is not finite, or the disk is full.
    """
    steps = module.total_steps
    if len(batches) < max(1, steps):
        raise SaeError(
            f"the training text gives {len(batches)} full batches, but {max(1, steps)} are needed; "
            "add text or make the batch or the number of tokens smaller"
        )
    state = checkpoint.read(checkpoint_path)
    start = _checked_start(module, state, checkpoint_path)
    if start < steps:
        if start:
            log.info("resuming SAE training at step %d of %d from %s", start, steps, checkpoint_path)
        del state  # each process reads it for itself
        saving = Saving(checkpoint_path, save_every, start > 0)
        # Lightning's own DDP would reduce at every backward; the module reduces once per optimiser step.
        strategy = UnwrappedDDP(start_method="spawn") if devices > 1 else "auto"
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            max_epochs=1,
            logger=logger or False,
            callbacks=[Telling(on_step, logger), *callbacks, saving],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
        )
        _run(trainer, module, Share(batches, start, steps), saving)
        state = checkpoint.read(checkpoint_path)
    assert state is not None
    return checkpoint.averaged_coder(state)


def _checked_start(module: SaeTraining, state: dict[str, Any] | None, path: Path) -> int:
    if state is None:
        return 0
    coder = module.coder
    there = (state["d_in"], state["cfg"]["num_latents"] or state["d_in"] * state["cfg"]["expansion_factor"])
    if there != (coder.d_in, coder.num_latents) or state["recipe"] != repr(module.recipe):
        raise SaeError(f"{path} is of a training with other settings; delete it or train in another folder")
    return int(state["step"])


def _run(trainer: Trainer, module: SaeTraining, share: Share, saving: "Saving") -> None:
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if in_main else None
    if in_main:
        signal.signal(signal.SIGTERM, saving.ask_to_stop)
    try:
        trainer.fit(module, train_dataloaders=share)
    except _Stopped:
        pass
    except LossNotFiniteError as error:
        raise SaeError(f"{error}; {saving.last_good()}; try a smaller lr") from error
    except ProcessRaisedException as error:
        # a process hands its error over as the text of a traceback; ours are one line at its end
        name, _, message = str(error).strip().splitlines()[-1].partition(": ")
        if not name.startswith("saescope."):
            raise
        raise SaeError(f"{message}; {saving.last_good()}") from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
    if saving.stop:
        signal.raise_signal(signal.SIGTERM)
        raise SystemExit(128 + signal.SIGTERM)  # where the process ignores SIGTERM, training still ends here


class _Stopped(Exception):  # noqa: N818 - a signal, not an error
    """Raised after the checkpoint that SIGTERM asked for."""


class UnwrappedDDP(DDPStrategy):
    """Processes without `DistributedDataParallel` around the module."""

    def configure_ddp(self) -> None:
        """Leave the module as it is; all processes start from the same weights."""


class Saving(Callback):
    """Restores at the start; saves every so many steps, at the end, and when asked to stop."""

    def __init__(self, path: Path, every: int, resume: bool) -> None:
        self.path, self.every, self.resume = path, every, resume
        self.stop = False
        self.saved_step: int | None = None

    def ask_to_stop(self, *_: Any) -> None:
        """SIGTERM arrived: save after this step, then leave."""
        self.stop = True

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
        due = pl_module.step // self.every > (self.saved_step or 0) // self.every
        if due or self.stop:
            self._save(trainer, pl_module)
        if self.stop:
            raise _Stopped

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
    """Hands the metrics of each step to the caller and to a Lightning logger."""

    def __init__(self, on_step: OnStep | None, logger: Logger | None) -> None:
        self.on_step, self.logger = on_step, logger

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """First process only."""
        if not trainer.is_global_zero:
            return
        metrics = pl_module.last_metrics
        if self.on_step is not None:
            self.on_step(dict(metrics))
        if self.logger is not None:
            self.logger.log_metrics(
                {f"train/{key}": value for key, value in metrics.items()}, step=pl_module.step
            )
