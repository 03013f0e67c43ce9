"""Runs `SaeTraining` in a Lightning `Trainer`: resumes, saves, stops cleanly."""

import logging
import signal
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessRaisedException

from saescope.errors import SaeError
from saescope.sae.coder import SparseCoder
from saescope.training import checkpoint
from saescope.training.batches import ActivationBatches, BatchShare
from saescope.training.callbacks import CheckpointSaver, OnStep, StepMetrics, StoppedError
from saescope.training.module import LossNotFiniteError, SaeTraining
from saescope.training.relay import relayed
from saescope.training.side_by_side import Companion, CompanionCallback, LeadCallback, SideBySide

log = logging.getLogger(__name__)


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
    companions: Sequence[Companion] = (),
) -> SparseCoder:
    """Train for `module.total_steps` batches and return the SAE, ready to save.

    Continues from `checkpoint_path` when it exists; a finished one is returned as it is. `on_step` gets
    `module.last_metrics` after every batch, in the first process. SIGTERM saves, then has its usual effect.
    `companions` are trained on the same batches, those of them that are at the same step, or ahead and then
    from there on; one process only.
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
        del state  # not pickled into spawned processes: each reads the file
        saver = CheckpointSaver(checkpoint_path, save_every, start > 0)
        step_of = {each: _step_of(each) for each in companions if devices == 1}
        beside = {each: step for each, step in step_of.items() if start <= step < steps}
        whole = SideBySide(module, list(beside)) if beside else module
        if beside:
            log.info(
                "training %d SAEs side by side: one pass over %d tokens",
                1 + len(beside),
                (steps - start) * batches.batch_tokens,
            )
        # Lightning's own DDP would reduce at every backward; the module reduces once per optimiser step.
        strategy = UnwrappedDDP(start_method="spawn") if devices > 1 else "auto"
        with relayed(on_step) if devices > 1 else nullcontext(on_step) as on_step_here:
            trainer = Trainer(
                accelerator=accelerator,
                devices=devices,
                strategy=strategy,
                max_epochs=1,
                logger=logger or False,
                callbacks=_callbacks(
                    [StepMetrics(on_step_here, logger), *callbacks, saver], beside, save_every
                ),
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                use_distributed_sampler=False,
            )
            _run(trainer, whole, BatchShare(batches, start, steps), saver)
        # spawned processes hand nothing back but the file
        state = checkpoint.read(checkpoint_path) if devices > 1 else module.training_state()
    assert state is not None
    return checkpoint.averaged_coder(state)


def _step_of(companion: Companion) -> int:
    path = companion.checkpoint_path
    return _checked_start(companion.module, checkpoint.read(path), path)


def _callbacks(of_lead: list[Callback], beside: dict[Companion, int], save_every: int) -> list[Callback]:
    """All callbacks; those that may stop the training last. `beside`: the step each companion is at."""
    if not beside:
        return of_lead
    of_companions = [CompanionCallback(each, save_every, step > 0) for each, step in beside.items()]
    return [*of_companions, *map(LeadCallback, of_lead)]


def _checked_start(module: SaeTraining, state: dict[str, Any] | None, path: Path) -> int:
    """Step of the checkpoint, 0 without one. Raises SaeError when it is of another training."""
    if state is None:
        return 0
    coder = module.coder
    saved_sizes = (
        state["d_in"],
        state["cfg"]["num_latents"] or state["d_in"] * state["cfg"]["expansion_factor"],
    )
    if saved_sizes != (coder.d_in, coder.num_latents) or state["recipe"] != module.recipe.identity:
        raise SaeError(f"{path} is of a training with other settings; delete it or train in another folder")
    return int(state["step"])


def _run(trainer: Trainer, module: LightningModule, share: BatchShare, saver: CheckpointSaver) -> None:
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if in_main else None
    if in_main:
        signal.signal(signal.SIGTERM, saver.request_stop)
    try:
        trainer.fit(module, train_dataloaders=share)
    except StoppedError:
        pass
    except LossNotFiniteError as error:
        raise SaeError(f"{error}; {saver.last_checkpoint()}; try a smaller lr") from error
    except ProcessRaisedException as error:
        # the error of a spawned process arrives as the text of a traceback, whose last line is the message
        name, _, message = str(error).strip().splitlines()[-1].partition(": ")
        if not name.startswith("saescope."):
            raise
        if not name.endswith(StoppedError.__name__):
            raise SaeError(f"{message}; {saver.last_checkpoint()}") from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
    if saver.stop:
        signal.raise_signal(signal.SIGTERM)
        raise SystemExit(128 + signal.SIGTERM)  # if the process ignores SIGTERM


class UnwrappedDDP(DDPStrategy):
    """Processes without `DistributedDataParallel` around the module."""

    def configure_ddp(self) -> None:
        """Leave the module as it is; all processes start from the same weights."""
