"""The Lightning modules of a measurement: extraction, and language-model losses with the SAE spliced in."""

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from saescope.activations import ActivationSource
from saescope.extraction.encoding import Encoding
from saescope.model.capture import Capture
from saescope.model.hookpoints import Hookpoint
from saescope.model.losses import LossSums, scored_logits, token_losses
from saescope.sae.base import Sae
from saescope.text.windows import Batch, Windows


class BatchModule(LightningModule):
    """Shares batches out over processes; each batch is seen once, by one process."""

    def __init__(
        self, model: Any, hookpoint: Hookpoint, sae: Sae, windows: Windows, batches: list[Batch]
    ) -> None:
        super().__init__()
        self.model, self.sae = model, sae
        self.capture = Capture(model, hookpoint)
        self.batches = batches
        task_W = torch.from_numpy(windows.task_D[windows.doc_W])
        self.register_buffer("task_W", task_W, persistent=False)
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
        self.encoding = Encoding(sae, len(windows.tasks), self.capture.hookpoint.label)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch."""
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
        counted_BT = batch.counted_BT
        edits: dict[str, Callable[[Tensor], Tensor]] = {
            "spliced": lambda x_ND: self.sae.reconstruct(x_ND, self.sae.encode(x_ND)),
            "zero": torch.zeros_like,
            "mean": lambda x_ND: self.mean_D.expand_as(x_ND),
        }
        scored_BT = counted_BT[:, :-1] & batch.real_BT[:, 1:]
        target_S = batch.input_ids_BT[:, 1:][scored_BT]
        clean_SV = torch.log_softmax(scored_logits(self.model, batch.input_ids_BT, scored_BT).float(), dim=-1)
        task_S = self.task_W[batch.window_B][:, None].expand_as(scored_BT)[scored_BT]
        ce_S = -clean_SV.gather(-1, target_S[:, None]).squeeze(-1)
        self.losses.update("clean", ce_S, torch.zeros_like(ce_S), task_S)
        for name, edit in edits.items():

            def at_counted(x_BTD: Tensor, old_BTD: Tensor, edit: Callable[[Tensor], Tensor] = edit) -> Tensor:
                new_BTD = old_BTD.clone()
                new_BTD[counted_BT] = edit(x_BTD[counted_BT].float()).to(old_BTD.dtype)
                return new_BTD

            with self.capture.replaced(at_counted):
                logits_SV = scored_logits(self.model, batch.input_ids_BT, scored_BT)
            self.losses.update(name, *token_losses(logits_SV, clean_SV, target_S), task_S)
