"""Forward passes over chosen windows: losses of edited models and of the untouched one, per document."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.model.losses import scored_logits, token_losses
from saescope.stats.savings import mean_interval
from saescope.text.windows import Batch, Windows, batches

Opens = Callable[[Batch], AbstractContextManager[Any]]
"""Edits the model while one batch is run."""


@dataclass
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


@dataclass
class Passes:
    """Runs the model over the chosen windows; only predictions made at counted positions are scored."""

    model: Any
    windows: Windows
    order: npt.NDArray[np.int64]
    batch_tokens: int
    device: Any
    scored: Callable[[Batch], Tensor] | None = None
    """bool [B, T − 1] of the positions whose prediction is scored, among the counted ones; None: all."""
    batches: list[Batch] = field(init=False)

    def __post_init__(self) -> None:
        made = batches(self.windows, self.order, self.batch_tokens)
        self.batches = [batch.to(self.device) for batch in made]

    def losses(
        self, variants: Mapping[str, Opens], during_dense: Opens = lambda _batch: nullcontext()
    ) -> dict[str, DocumentLosses]:
        """Losses of the dense model (`dense`) and of every variant, batch by batch.

        `during_dense` is open in the dense pass, to look at activations.
        """
        documents = len(self.windows.task_D)
        out = {
            name: DocumentLosses(*(np.zeros(documents) for _ in range(4))) for name in ("dense", *variants)
        }
        with torch.inference_mode():
            for batch in self.batches:
                scored_BT = batch.counted_BT[:, :-1] & batch.real_BT[:, 1:]
                if self.scored is not None:
                    scored_BT = scored_BT & self.scored(batch)
                target_S = batch.input_ids_BT[:, 1:][scored_BT]
                doc_B = torch.from_numpy(self.windows.doc_W).to(self.device)[batch.window_B]
                doc_S = doc_B[:, None].expand_as(scored_BT)[scored_BT].cpu().numpy()
                with during_dense(batch):
                    clean_SV = torch.log_softmax(
                        scored_logits(self.model, batch.input_ids_BT, scored_BT).float(), dim=-1
                    )
                best_S = clean_SV.argmax(-1)
                ce_S = -clean_SV.gather(-1, target_S[:, None]).squeeze(-1)
                _add(out["dense"], doc_S, ce_S, torch.zeros_like(ce_S), torch.ones_like(best_S))
                for name, opens in variants.items():
                    with opens(batch):
                        logits_SV = scored_logits(self.model, batch.input_ids_BT, scored_BT)
                    ce_S, kl_S = token_losses(logits_SV, clean_SV, target_S)
                    _add(out[name], doc_S, ce_S, kl_S, logits_SV.argmax(-1) == best_S)
        return out

    def watch(self, opens: Opens) -> None:
        """Run the blocks, without the unembedding, over every batch, with `opens(batch)` around."""
        with torch.inference_mode():
            for batch in self.batches:
                with opens(batch):
                    self.model.base_model(input_ids=batch.input_ids_BT, use_cache=False)


def loss_columns(
    dense: DocumentLosses, edited: DocumentLosses, resamples: int, seed: int
) -> dict[str, float | int]:
    """Columns `tokens` to `top1_agree` of `dynamic_k.csv`; interval of ce_delta: 95 %, documents resampled.

    ppl = exp(Σ nats / Σ tokens), never a mean of perplexities.
    """
    n = dense.tokens_D.sum()
    low, high = mean_interval(edited.ce_D - dense.ce_D, dense.tokens_D, resamples=resamples, seed=seed)
    ce = float(edited.ce_D.sum() / n)
    return {
        "tokens": int(n),
        "ce": ce,
        "ppl": math.exp(ce),
        "ce_delta": float((edited.ce_D - dense.ce_D).sum() / n),
        "ce_delta_lo": low,
        "ce_delta_hi": high,
        "kl": float(edited.kl_D.sum() / n),
        "top1_agree": float(edited.agree_D.sum() / n),
    }


def _add(
    to: DocumentLosses, doc_S: npt.NDArray[np.int64], ce_S: Tensor, kl_S: Tensor, agree_S: Tensor
) -> None:
    columns = ((to.ce_D, ce_S), (to.kl_D, kl_S), (to.agree_D, agree_S), (to.tokens_D, torch.ones_like(ce_S)))
    for total_D, value_S in columns:
        total_D += np.bincount(doc_S, weights=value_S.double().cpu().numpy(), minlength=len(total_D))
