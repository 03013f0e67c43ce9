"""The Lightning modules of a measurement: extraction, and language-model losses with the SAE spliced in."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any, Self, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from saescope.activations import ActivationSource, laid_end_to_end
from saescope.extraction.accumulators import ABLATED_SUMS, LossSums
from saescope.extraction.encoding import Encoding
from saescope.extraction.shared_losses import SharedLosses
from saescope.extraction.strata import Strata
from saescope.model.capture import Capture
from saescope.model.hookpoints import Hookpoint
from saescope.model.losses import CleanPass, clean_pass, edit_at, edited_passes, scored_positions
from saescope.model.upper_blocks import UpperBlocks, entered_at, entry_of, top
from saescope.sae.base import Sae
from saescope.text.windows import Batch, Windows


class BatchModule(LightningModule):
    """Distributes batches over processes; each batch goes to exactly one."""

    def __init__(
        self,
        model: Any,
        hookpoint: Hookpoint,
        sae: Sae,
        windows: Windows,
        batches: list[Batch],
        strata: Strata | None = None,
    ) -> None:
        """`strata`: the cells over which sums are kept apart; None: the tasks."""
        super().__init__()
        self.model, self.sae = model, sae
        self.capture = Capture(model, hookpoint)
        self.batches = batches
        self.strata = Strata(windows.task_D, len(windows.tasks)) if strata is None else strata
        self.cell_of_W = self.strata.cell_D[windows.doc_W]
        self.register_buffer("cell_W", torch.from_numpy(self.cell_of_W), persistent=False)
        self.cell_W: Tensor

    def test_dataloader(self) -> DataLoader[Batch]:
        """This process's share; no distributed sampler, which would repeat batches to even out the shares."""
        share = self.batches[self.global_rank :: self.trainer.world_size]
        return DataLoader(cast(Dataset[Batch], share), batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move one batch."""
        return batch.to(device)

    def cpu(self) -> Self:
        """Stay: Lightning would move the model to the host when a pass ends, and the next one needs it."""
        return self


class Extraction(BatchModule):
    """Activations → encode → decode over all probe tokens; fills the sums and the codes.

    Batches stay on the host, which knows the row and the task of every token without asking the device.
    """

    def __init__(
        self,
        model: Any,
        hookpoint: Hookpoint,
        sae: Sae,
        windows: Windows,
        batches: list[Batch],
        source: ActivationSource,
        strata: Strata | None = None,
    ) -> None:
        """`source` has one row per window."""
        super().__init__(model, hookpoint, sae, windows, batches, strata)
        self.source = source
        self.row_W = windows.row_W
        self.encoding = Encoding(sae, self.strata.size, self.capture.hookpoint.label, windows.num_tokens)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Leave the batch where it is."""
        return batch

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Encode, decode and accumulate one batch."""
        window_B = batch.window_B.numpy()
        x_ND = self.source.read(window_B).to(self.device).float()
        row_N = laid_end_to_end(self.row_W[window_B], self.row_W[window_B + 1])
        cell_N = np.repeat(self.cell_of_W[window_B], np.diff(self.row_W)[window_B])
        target_ND = x_ND
        if self.sae.transcodes:
            x_ND, target_ND = x_ND[:, : self.sae.d_in], x_ND[:, self.sae.d_in :]
        self.encoding.update(
            x_ND, target_ND, torch.from_numpy(row_N), torch.from_numpy(cell_N).to(self.device)
        )


class Splice(BatchModule):
    """Next-token losses: clean, with the SAE's reconstruction, with zeros, and with the mean activation.

    Only counted positions are replaced, and only their predictions are scored. Edits are run from the block
    they can reach on; what no SAE changes is taken from `shared`, or left there for the next SAE.
    """

    def __init__(
        self,
        model: Any,
        hookpoint: Hookpoint,
        sae: Sae,
        windows: Windows,
        batches: list[Batch],
        mean_D: Tensor,
        shared: SharedLosses,
        strata: Strata | None = None,
    ) -> None:
        super().__init__(model, hookpoint, sae, windows, batches, strata)
        self.register_buffer("mean_D", mean_D.float(), persistent=False)
        self.mean_D: Tensor
        self.losses = LossSums(self.strata.size)
        self.shared = shared
        self.parts: dict[str, UpperBlocks] = {}
        """Where the model can be entered: `entry` for edits, `last` above all blocks."""
        self.entry = "entry"
        """The part that edits enter: `last` where they are above all blocks."""

    def on_test_start(self) -> None:
        """Find where this model can be entered, and take the sums of the ablated model that are stored."""
        checked = self.batches[0].input_ids_BT[:1].to(self.device)
        entry, last = entry_of(self.model, self.capture.hookpoint), top(self.model)
        self.entry = "last" if entry == last else "entry"
        names = {last: "last"} if entry is None or entry == last else {entry: "entry", last: "last"}
        parts = entered_at(self.model, names, checked)
        self.parts = {name: part for at, name in names.items() if (part := parts[at]) is not None}
        if self.shared.stored:
            for name in ABLATED_SUMS:
                setattr(self.losses, name, self.shared.tensors[name].to(self.device))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch: at most one pass from the start, and one from the hookpoint for each edit."""
        scored_BT = scored_positions(batch.counted_BT, batch.real_BT)
        clean, entry_BTd = self._clean(batch, scored_BT, batch_idx)
        cell_S = self.cell_W[batch.window_B][clean.scored[0]]
        counted = batch.counted_BT.nonzero(as_tuple=True)
        self.losses.update("clean", clean.losses, cell_S)
        replacements: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "spliced": lambda x_ND, _old: self.sae.reconstruct(x_ND, self.sae.encode(x_ND)),
        }
        if not self.shared.stored:
            replacements |= {
                "zero": lambda _x, old_ND: torch.zeros_like(old_ND),
                "mean": lambda _x, old_ND: self.mean_D.expand_as(old_ND),
            }
        edits = {
            name: self.capture.replaced(edit_at(counted, replace)) for name, replace in replacements.items()
        }
        with nullcontext() if entry_BTd is None else self.parts[self.entry].entered(entry_BTd):
            for name, losses in edited_passes(self.model, clean, edits):
                self.losses.update(name, losses, cell_S)

    def on_test_epoch_end(self) -> None:
        """Leave the sums of the ablated model for the next SAE."""
        for name in ABLATED_SUMS:
            self.shared.add(name, getattr(self.losses, name))

    def _clean(self, batch: Batch, scored_BT: Tensor, batch_number: int) -> tuple[CleanPass, Tensor | None]:
        """The untouched model's predictions, and the stream that enters the blocks an edit can reach."""
        tensors = self.shared.tensors
        streams = {
            name: tensors[key].to(self.device)
            for name in self.parts
            if self.shared.stored and (key := f"{name}.{batch_number}") in tensors
        }
        if "last" in streams:
            with self.parts["last"].entered(streams["last"]):
                clean = clean_pass(self.model, batch.input_ids_BT, scored_BT)
            return clean, streams.get(self.entry)
        with ExitStack() as stack:
            recorded = {name: stack.enter_context(part.recorded()) for name, part in self.parts.items()}
            clean = clean_pass(self.model, batch.input_ids_BT, scored_BT)
        for name, (stream,) in recorded.items():
            self.shared.add(f"{name}.{batch_number}", stream)
        return clean, recorded[self.entry][0] if self.entry in recorded else None
