"""Runs the measurement modules in a Lightning `Trainer` and returns numpy arrays."""

import logging
import tempfile
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from saescope.activations import ActivationSource
from saescope.errors import ConfigError, ModelError
from saescope.extraction.accumulators import CodeRows
from saescope.extraction.codes import Codes, assemble
from saescope.extraction.modules import BatchModule, Extraction, Splice
from saescope.extraction.nonfinite import nonfinite_message
from saescope.extraction.progress import TokenProgress
from saescope.extraction.setup import Setup
from saescope.extraction.shared_losses import shared_losses
from saescope.extraction.strata import Strata, Sums
from saescope.model.hookpoints import Hookpoint
from saescope.runtime.allocator import keep_freed_memory
from saescope.runtime.processes import leave_group_at_exit
from saescope.runtime.threads import share_threads
from saescope.sae.base import Sae
from saescope.text.windows import Batch, Windows, batches

log = logging.getLogger(__name__)
# Lightning sets its own level when imported; its hints would drown the lines of the job.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Engine:
    """Passes of the probe windows through one model and one SAE."""

    setup: Setup
    sae: Sae
    source: ActivationSource
    """Activations of the windows at the hookpoint."""
    logger: Logger | None = None
    allow_nonfinite: bool = False
    """Leave tokens with NaN or infinite activations out."""
    document_groups: int = 0
    """Groups of documents over which sums are kept apart too."""

    @cached_property
    def strata(self) -> Strata:
        """The cells of the sums: tasks, or tasks by groups of documents."""
        return Strata(self.windows.task_D, len(self.windows.tasks), self.document_groups)

    @property
    def model(self) -> Any:
        """The language model, a `transformers.PreTrainedModel`."""
        return self.setup.lm.model

    @property
    def hookpoint(self) -> Hookpoint:
        """Where the SAE reads."""
        return self.setup.hookpoint

    @property
    def windows(self) -> Windows:
        """The probe windows."""
        return self.setup.windows

    def extract(self) -> tuple[Codes, Sums]:
        """Codes of every counted token, and reconstruction sums by cell of `strata` (`Encoding.sums`).

        Raises ModelError for NaN or infinite activations. With `allow_nonfinite`, if every task has other
        tokens, they are left out instead and listed in `Codes.left_out`.
        """
        all_batches = self._batches(np.arange(len(self.windows.ids)))
        module = Extraction(
            self.model, self.hookpoint, self.sae, self.windows, all_batches, self.source, self.strata
        )
        results = self._run(module, "extract")
        codes_seen = module.encoding.codes  # here in this process, unless there are several
        code_rows = (
            CodeRows(*(results.pop(name) for name in CodeRows._fields))
            if self.setup.processes > 1
            else codes_seen.compute()
        )
        codes_seen.reset()
        bad_rows = results.pop("bad_rows")
        sums: Sums = results
        codes = self._assemble(code_rows, bad_rows)
        every_task = self.strata.by_task(sums)["tokens"].all()
        if len(codes.left_out) and not (self.allow_nonfinite and every_task):
            where = nonfinite_message(
                codes.left_out, self.windows.doc_W, codes.task_D, codes.tasks, self.hookpoint.label
            )
            raise ModelError(
                f"{where}; the model overflows in this precision (try runtime.dtype=float32) or its weights "
                "are damaged; metrics.allow_nonfinite=true leaves such tokens out if every task keeps some"
            )
        return codes, sums

    def splice(
        self, lm_tokens: int, mean_D: npt.NDArray[np.float64], without: npt.NDArray[np.int64] | None = None
    ) -> Sums:
        """Sums of losses over about `lm_tokens` counted tokens, by cell of `strata` (`LossSums.compute`).

        `mean_D` is the mean activation. Windows `without` are not run: a NaN at one token spoils the losses
        of the later ones. Raises ModelError when no window is left.
        """
        chosen = splice_windows(self.windows, lm_tokens, without)
        if not len(chosen):
            raise ModelError(
                f"NaN or infinite activations at {self.hookpoint.label} in every window: no losses can be "
                "measured; set metrics.lm_tokens=0"
            )
        chosen_batches = self._batches(chosen)
        with shared_losses(self.setup, chosen_batches, without, self.document_groups) as shared:
            module = Splice(
                self.model,
                self.hookpoint,
                self.sae,
                self.windows,
                chosen_batches,
                torch.from_numpy(mean_D),
                shared,
                self.strata,
            )
            return self._run(module, "splice")

    def _batches(self, order: npt.NDArray[np.int64]) -> list[Batch]:
        """Batches of the chosen windows, at least one per process. Raises ConfigError for too few windows."""
        processes = self.setup.processes
        if len(order) < processes:
            raise ConfigError(
                f"{len(order)} windows cannot be shared by {processes} processes; lower runtime.devices"
            )
        batch_tokens = self.setup.machine.batch_tokens
        chosen = batches(self.windows, order, batch_tokens)
        while len(chosen) < processes:
            batch_tokens //= 2
            chosen = batches(self.windows, order, batch_tokens)
        return chosen

    def _run(self, module: BatchModule, name: str) -> dict[str, npt.NDArray[Any]]:
        """One pass over the batches of `module`, with progress under `name`."""
        accelerator = {"cuda": "gpu"}.get(self.setup.machine.device, self.setup.machine.device)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*tensor.*non-leaf.*")
            warnings.filterwarnings("ignore", message=".*treespec.*")  # Lightning's, of torch's new names
            results = _Results(Path(folder) / "results.pt")
            trainer = Trainer(
                accelerator=accelerator,
                devices=self.setup.runtime.devices,
                num_nodes=self.setup.runtime.num_nodes,
                # spawned processes: a launcher that replays sys.argv would start the Hydra job again
                strategy="ddp_spawn" if self.setup.processes > 1 else "auto",
                use_distributed_sampler=False,
                logger=self.logger or False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                callbacks=[TokenProgress(name), results],
            )
            trainer.test(module, verbose=False)
            return results.read()

    def _assemble(self, code_rows: CodeRows, bad_rows: npt.NDArray[np.int64]) -> Codes:
        windows = self.windows
        window_N = np.repeat(np.arange(len(windows.ids)), windows.tokens_W)
        return assemble(
            *code_rows,
            window_N=window_N,
            position_N=np.concatenate([np.flatnonzero(mask) for mask in windows.counted]),
            doc_N=windows.doc_W[window_N],
            task_D=windows.task_D,
            tasks=windows.tasks,
            num_latents=self.sae.num_latents,
            bad_rows=bad_rows,
            token_N=windows.token_N,
            previous_N=windows.previous_N,
        )


