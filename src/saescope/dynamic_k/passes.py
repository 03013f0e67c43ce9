"""Calibration and evaluation windows, and forward passes over them with losses per document.

No document has windows on both sides: what is chosen on one is judged on the other.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.config.dynamic_k import DynamicKConfig
from saescope.errors import ProbeError
from saescope.extraction.setup import Setup
from saescope.left_out import LeftOut
from saescope.model.hookpoints import Hookpoint
from saescope.model.losses import TokenLosses, clean_pass, edited_passes, scored_positions
from saescope.model.upper_blocks import upper_blocks
from saescope.runtime.meter import Meter
from saescope.stats.savings import mean_interval
from saescope.text.windows import Batch, Windows, batches

BatchEdit = Callable[[Batch], AbstractContextManager[Any]]
"""Edits the model for one batch, while the context is open."""

Name = TypeVar("Name", bound=Hashable)


class Split(NamedTuple):
    """Window numbers; no document has windows in both."""

    calibration_W: npt.NDArray[np.int64]
    evaluation_W: npt.NDArray[np.int64]


def split(windows: Windows, calibration_tokens: int, evaluation_tokens: int) -> Split:
    """Documents of each task taken by turns, so that both sides run through the whole file; in file order.

    Each side gets about its budget of counted tokens in equal shares per task, whole windows, at least one
    window of every task. Raises ProbeError for a task of a single document.
    """
    tokens_W = windows.tokens_W
    calibration: list[npt.NDArray[np.int64]] = []
    evaluation: list[npt.NDArray[np.int64]] = []
    for number, task in enumerate(windows.tasks):
        windows_of_task = np.flatnonzero((windows.task_W == number) & (tokens_W > 0))
        turn = np.unique(windows.doc_W[windows_of_task], return_inverse=True)[1]
        if turn.max(initial=0) == 0:
            raise ProbeError(
                "dynamic_k needs two documents of every task, one to calibrate on and one to evaluate on; "
                f"{task} has one: raise probes.max_tokens_per_task or add documents"
            )
        for side, parity, budget in (
            (calibration, 1, calibration_tokens),
            (evaluation, 0, evaluation_tokens),
        ):
            candidates = windows_of_task[turn % 2 == parity]
            before = np.cumsum(tokens_W[candidates]) - tokens_W[candidates]
            side.append(candidates[before < budget / len(windows.tasks)])
    return Split(np.concatenate(calibration), np.concatenate(evaluation))


@dataclass(frozen=True)
class DocumentLosses:
    """Sums over the scored predictions of each document; D documents, those without a prediction 0."""

    ce_D: npt.NDArray[np.float64]
    """Cross-entropy, nats."""

    kl_D: npt.NDArray[np.float64]
    """KL(dense ‖ edited), nats."""

    agree_D: npt.NDArray[np.float64]
    """Predictions whose likeliest token is the dense model's."""

    tokens_D: npt.NDArray[np.float64]
    """Predictions."""

    @classmethod
    def zeros(cls, num_documents: int) -> "DocumentLosses":
        """No prediction yet."""
        return cls(*(np.zeros(num_documents) for _ in range(4)))

    def add(self, losses: TokenLosses, doc_S: npt.NDArray[np.int64]) -> None:
        """Add S predictions; `doc_S` is the document of each."""
        totals = (self.ce_D, self.kl_D, self.agree_D, self.tokens_D)
        # one copy: a GPU's host waits for each
        values_S = torch.stack([value_S.float() for value_S in losses]).cpu().double().numpy()
        for total_D, value_S in zip(totals, (*values_S, np.ones(len(doc_S))), strict=True):
            total_D += np.bincount(doc_S, weights=value_S, minlength=len(total_D))

    def of(self, chosen_D: npt.NDArray[np.bool_]) -> "DocumentLosses":
        """Those of some documents."""
        return DocumentLosses(
            self.ce_D[chosen_D], self.kl_D[chosen_D], self.agree_D[chosen_D], self.tokens_D[chosen_D]
        )

    @property
    def ce(self) -> float:
        """Mean over predictions, nats."""
        return float(self.ce_D.sum() / self.tokens_D.sum())

    @property
    def kl(self) -> float:
        """Mean over predictions, nats."""
        return float(self.kl_D.sum() / self.tokens_D.sum())


