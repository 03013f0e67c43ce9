"""Next-token losses of a model and of edits of it, prediction by prediction.

`clean_pass` runs the untouched model and leaves a `CleanPass`. Its `compare` measures any other logits at the
same positions against it; `edited_passes` does that for edits of the model, one forward pass each. Nothing
here knows of tasks or documents: callers reduce over what they like.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 8 * 2**20}
"""Memory for the intermediate values of one comparison, by device type: what a core's cache holds."""
DEVICE_CHUNK_BYTES = 256 * 2**20
"""The same on other devices, which need many rows to be busy."""

Name = TypeVar("Name", bound=Hashable)

Positions = Tensor | tuple[Tensor, ...]
"""A mask [B, T], or row and column of each marked position: with a mask, a GPU's host waits at every use to
learn how many there are."""


class TokenLosses(NamedTuple):
    """S predictions of one version of the model; losses in nats, float32."""

    ce_S: Tensor
    """Cross-entropy of the token that comes next."""

    kl_S: Tensor
    """KL(clean ‖ this version)."""

    agree_S: Tensor
    """bool: the likeliest token is the clean model's."""


@dataclass(frozen=True)
class CleanPass:
    """What the untouched model predicts at S scored positions of B texts."""

    input_ids_BT: Tensor

    scored: tuple[Tensor, ...]
    """Text and position [S] of the predictions that are scored."""

    log_p_SV: Tensor
    """Log-probabilities, float32."""

    top_S: Tensor
    """Likeliest tokens."""

    @cached_property
    def target_S(self) -> Tensor:
        """The tokens that come next."""
        return self.input_ids_BT[:, 1:][self.scored]

    @property
    def losses(self) -> TokenLosses:
        """The clean model against itself: KL 0, all in agreement."""
        ce_S = -self.log_p_SV.gather(-1, self.target_S[:, None]).squeeze(-1)
        return TokenLosses(ce_S, torch.zeros_like(ce_S), torch.ones_like(ce_S, dtype=torch.bool))

    def compare(self, logits_SV: Tensor) -> TokenLosses:
        """Losses of other logits at the same positions, in memory-bounded chunks."""
        chunk_bytes = CHUNK_BYTES.get(logits_SV.device.type, DEVICE_CHUNK_BYTES)
        rows = max(1, chunk_bytes // (16 * logits_SV.shape[-1]))
        target_S = self.target_S
        ce: list[Tensor] = []
        kl: list[Tensor] = []
        for at in range(0, len(target_S), rows):
            log_p = self.log_p_SV[at : at + rows]
            log_q = torch.log_softmax(logits_SV[at : at + rows].float(), dim=-1)
            ce.append(-log_q.gather(-1, target_S[at : at + rows, None]).squeeze(-1))
            kl.append((log_p.exp() * (log_p - log_q)).sum(-1))
        agree_S = logits_SV.argmax(-1) == self.top_S
        if not ce:
            empty = torch.zeros(0, device=logits_SV.device)
            return TokenLosses(empty, empty, agree_S)
        return TokenLosses(torch.cat(ce), torch.cat(kl), agree_S)


def scored_positions(counted_BT: Tensor, real_BT: Tensor) -> Tensor:
    """bool [B, T − 1]: counted positions that another token follows; their predictions are scored."""
    return counted_BT[:, :-1] & real_BT[:, 1:]


def clean_pass(model: Any, input_ids_BT: Tensor, scored_BT: Tensor) -> CleanPass:
    """Run the model as it is. Gradients are the caller's to switch off.

    With `scored_BT` on the host a device need not be waited for.
    """
    scored = tuple(index_S.to(input_ids_BT.device) for index_S in scored_BT.nonzero(as_tuple=True))
    logits_SV = scored_logits(model, input_ids_BT, scored)
    return CleanPass(input_ids_BT, scored, torch.log_softmax(logits_SV.float(), dim=-1), logits_SV.argmax(-1))


def edited_passes(
    model: Any, clean: CleanPass, edits: Mapping[Name, AbstractContextManager[Any]]
) -> Iterator[tuple[Name, TokenLosses]]:
    """Losses under every edit, one forward pass each; the model is edited while the context is open."""
    for name, edit in edits.items():
        with edit:
            logits_SV = scored_logits(model, clean.input_ids_BT, clean.scored)
        yield name, clean.compare(logits_SV)


def scored_logits(model: Any, input_ids_BT: Tensor, scored: Positions) -> Tensor:
    """Logits [S, V] at the scored positions of [B, T − 1]; the unembedding sees no other."""

    def scored_only(_module: Any, args: Any) -> Any:
        return (args[0][:, :-1][scored][None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(scored_only)
    try:
        logits: Tensor = model(input_ids=input_ids_BT, use_cache=False).logits
    finally:
        handle.remove()
    return logits[0]


def edit_at(
    positions: Positions, edit: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor, Tensor], Tensor]:
    """An edit for `Capture.replaced` that changes the marked positions and no others.

    `edit(x_ND, activation_ND)` gives what stands at the N marked positions; it reads x in float32.
    """

    def replace(x_BTD: Tensor, old_BTD: Tensor) -> Tensor:
        new_BTD = old_BTD.clone()
        new_BTD[positions] = edit(x_BTD[positions].float(), old_BTD[positions]).to(old_BTD.dtype)
        return new_BTD

    return replace