class _Results(Callback):
    """What the module has after the last batch, reduced over processes.

    A spawned process cannot return objects: of several, rank 0 writes them to the file `path`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, npt.NDArray[Any]] | None = None

    def read(self) -> dict[str, npt.NDArray[Any]]:
        """The values, after the pass."""
        if self.values is not None:
            return self.values
        saved: dict[str, torch.Tensor] = torch.load(self.path, weights_only=True)
        return {name: values.numpy() for name, values in saved.items()}

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Set allocator and threads of this process: a spawned one does not inherit them."""
        keep_freed_memory()
        if trainer.world_size > 1:
            share_threads(trainer.world_size)

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep or write the module's results."""
        leave_group_at_exit()
        if isinstance(pl_module, Extraction):
            encoding = pl_module.encoding
            results = {**encoding.sums(), "bad_rows": encoding.bad_rows.compute()}
            if trainer.world_size > 1:
                results |= encoding.codes.compute()._asdict()
        else:
            assert isinstance(pl_module, Splice)
            results = dict(pl_module.losses.compute())
        if trainer.world_size == 1:
            self.values = results
        elif trainer.is_global_zero:
            torch.save({name: torch.from_numpy(values) for name, values in results.items()}, self.path)


def splice_windows(
    windows: Windows, lm_tokens: int, without: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Numbers of the windows for the loss measurement, in file order within each task.

    Each task gets an equal share of `lm_tokens`, and at least one window if it has one not in `without`.
    """
    share = lm_tokens / len(windows.tasks)
    tokens_W = windows.tokens_W.copy()
    if without is not None:
        tokens_W[without] = 0
    chosen: list[npt.NDArray[np.int64]] = []
    for task in range(len(windows.tasks)):
        windows_of_task = np.flatnonzero((windows.task_W == task) & (tokens_W > 0))
        before = np.cumsum(tokens_W[windows_of_task]) - tokens_W[windows_of_task]
        chosen.append(windows_of_task[before < share])
    return np.concatenate(chosen)
