"""`latents.npz`: contexts, tokens and neighbours of every supported latent; arrays only, no pickle."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saescope.errors import ReportError
from saescope.files import whole

Arrays = Mapping[str, npt.NDArray[Any]]

REQUIRED = (
    "latent_L", "first_L", "row_C", "quantile_C", "first_C", "offset_A", "act_A", "histogram_LB",
    "frequent_LT", "share_LT", "id_R", "first_W", "task_W", "doc_W", "vocabulary_V", "words", "tokens",
    "span",
)  # fmt: skip
"""What a file must hold; `promoted_*` and `nearest_*` are there where they could be computed."""


@dataclass(frozen=True)
class LatentFile:
    """The arrays of `latents.npz`; names and shapes as in `analysis/latent_contexts.py`.

    Token ids are indices into `words`. `promoted_LT`, `promoted_z_LT`, `suppressed_LT`, `suppressed_z_LT`:
    the tokens of `analysis/promoted_tokens.py`; `nearest_LN` (latent numbers) and `nearest_cosine_LN`.
    """

    arrays: Arrays

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    @cached_property
    def words(self) -> list[str]:
        """The text of each token that any other array names."""
        return [str(word) for word in json.loads(self.arrays["words"].tobytes().decode("utf-8"))]

    @cached_property
    def place(self) -> dict[int, int]:
        """Place of each latent in the arrays."""
        return {int(latent): at for at, latent in enumerate(self.arrays["latent_L"])}


def write_latents(path: Path, arrays: Arrays, words: list[str]) -> None:
    """Write the file, whole or not at all."""
    text = np.frombuffer(json.dumps(words, ensure_ascii=False).encode("utf-8"), dtype=np.uint8)
    with whole(path) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = {**arrays, "words": text}
        np.savez_compressed(file, **named)


def read_latents(path: Path) -> LatentFile:
    """Read the file. Raises ReportError when it is missing, damaged, or not one of these."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise ReportError(f"{path} lacks {', '.join(missing)}; measure again with force=true")
    return LatentFile(arrays)
