"""Drives the measurement modules with a Lightning `Trainer` and hands back plain arrays."""

import logging
import tempfile
import warnings
from dataclasses import dataclass
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
from saescope.extraction.nonfinite import located
from saescope.extraction.progress import TokenProgress
from saescope.extraction.setup import Setup
from saescope.model.hookpoints import Hookpoint
from saescope.runtime.allocator import keep_freed_memory
from saescope.runtime.processes import leave_group_at_exit
from saescope.sae.base import Sae
from saescope.text.windows import Batch, Windows, batches

log = logging.getLogger(__name__)
# Lightning sets its own level when imported; its advice would bury our lines.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

Sums = dict[str, npt.NDArray[np.float64]]


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
        """Codes of every counted token, and reconstruction sums per task.

        Raises ModelError for NaN or infinite activations, unless they are allowed and leave every task some
        tokens; then `Codes.left_out` has them.
        """
        made = self._batches(np.arange(len(self.windows.ids)))
        module = Extraction(self.model, self.hookpoint, self.sae, self.windows, made, self.source)
        found = self._run(module, "extract")
        rows = CodeRows(*(found[name] for name in CodeRows._fields))
        bad = found.pop("bad")
        sums = {name: value for name, value in found.items() if name not in CodeRows._fields}
        codes = self._assemble(rows, bad)
        if len(codes.left_out) and not (self.allow_nonfinite and sums["tokens"].all()):
            where = located(
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
        """Losses of about `lm_tokens` counted tokens, documents taken from every task in turn.

        Windows `without` are not run: a NaN at one token spoils the losses of the later ones.
        """
        chosen = splice_windows(self.windows, lm_tokens, without)
        if not len(chosen):
            raise ModelError(
                f"NaN or infinite activations at {self.hookpoint.label} in every window: no losses can be "
                "measured; set metrics.lm_tokens=0"
            )
        module = Splice(
            self.model,
            self.hookpoint,
            self.sae,
            self.windows,
            self._batches(chosen),
            torch.from_numpy(mean_D),
        )
        return self._run(module, "splice")

    def _batches(self, order: npt.NDArray[np.int64]) -> list[Batch]:
        """Batches of the chosen windows, at least one for every process."""
        processes = self.setup.processes
        if len(order) < processes:
            raise ConfigError(
                f"{len(order)} windows cannot be shared by {processes} processes; lower runtime.devices"
            )
        size = self.setup.machine.batch_tokens
        made = batches(self.windows, order, size)
        while len(made) < processes:
            size //= 2
            made = batches(self.windows, order, size)
        return made

    def _run(self, module: BatchModule, name: str) -> dict[str, npt.NDArray[Any]]:
        several = self.setup.processes > 1
        accelerator = {"cuda": "gpu"}.get(self.setup.machine.device, self.setup.machine.device)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*tensor.*non-leaf.*")
            warnings.filterwarnings("ignore", message=".*treespec.*")  # Lightning's, of torch's new names
            results = Path(folder) / "results.pt"
            trainer = Trainer(
                accelerator=accelerator,
                devices=self.setup.runtime.devices,
                num_nodes=self.setup.runtime.num_nodes,
                # spawned processes: a launcher that replays sys.argv would start the Hydra job again
                strategy="ddp_spawn" if several else "auto",
                use_distributed_sampler=False,
                logger=self.logger or False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                callbacks=[TokenProgress(name), _Collect(results)],
            )
            trainer.test(module, verbose=False)
            # A spawned process cannot hand back objects; rank 0 leaves them in a file.
            found: dict[str, torch.Tensor] = torch.load(results, weights_only=True)
        return {name: values.numpy() for name, values in found.items()}

    def _assemble(self, rows: CodeRows, bad: npt.NDArray[np.int64]) -> Codes:
        windows = self.windows
        window_N = np.repeat(np.arange(len(windows.ids)), windows.tokens_W)
        return assemble(
            *rows,
            window_N=window_N,
            position_N=np.concatenate([np.flatnonzero(mask) for mask in windows.counted]),
            doc_N=windows.doc_W[window_N],
            task_D=windows.task_D,
            tasks=windows.tasks,
            num_latents=self.sae.num_latents,
            bad_rows=bad,
        )


class _Collect(Callback):
    """After the last batch: reduce over processes, rank 0 writes the result."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """A spawned process begins anew."""
        keep_freed_memory()

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the module's results."""
        leave_group_at_exit()
        if isinstance(pl_module, Extraction):
            encoding = pl_module.encoding
            found = {**encoding.reconstruction.compute(), **encoding.codes.compute()._asdict()}
            found["bad"] = encoding.bad_rows.compute()
        else:
            assert isinstance(pl_module, Splice)
            found = dict(pl_module.losses.compute())
        if trainer.is_global_zero:
            torch.save({name: torch.from_numpy(values) for name, values in found.items()}, self.path)


def splice_windows(
    windows: Windows, lm_tokens: int, without: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Windows for the loss measurement: tasks take turns, each in file order, until the budget is filled.

    Every task gets at least one window, where it has one that is not in `without`.
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
