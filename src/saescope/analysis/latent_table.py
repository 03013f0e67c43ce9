"""Everything the pages show of each supported latent beyond `features.parquet`: `latents.npz`."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.analysis.examples import AFTER, BEFORE
from saescope.analysis.latent_contexts import find_contexts, strings_of
from saescope.analysis.promoted_tokens import nearest_latents, promoted_tokens
from saescope.errors import SaeError
from saescope.extraction.codes import Codes
from saescope.model.load import LanguageModel
from saescope.sae.base import Sae
from saescope.sae.decoder_rows import decoder_rows
from saescope.text.windows import Windows

IDS = ("id_R", "frequent_LT", "promoted_LT", "suppressed_LT")
"""Arrays of token ids; -1 stands for none."""


def latent_table(
    codes: Codes, windows: Windows, latents: npt.NDArray[np.int64], sae: Sae, lm: LanguageModel
) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """The arrays of `latents.npz` and the words that their token ids index."""
    contexts = find_contexts(codes, windows, latents.tolist())
    arrays: dict[str, Any] = {
        name: np.asarray(value) for name, value in vars(contexts).items() if name != "tokens"
    }
    arrays["tokens"] = np.array([contexts.tokens, codes.num_tokens])
    arrays["span"] = np.array([BEFORE, AFTER])
    rows_Ld = _directions(sae, contexts.latent_L)
    if rows_Ld is not None and len(rows_Ld):
        place, cosine = nearest_latents(rows_Ld)
        arrays |= {"nearest_LN": contexts.latent_L[place], "nearest_cosine_LN": cosine}
        promoted = promoted_tokens(lm.model, rows_Ld, codes.count_F[contexts.latent_L])
        if promoted is not None:
            arrays |= {
                "promoted_LT": promoted.id_LT,
                "promoted_z_LT": promoted.z_LT,
                "suppressed_LT": promoted.suppressed_LT,
                "suppressed_z_LT": promoted.suppressed_z_LT,
            }
    ids = [name for name in IDS if name in arrays]
    vocabulary_V, words = strings_of(
        np.concatenate([arrays[name].ravel() for name in ids]), lm.tokenizer.decode
    )
    for name in ids:
        index = np.searchsorted(vocabulary_V, arrays[name])
        arrays[name] = np.where(arrays[name] < 0, -1, index).astype(np.int32)
    arrays["vocabulary_V"] = vocabulary_V
    return arrays, words


def _directions(sae: Sae, latent_L: npt.NDArray[np.int32]) -> Tensor | None:
    """Decoder rows; None where the SAE has none of its own."""
    try:
        return decoder_rows(sae, torch.from_numpy(latent_L.astype(np.int64)), directions=True)
    except SaeError:
        return None