@dataclass
class Passes:
    """Runs the model over the chosen windows; only predictions made at counted positions are scored."""

    model: Any
    windows: Windows
    order: npt.NDArray[np.int64]
    """Numbers of the chosen windows."""
    batch_tokens: int
    device: Any
    batches: list[Batch] = field(init=False)
    """On the device."""
    on_host: list[Batch] = field(init=False)
    """The same, for what can be known without waiting for the device."""

    def __post_init__(self) -> None:
        self.on_host = batches(self.windows, self.order, self.batch_tokens)
        self.batches = [batch.to(self.device) for batch in self.on_host]

    def losses(
        self,
        edits: Mapping[Name, BatchEdit],
        *,
        name: str = "dynamic k",
        among: Callable[[Batch], Tensor] | None = None,
        during_dense: BatchEdit = lambda _batch: nullcontext(),
        at: Hookpoint | None = None,
    ) -> tuple[DocumentLosses, dict[Name, DocumentLosses]]:
        """Losses of the dense model and under every edit, batch by batch.

        `name` is shown with the progress. `among` (bool [B, T], of a batch on the host) narrows the positions
        whose prediction is scored; `during_dense` is open in the dense pass, to look at activations. `at`:
        where all edits are; the blocks below are not run for them.
        """
        upper = upper_blocks(self.model, at, self.batches[0].input_ids_BT) if at is not None else None
        num_documents = len(self.windows.task_D)
        dense = DocumentLosses.zeros(num_documents)
        edited = {name: DocumentLosses.zeros(num_documents) for name in edits}
        passes = 1 + len(edits)
        with torch.inference_mode(), Meter(name, passes * self.num_tokens, "tokens") as meter:
            for batch, on_host in zip(self.batches, self.on_host, strict=True):
                tokens = int(on_host.real_BT.sum())
                scored_BT = scored_positions(on_host.counted_BT, on_host.real_BT)
                if among is not None:
                    scored_BT = scored_BT & among(on_host)[:, :-1]
                doc_S = self.documents(on_host, scored_BT)
                with ExitStack() as dense_pass:
                    dense_pass.enter_context(during_dense(batch))
                    streams = dense_pass.enter_context(upper.recorded()) if upper else []
                    clean = clean_pass(self.model, batch.input_ids_BT, scored_BT)
                dense.add(clean.losses, doc_S)
                meter.advance(tokens)
                opened = {edit_name: edit(batch) for edit_name, edit in edits.items()}
                with upper.entered(streams[0]) if upper else nullcontext():
                    for edit_name, losses in edited_passes(self.model, clean, opened):
                        edited[edit_name].add(losses, doc_S)
                        meter.advance(tokens)
        return dense, edited

    def watch(self, edit: BatchEdit) -> None:
        """Run the blocks, without the unembedding, over every batch, with `edit(batch)` open."""
        with torch.inference_mode(), Meter("dynamic k, calibration", self.num_tokens, "tokens") as meter:
            for batch, on_host in zip(self.batches, self.on_host, strict=True):
                with edit(batch):
                    self.model.base_model(input_ids=batch.input_ids_BT, use_cache=False)
                meter.advance(int(on_host.real_BT.sum()))

    @property
    def num_tokens(self) -> int:
        """Tokens of the batches, those that are not counted too."""
        return sum(int(batch.real_BT.sum()) for batch in self.on_host)

    def documents(self, batch: Batch, chosen_BT: Tensor) -> npt.NDArray[np.int64]:
        """Document of each chosen position of a batch, in order."""
        doc_B = self.windows.doc_W[batch.window_B.cpu().numpy()]
        return np.repeat(doc_B, chosen_BT.sum(1).cpu().numpy())

    @property
    def tokens_D(self) -> npt.NDArray[np.int64]:
        """Counted tokens of each document in the chosen windows."""
        windows, order = self.windows, self.order
        tokens_D = np.bincount(
            windows.doc_W[order], weights=windows.tokens_W[order], minlength=len(windows.task_D)
        )
        return tokens_D.astype(np.int64)


def calibration_and_evaluation(setup: Setup, job: DynamicKConfig) -> tuple[Passes, Passes]:
    """Passes over the two sides of `split`; the model is moved to the device.

    Raises ProbeError for a task of a single document.
    """
    sides = split(setup.windows, job.calibration_tokens, job.tokens)
    machine = setup.machine
    setup.lm.model.to(machine.device)
    calibration, evaluation = (
        Passes(setup.lm.model, setup.windows, order, machine.batch_tokens, machine.device) for order in sides
    )
    return calibration, evaluation


def unmeasured(evaluation: Passes, job: DynamicKConfig) -> LeftOut:
    """Counted tokens on which no loss under dynamic k is measured."""
    total = evaluation.windows.num_tokens
    why = (
        f"Losses under dynamic k are measured on windows of about dynamic_k.tokens={job.tokens} tokens, in "
        "documents that do not calibrate."
    )
    return LeftOut("tokens", total - int(evaluation.tokens_D.sum()), total, why, "dynamic k")


def loss_columns(
    dense: DocumentLosses, edited: DocumentLosses, resamples: int, seed: int
) -> dict[str, float | int]:
    """Columns `tokens` to `top1_agree` of `dynamic_k.csv`; interval of ce_delta: 95 %, documents resampled.

    ppl = exp(Σ nats / Σ tokens), never a mean of perplexities.
    """
    n = dense.tokens_D.sum()
    low, high = mean_interval(edited.ce_D - dense.ce_D, dense.tokens_D, resamples=resamples, seed=seed)
    return {
        "tokens": int(n),
        "ce": edited.ce,
        "ppl": math.exp(edited.ce),
        "ce_delta": float((edited.ce_D - dense.ce_D).sum() / n),
        "ce_delta_lo": low,
        "ce_delta_hi": high,
        "kl": edited.kl,
        "top1_agree": float(edited.agree_D.sum() / n),
    }
