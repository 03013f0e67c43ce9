"""Sets of latents at several hookpoints taken out in one forward pass, the SAEs' errors kept.

An upper SAE reads the activation that the ablation below leaves: what it takes out is what it still sees.
Where the lower set has taken away what the upper one reads, the upper one takes out nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from saescope.causal.ablation import Ablation
from saescope.causal.removal import LatentSet
from saescope.extraction.setup import Setup
from saescope.model.losses import scored_logits, scored_positions
from saescope.model.upper_blocks import UpperBlocks
from saescope.runtime.meter import Meter
from saescope.stats.arrays import FloatArray, IntArray
from saescope.stats.causal import Effects
from saescope.text.windows import Batch, Windows


@dataclass(frozen=True)
class JointAblation:
    """Ablations at several hookpoints of one model, on the same windows, the lowest first.

    The latents of a set are numbered hookpoint after hookpoint: latent f of the second is f + `num_latents`
    of the first.
    """

    parts: tuple[Ablation, ...]

    @property
    def setup(self) -> Setup:
        """That of the lowest hookpoint."""
        return self.parts[0].setup

    @property
    def windows(self) -> Windows:
        """The probe text."""
        return self.parts[0].windows

    @property
    def cut(self) -> list[Batch]:
        """The measured windows in batches."""
        return self.parts[0].cut

    @property
    def order(self) -> IntArray:
        """Numbers of the measured windows."""
        return self.parts[0].order

    @property
    def tokens(self) -> int:
        """Counted tokens measured, about."""
        return self.parts[0].tokens

    @property
    def seed(self) -> int:
        """That of the ablations."""
        return self.parts[0].seed

    @property
    def num_tokens(self) -> int:
        """Tokens of the measured windows, those that are not counted too."""
        return self.parts[0].num_tokens

    @cached_property
    def starts(self) -> IntArray:
        """Number of the first latent of each hookpoint, and behind them the number of all latents."""
        ends = np.cumsum([part.coder.num_latents for part in self.parts])
        return np.concatenate([[0], ends]).astype(np.int64)

    @cached_property
    def upper(self) -> UpperBlocks | None:
        """The blocks that a change can reach; None: the whole model is run."""
        # a hookpoint whose changes need the blocks below it may need those below the lowest one too
        return None if any(part.upper is None for part in self.parts) else self.parts[0].upper

    def joined(self, sets: Sequence[LatentSet]) -> LatentSet:
        """One set of those at each hookpoint, all with as many rows of replacements."""
        numbers = [latents.latents_F + start for latents, start in zip(sets, self.starts[:-1], strict=True)]
        rows = [latents.to_MF for latents in sets if latents.to_MF is not None]
        return LatentSet(
            sets[0].name, np.concatenate(numbers), np.concatenate(rows, axis=1) if rows else None
        )

    def split(self, latents: LatentSet) -> list[LatentSet]:
        """The part of a set at each hookpoint, with that one's numbers."""
        return [
            LatentSet(
                latents.name,
                latents.latents_F[here] - start,
                None if latents.to_MF is None else latents.to_MF[:, here],
            )
            for start, end in zip(self.starts[:-1], self.starts[1:], strict=True)
            for here in [(latents.latents_F >= start) & (latents.latents_F < end)]
        ]

    def each_batch(self, sets: Sequence[LatentSet], meter: Meter, start: int = 0) -> Iterator[Effects]:
        """What each set does, batch by batch from batch `start` on."""
        for batch in self.cut[start:]:
            with torch.inference_mode():
                effects = self._of_batch(batch, sets, meter)
            yield effects

    def _of_batch(self, batch: Batch, sets: Sequence[LatentSet], meter: Meter) -> Effects:
        lowest, num_documents = self.parts[0], len(self.windows.task_D)
        sums = Effects.zeros(len(sets), num_documents)
        scored_BT = scored_positions(batch.counted_BT, batch.real_BT)
        seen = lowest.seen(batch, scored_BT)
        assert seen.clean is not None
        doc_S = lowest.documents(batch, scored_BT)
        sums.tokens_D += np.bincount(doc_S, minlength=num_documents)
        stream_BTd = None if self.upper is None else seen.stream_BTd
        for number, latents in enumerate(sets):
            changed_BT = torch.zeros_like(batch.counted_BT)
            edits = [
                _Edit(part, batch, here, changed_BT)
                for part, here in zip(self.parts, self.split(latents), strict=True)
                if len(here.latents_F)
            ]
            if edits:
                with ExitStack() as stack:
                    stack.enter_context(lowest.entered(stream_BTd))
                    for edit in edits:
                        stack.enter_context(edit.part.capture.replaced(edit))
                    logits_SV = scored_logits(lowest.model, batch.input_ids_BT, seen.clean.scored)
                losses = seen.clean.compare(logits_SV)
                rise_S = losses.ce_S - seen.clean.losses.ce_S
                # attention is causal: a prediction before the first change is the untouched model's
                after_S = (changed_BT.cumsum(1) > 0)[:, :-1][scored_BT]
                for total_GD, value_S in ((sums.ce_GD, rise_S), (sums.kl_GD, losses.kl_S)):
                    value_S = torch.where(after_S, value_S, 0.0).double()
                    total_GD[number] += _by_document(value_S, doc_S, num_documents)
                sums.firings_GD[number] = sum(edit.firings_D for edit in edits)
                sums.norm_GD[number] = sum(edit.norm_D for edit in edits)
            meter.advance(int(batch.real_BT.sum()))
        return sums


class _Edit:
    """What one set does to the activation at one hookpoint in one forward pass."""

    def __init__(self, part: Ablation, batch: Batch, latents: LatentSet, changed_BT: Tensor) -> None:
        """`changed_BT` is set where the activation is changed."""
        self.part, self.batch, self.latents, self.changed_BT = part, batch, latents, changed_BT
        self.member_F = torch.zeros(part.coder.num_latents, dtype=torch.bool, device=changed_BT.device)
        self.member_F[torch.from_numpy(latents.latents_F).to(changed_BT.device)] = True
        num_documents = len(part.windows.task_D)
        self.firings_D, self.norm_D = np.zeros(num_documents), np.zeros(num_documents)

    def __call__(self, x_BTD: Tensor, old_BTD: Tensor) -> Tensor:
        counted_BT = self.batch.counted_BT
        removed = self.part.encoded(self.batch, x_BTD[counted_BT].float()).removed(
            self.latents, self.member_F
        )
        if removed is None:
            return old_BTD
        row_N, position_N = counted_BT.nonzero(as_tuple=True)
        at = row_N[removed.token_n], position_N[removed.token_n]
        self.changed_BT[at] = True
        doc_n = self.part.documents(self.batch, counted_BT)[removed.token_n.cpu().numpy()]
        norm_n = removed.removed_nD.double().pow(2).sum(1)
        self.firings_D += _by_document(removed.firings_n, doc_n, len(self.firings_D))
        self.norm_D += _by_document(norm_n, doc_n, len(self.norm_D))
        new_BTD = old_BTD.clone()
        new_BTD[at] = (old_BTD[at].float() - removed.removed_nD).to(old_BTD.dtype)
        return new_BTD


def _by_document(value_N: Tensor, doc_N: IntArray, num_documents: int) -> FloatArray:
    weights_N = value_N.double().cpu().numpy()
    return np.bincount(doc_N, weights=weights_N, minlength=num_documents).astype(np.float64)
