"""Sets of latents taken out at the hookpoint (`removal.py`): what the model loses, per document.

Where a set changes nothing, nothing is run: the loss there is the untouched model's, exactly. Only blocks
above the hookpoint are run, from the first change in a window on only predictions are scored, and windows of
several sets share a forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saescope.causal.removal import Encoded, LatentSet
from saescope.extraction.setup import Setup
from saescope.model.capture import Capture
from saescope.model.losses import CleanPass, clean_pass, scored_logits, scored_positions
from saescope.model.upper_blocks import UpperBlocks, upper_blocks
from saescope.runtime.meter import Meter
from saescope.sae.base import Sae, SparseCodes
from saescope.stats.arrays import AnyIntArray, BoolArray, FloatArray, IntArray
from saescope.stats.causal import Effects
from saescope.text.windows import Batch, Windows, batches

BACKWARD_SHARE = 4
"""A pass with gradients keeps every block's activations and several copies of the logits: it runs on this
part of the tokens of a pass without."""


@dataclass(frozen=True)
class HookedBatch:
    """A batch of windows with what an attribution needs; N counted positions, S scored predictions."""

    batch: Batch

    x_ND: Tensor
    """What the SAE reads at the counted positions, window after window, float32."""

    activation_BTD: Tensor
    """The activation at the hookpoint at all positions, float32: a leaf that requires its gradient."""

    codes: SparseCodes
    """Of the N counted positions."""

    doc_N: IntArray
    """Document of each counted position."""

    scored: tuple[Tensor, ...]
    """Window and position [S] of the predictions that are scored."""

    doc_S: IntArray
    """Document of each scored prediction."""

    logits: Callable[[], Tensor]
    """Runs the blocks above the hookpoint: logits [S, V] with a graph to `activation_BTD`."""


@dataclass
class Ablation:
    """Forward passes over the windows of some documents from one SAE's hookpoint upward."""

    setup: Setup
    coder: Sae
    documents_D: BoolArray
    """Documents to measure on."""
    tokens: int
    """Counted tokens measured, about: whole windows, in equal shares per task."""
    seed: int = 0
    """Of the rows that tokens get from `LatentSet.to_MF`."""
    left_out: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Windows that are not run: one token without a finite activation spoils the losses of the later ones."""
    order: IntArray = field(init=False)
    """Numbers of the measured windows."""

    def __post_init__(self) -> None:
        self.windows: Windows = self.setup.windows
        self.model: Any = self.setup.lm.model
        device = self.setup.machine.device
        self.model.to(device)
        self.coder.to(device)
        place = (self.setup.on_both_sides(self.coder) if self.coder.transcodes else self.setup).hookpoint
        self.capture = Capture(self.model, place)
        self.order = measured_windows(self.windows, self.documents_D, self.tokens, self.left_out)
        batch_tokens = self.setup.machine.batch_tokens
        self.cut = [batch.to(device) for batch in batches(self.windows, self.order, batch_tokens)]

    @cached_property
    def upper(self) -> UpperBlocks | None:
        """The blocks that a change can reach; None: the whole model is run."""
        return upper_blocks(self.model, self.capture.hookpoint, self.cut[0].input_ids_BT)

    @property
    def num_tokens(self) -> int:
        """Tokens of the measured windows, those that are not counted too."""
        return sum(int(batch.real_BT.sum()) for batch in self.cut)

    def effects(self, sets: Sequence[LatentSet], meter: Meter) -> Effects:
        """Sums per document of what each set does; `meter` counts `len(sets) * num_tokens`.

        Raises ConfigError for a replacement other than zero with an SAE that decodes only what it encoded.
        """
        total = Effects.zeros(len(sets), len(self.windows.task_D))
        for part in self.each_batch(sets, meter):
            total.add(part)
        return total

    def each_batch(self, sets: Sequence[LatentSet], meter: Meter, start: int = 0) -> Iterator[Effects]:
        """The effects batch by batch, from batch `start` on; their sum is `effects`."""
        member_GF = np.zeros((len(sets), self.coder.num_latents), dtype=np.bool_)
        for number, latents in enumerate(sets):
            member_GF[number, latents.latents_F] = True
        members = torch.from_numpy(member_GF).to(self.setup.machine.device)
        for batch in self.cut[start:]:
            with torch.inference_mode():
                effects = _BatchEffects(self, batch, sets, members).measured(meter)
            yield effects

    def batches(self) -> Iterator[HookedBatch]:
        """Batches for an attribution: activations that require their gradient, and their codes."""
        machine = self.setup.machine
        for on_host in batches(self.windows, self.order, max(1, machine.batch_tokens // BACKWARD_SHARE)):
            batch = on_host.to(machine.device)
            scored_BT = scored_positions(batch.counted_BT, batch.real_BT)
            scored = scored_BT.nonzero(as_tuple=True)
            with torch.no_grad():
                seen = self.seen(batch)
                codes = self.coder.encode(seen.x_ND)
            leaf = seen.activation_BTD.detach().clone().float().requires_grad_()
            yield HookedBatch(
                batch,
                seen.x_ND,
                leaf,
                codes,
                self.documents(batch, batch.counted_BT),
                scored,
                self.documents(batch, scored_BT),
                self._upward(batch, leaf, seen.stream_BTd, scored),
            )

    def _upward(
        self, batch: Batch, leaf_BTD: Tensor, stream_BTd: Tensor | None, scored: tuple[Tensor, ...]
    ) -> Callable[[], Tensor]:
        def logits() -> Tensor:
            with (
                torch.enable_grad(),
                self.entered(stream_BTd),
                self.capture.replaced(lambda _x, old: leaf_BTD.to(old.dtype)),
            ):
                return scored_logits(self.model, batch.input_ids_BT, scored)

        return logits

    def entered(self, stream_BTd: Tensor | None) -> Any:
        """While open, the model starts from this stream, where it can be entered."""
        return nullcontext() if self.upper is None or stream_BTd is None else self.upper.entered(stream_BTd)

    def seen(self, batch: Batch, scored_BT: Tensor | None = None) -> "_Seen":
        """One pass of the untouched model: what the SAE reads and predicts, and the stream below.

        With `scored_BT` its predictions there too. Gradients are the caller's to switch off.
        """
        caught: list[tuple[Tensor, Tensor]] = []

        def keep(x_BTD: Tensor, old_BTD: Tensor) -> Tensor:
            caught.append((x_BTD, old_BTD))
            return old_BTD

        ids_BT, clean = batch.input_ids_BT, None
        with ExitStack() as stack:
            streams = stack.enter_context(self.upper.recorded()) if self.upper else []
            stack.enter_context(self.capture.replaced(keep))
            if scored_BT is None:
                self.model.base_model(input_ids=ids_BT, use_cache=False)
            else:
                clean = clean_pass(self.model, ids_BT, scored_BT)
        ((x_BTD, old_BTD),) = caught
        return _Seen(x_BTD[batch.counted_BT].float(), old_BTD, streams[0] if streams else None, clean)

    def encoded(self, batch: Batch, x_ND: Tensor) -> Encoded:
        """What the SAE reads at the counted positions of a batch, encoded."""
        row_N, position_N = (index.cpu().numpy() for index in batch.counted_BT.nonzero(as_tuple=True))
        row_N = self.windows.row_W[batch.window_B.cpu().numpy()][row_N]
        return Encoded(self.coder, x_ND, row_N * 1009 + position_N, self.seed)

    def documents(self, batch: Batch, chosen_BT: Tensor) -> IntArray:
        """Document of each chosen position of a batch, in order."""
        doc_B = self.windows.doc_W[batch.window_B.cpu().numpy()]
        return np.repeat(doc_B, chosen_BT.sum(1).cpu().numpy())


@dataclass(frozen=True)
class _Seen:
    x_ND: Tensor
    activation_BTD: Tensor
    stream_BTd: Tensor | None
    clean: CleanPass | None


@dataclass(frozen=True)
class _Change:
    """What one set takes out of one window."""

    number: int
    """Of the set."""
    row: int
    """Of the window in the batch."""
    position_n: Tensor
    removed_nD: Tensor


class _BatchEffects:
    """The effects of all sets on the windows of one batch."""

    def __init__(
        self, ablation: Ablation, batch: Batch, sets: Sequence[LatentSet], member_GF: Tensor
    ) -> None:
        self.ablation, self.batch, self.sets, self.member_GF = ablation, batch, sets, member_GF
        self.scored_BT = scored_positions(batch.counted_BT, batch.real_BT)
        seen = ablation.seen(batch, self.scored_BT)
        assert seen.clean is not None
        self.stream_BTd, self.clean = seen.stream_BTd, seen.clean
        self.encoded = ablation.encoded(batch, seen.x_ND)
        self.row_N, self.position_N = batch.counted_BT.nonzero(as_tuple=True)
        self.doc_B = ablation.windows.doc_W[batch.window_B.cpu().numpy()]
        self.sums = Effects.zeros(len(sets), len(ablation.windows.task_D))
        self.number_BT = torch.full_like(self.scored_BT, -1, dtype=torch.long)
        self.number_BT[self.scored_BT] = torch.arange(len(self.clean.scored[0]), device=self.scored_BT.device)
        self.clean_ce_S = self.clean.losses.ce_S

    def measured(self, meter: Meter) -> Effects:
        """Run every window that a set changes."""
        tokens = int(self.batch.real_BT.sum())
        self.sums.tokens_D += np.bincount(
            self.ablation.documents(self.batch, self.scored_BT), minlength=len(self.sums.tokens_D)
        )
        room = max(1, self.ablation.setup.machine.batch_tokens // self.batch.input_ids_BT.shape[1])
        waiting: list[_Change] = []
        for number in range(len(self.sets)):
            for change in self._changes(number):
                waiting.append(change)
                if len(waiting) == room:
                    self._run(waiting)
                    waiting = []
            meter.advance(tokens)
        if waiting:
            self._run(waiting)
        return self.sums

    def _changes(self, number: int) -> Iterator[_Change]:
        """What a set changes in each window; its firings and the removed norm are added up."""
        removed = self.encoded.removed(self.sets[number], self.member_GF[number])
        if removed is None:
            return
        n, removed_nD = removed.token_n, removed.removed_nD
        row_n = self.row_N[n]
        self._add(number, "firings_GD", row_n, removed.firings_n)
        self._add(number, "norm_GD", row_n, removed_nD.double().pow(2).sum(1))
        rows, sizes = torch.unique_consecutive(row_n, return_counts=True)
        start = 0
        for row, size in zip(rows.tolist(), sizes.tolist(), strict=True):
            part = slice(start, start + size)
            start += size
            position_n = self.position_N[n[part]]
            if self.scored_BT[row, int(position_n[0]) :].any():  # else no prediction sees the change
                yield _Change(number, row, position_n, removed_nD[part])

    def _run(self, changes: list[_Change]) -> None:
        """One forward pass over P windows, each with its own change."""
        ablation, batch = self.ablation, self.batch
        device = batch.input_ids_BT.device
        row_P = torch.tensor([change.row for change in changes], device=device)
        set_P = np.array([change.number for change in changes])
        first_P = torch.stack([change.position_n[0] for change in changes])
        sizes = torch.tensor([len(change.position_n) for change in changes], device=device)
        window_n = torch.arange(len(changes), device=device).repeat_interleave(sizes)
        position_n = torch.cat([change.position_n for change in changes])
        removed_nD = torch.cat([change.removed_nD for change in changes])

        scored_PT = self.scored_BT[row_P]
        # attention is causal: a prediction before the first change is the untouched model's
        scored_PT = scored_PT & (torch.arange(scored_PT.shape[1], device=device) >= first_P[:, None])
        number_S = self.number_BT[row_P][scored_PT]
        clean = CleanPass(
            batch.input_ids_BT[row_P],
            scored_PT.nonzero(as_tuple=True),
            self.clean.log_p_SV[number_S],
            self.clean.top_S[number_S],
        )

        def ablated(_x: Tensor, old_PTD: Tensor) -> Tensor:
            new_PTD = old_PTD.clone()
            old_nD = old_PTD[window_n, position_n]
            new_PTD[window_n, position_n] = (old_nD.float() - removed_nD).to(old_PTD.dtype)
            return new_PTD

        stream = None if self.stream_BTd is None else self.stream_BTd[row_P]
        with ablation.entered(stream), ablation.capture.replaced(ablated):
            logits_SV = scored_logits(ablation.model, clean.input_ids_BT, clean.scored)
        losses = clean.compare(logits_SV)
        window_S = clean.scored[0].cpu().numpy()
        at = set_P[window_S], self.doc_B[row_P.cpu().numpy()][window_S]
        np.add.at(self.sums.ce_GD, at, (losses.ce_S - self.clean_ce_S[number_S]).double().cpu().numpy())
        np.add.at(self.sums.kl_GD, at, losses.kl_S.double().cpu().numpy())

    def _add(self, number: int, name: str, row_n: Tensor, value_n: Tensor) -> None:
        sums: FloatArray = getattr(self.sums, name)
        doc_n = self.doc_B[row_n.cpu().numpy()]
        sums[number] += np.bincount(doc_n, weights=value_n.cpu().numpy(), minlength=sums.shape[1])


def measured_windows(
    windows: Windows, documents_D: BoolArray, tokens: int, left_out: AnyIntArray | tuple[int, ...] = ()
) -> IntArray:
    """Windows of some documents with about `tokens` counted tokens, in equal shares per task.

    The first window of every document comes before the second of any, so that many documents take part.
    At least one window of every task that has one outside `left_out`.
    """
    tokens_W, chosen = windows.tokens_W.copy(), []
    tokens_W[np.asarray(left_out, dtype=np.int64)] = 0
    turn_W = np.arange(len(windows.doc_W)) - np.searchsorted(windows.doc_W, windows.doc_W)
    for task in range(len(windows.tasks)):
        candidates = np.flatnonzero((windows.task_W == task) & (tokens_W > 0) & documents_D[windows.doc_W])
        candidates = candidates[np.argsort(turn_W[candidates], kind="stable")]
        before = np.cumsum(tokens_W[candidates]) - tokens_W[candidates]
        chosen.append(candidates[before < tokens / len(windows.tasks)])
    order: IntArray = np.sort(np.concatenate(chosen))
    return order
