"""The Lightning modules of a measurement: extraction, and language-model losses with the SAE spliced in."""

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from saescope.activations import ActivationSource
from saescope.extraction.accumulators import LossSums
from saescope.extraction.encoding import Encoding
from saescope.model.capture import Capture
from saescope.model.hookpoints import Hookpoint
from saescope.model.losses import clean_pass, edit_at, edited_passes, scored_positions
from saescope.sae.base import Sae
from saescope.text.windows import Batch, Windows


class BatchModule(LightningModule):
    """Distributes batches over processes; each batch goes to exactly one."""

    def __init__(
        self, model: Any, hookpoint: Hookpoint, sae: Sae, windows: Windows, batches: list[Batch]
    ) -> None:
        super().__init__()
        self.model, self.sae = model, sae
        self.capture = Capture(model, hookpoint)
        self.batches = batches
        self.register_buffer("task_W", torch.from_numpy(windows.task_W), persistent=False)
        self.register_buffer("row_W", torch.from_numpy(windows.row_W[:-1]), persistent=False)
        self.task_W: Tensor
        self.row_W: Tensor

    def test_dataloader(self) -> DataLoader[Batch]:
        """This process's share; no distributed sampler, which would repeat batches to even out the shares."""
        share = self.batches[self.global_rank :: self.trainer.world_size]
        return DataLoader(cast(Dataset[Batch], share), batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move one batch."""
        return batch.to(device)


class Extraction(BatchModule):
    """Activations → encode → decode over all probe tokens; fills the sums and the codes."""

    def __init__(
        self,
        model: Any,
        hookpoint: Hookpoint,
        sae: Sae,
        windows: Windows,
        batches: list[Batch],
        source: ActivationSource,
    ) -> None:
        """`source` has one row per window."""
        super().__init__(model, hookpoint, sae, windows, batches)
        self.source = source
        self.encoding = Encoding(sae, len(windows.tasks), self.capture.hookpoint.label, windows.num_tokens)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Encode, decode and accumulate one batch."""
        x_ND = self.source.read(batch.window_B.cpu().numpy()).to(self.device).float()
        size_B = batch.counted_BT.sum(1)
        task_N = torch.repeat_interleave(self.task_W[batch.window_B], size_B)
        # final row of a token = first row of its window + counted tokens before it
        row_BT = self.row_W[batch.window_B][:, None] + batch.counted_BT.cumsum(1) - 1
        target_ND = x_ND
        if self.sae.transcodes:
            x_ND, target_ND = x_ND.chunk(2, dim=-1)
        self.encoding.update(x_ND, target_ND, row_BT[batch.counted_BT], task_N)


class Splice(BatchModule):
    """Next-token losses: clean, with the SAE's reconstruction, with zeros, and with the mean activation.

    Only counted positions are replaced, and only their predictions are scored.
    """

    def __init__(
        self,
        model: Any,
        hookpoint: Hookpoint,
        sae: Sae,
        windows: Windows,
        batches: list[Batch],
        mean_D: Tensor,
    ) -> None:
        super().__init__(model, hookpoint, sae, windows, batches)
        self.register_buffer("mean_D", mean_D.float(), persistent=False)
        self.mean_D: Tensor
        self.losses = LossSums(len(windows.tasks))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch: four forward passes."""
        scored_BT = scored_positions(batch.counted_BT, batch.real_BT)
        task_S = torch.repeat_interleave(self.task_W[batch.window_B], scored_BT.sum(1))
        clean = clean_pass(self.model, batch.input_ids_BT, scored_BT)
        self.losses.update("clean", clean.losses, task_S)
        replacements: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "spliced": lambda x_ND, _old: self.sae.reconstruct(x_ND, self.sae.encode(x_ND)),
            "zero": lambda _x, old_ND: torch.zeros_like(old_ND),
            "mean": lambda _x, old_ND: self.mean_D.expand_as(old_ND),
        }
        edits = {
            name: self.capture.replaced(edit_at(batch.counted_BT, replace))
            for name, replace in replacements.items()
        }
        for name, losses in edited_passes(self.model, clean, edits):
            self.losses.update(name, losses, task_S)
