"""What a latent writes: the tokens that its decoder row promotes and suppresses, and the rows like it.

The row is read as if it were the whole residual stream: final norm, then unembedding (the logit lens;
nostalgebraist 2020, applied to SAE decoders as in Bricken et al. 2023). At early layers the blocks between
rewrite it, so the tokens say little there.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.model.upper_blocks import UpperBlocks, entered_at, top
from saescope.stats.cosine_search import nearest_rows, unit_rows

log = logging.getLogger(__name__)

PROMOTED = 8
NEIGHBOURS = 5
BLOCK = 256
"""Decoder rows in one pass: their logits [256, V] are held."""
LOGITS_AT_MOST = 2_000_000_000
"""Latents × vocabulary: beyond it the rows with the most firings are read, and a log line says so."""


@dataclass(frozen=True)
class PromotedTokens:
    """Tokens of the rows of L latents."""

    id_LT: npt.NDArray[np.int32]
    """The most promoted tokens, strongest first; -1 where the row was not read."""

    z_LT: npt.NDArray[np.float16]
    """Their logits, less the mean over the vocabulary, in standard deviations over the vocabulary."""

    suppressed_LT: npt.NDArray[np.int32]
    """The most suppressed tokens."""

    suppressed_z_LT: npt.NDArray[np.float16]


def promoted_tokens(model: Any, rows_Ld: Tensor, count_L: npt.NDArray[np.int64]) -> PromotedTokens | None:
    """Tokens that each row promotes and suppresses through the model's own final norm and unembedding.

    None where the rows are not of the residual stream's width, or the model cannot be entered after its
    last block. `count_L` are the latents' firings.
    """
    embedding = model.get_input_embeddings().weight
    device = embedding.device
    if rows_Ld.shape[1] != _stream_width(model):
        return None
    ids_BT = torch.zeros(1, 2, dtype=torch.int64, device=device)
    entry = top(model)
    upper = entered_at(model, [entry], ids_BT)[entry]
    if upper is None:
        return None
    num_latents = len(rows_Ld)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    read = np.argsort(-count_L, kind="stable")[: max(1, LOGITS_AT_MOST // vocabulary)]
    if len(read) < num_latents:
        log.info("promoted tokens: of the %d latents of %d that fire most", len(read), num_latents)
    result = PromotedTokens(
        np.full((num_latents, PROMOTED), -1, dtype=np.int32),
        np.zeros((num_latents, PROMOTED), dtype=np.float16),
        np.full((num_latents, PROMOTED), -1, dtype=np.int32),
        np.zeros((num_latents, PROMOTED), dtype=np.float16),
    )
    with torch.inference_mode():
        nothing_V = _logits(model, upper, torch.zeros(1, rows_Ld.shape[1], device=device))[0]
        for at in range(0, len(read), BLOCK):
            part = read[at : at + BLOCK]
            block = rows_Ld[torch.from_numpy(part)].to(device)
            # of a size at which the norm's epsilon does not count
            block = 100.0 * block / block.norm(dim=1, keepdim=True).clamp_min(1e-12)
            logits_LV = _logits(model, upper, block) - nothing_V
            deviation_LV = logits_LV - logits_LV.mean(1, keepdim=True)
            z_LV = deviation_LV / deviation_LV.std(1, keepdim=True).clamp_min(1e-12)
            for ids, scores, sign in (
                (result.id_LT, result.z_LT, 1.0),
                (result.suppressed_LT, result.suppressed_z_LT, -1.0),
            ):
                best = (sign * z_LV).topk(min(PROMOTED, z_LV.shape[1]), dim=1)
                ids[part, : best.indices.shape[1]] = best.indices.cpu().numpy()
                scores[part, : best.values.shape[1]] = (sign * best.values).cpu().numpy()
    return result


def _stream_width(model: Any) -> int:
    """Width of what the unembedding reads."""
    return int(model.get_output_embeddings().weight.shape[1])


def _logits(model: Any, upper: UpperBlocks, rows_Ld: Tensor) -> Tensor:
    """Logits [L, V] of streams after the last block, float32."""
    stream_BTd = rows_Ld[None].to(next(model.parameters()).dtype)
    ids_BT = torch.zeros(stream_BTd.shape[:2], dtype=torch.int64, device=rows_Ld.device)
    with upper.entered(stream_BTd):
        logits: Tensor = model(input_ids=ids_BT, use_cache=False).logits
    return logits[0].float()


def nearest_latents(rows_Ld: Tensor) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float16]]:
    """Places of the rows of largest cosine with each row [L, 5], and those cosines."""
    unit = unit_rows(rows_Ld.cpu().numpy())
    found = nearest_rows(unit, unit, min(NEIGHBOURS + 1, len(unit)))
    others = found.index_Am != np.arange(len(unit))[:, None]
    # a row is its own nearest, but for an exact double, which may come before it
    others[others.all(1), -1] = False
    shape = (len(unit), found.index_Am.shape[1] - 1)
    return (
        found.index_Am[others].reshape(shape).astype(np.int32),
        found.cosine_Am[others].reshape(shape).astype(np.float16),
    )
