"""`latents.npz`: contexts, tokens and neighbours of every supported latent; arrays only, no pickle."""

import json
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


_NUMBERS = ("act", "histogram", "share", "promoted", "suppressed", "nearest")
"""How the names of arrays begin that may hold other numbers than whole ones."""


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
        words = json.loads(self.arrays["words"].tobytes().decode("utf-8"))
        if not isinstance(words, list):
            raise ValueError("words is no list")
        return [str(word) for word in words]

    @cached_property
    def place(self) -> dict[int, int]:
        """Place of each latent in the arrays."""
        return {int(latent): at for at, latent in enumerate(self.arrays["latent_L"])}

    def frequent_words(self, at: int) -> list[str]:
        """Tokens on which the latent at this place fires most often."""
        return [self.words[number] for number in self["frequent_LT"][at] if number >= 0]

    def strongest_context(self, at: int) -> str:
        """Text around the token on which the latent at this place is strongest, that token in » «."""
        if self["first_L"][at] == self["first_L"][at + 1]:
            return ""
        row, first_W = int(self["row_C"][self["first_L"][at]]), self["first_W"]
        window = int(np.searchsorted(first_W, row, side="right")) - 1
        before, after = map(int, self["span"])
        start, end = max(int(first_W[window]), row - before), min(int(first_W[window + 1]), row + after + 1)
        words = [self.words[number] for number in self["id_R"][start:end]]
        words[row - start] = f"»{words[row - start]}«"
        return "".join(words)


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
    except Exception as error:  # zip, zlib and numpy, each with errors of its own
        what = " ".join(str(error).split())[:160]
        raise ReportError(f"{path} cannot be read: {what}; measure again with force=true") from error
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise ReportError(f"{path} lacks {', '.join(missing)}; measure again with force=true")
    latents = LatentFile(arrays)
    try:
        wrong = _inconsistent(latents)
    except (ValueError, TypeError, IndexError) as error:
        wrong = f"arrays of other shapes or types ({' '.join(str(error).split())[:160]})"
    if wrong:
        raise ReportError(f"{path} is damaged: {wrong}; measure again with force=true")
    return latents


def _inconsistent(latents: LatentFile) -> str:
    """What does not belong together, so that an index into it would miss; empty where all does."""
    for name, array in latents.arrays.items():
        if array.dtype.kind not in ("iuf" if name.partition("_")[0] in _NUMBERS else "iu"):
            return f"{name} holds {array.dtype}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
    latent_L, row_C, offset_A = (latents[name] for name in ("latent_L", "row_C", "offset_A"))
    id_R, first_W, words = latents["id_R"], latents["first_W"], len(latents.words)
    axes = {"L": len(latent_L), "C": len(row_C), "A": len(offset_A), "W": len(first_W) - 1}
    for name, array in latents.arrays.items():
        _, _, axis = name.rpartition("_")
        size = axes.get(axis[:1]) if axis.isupper() else None
        if size is not None and len(array) != size + name.startswith("first_"):
            return f"{name} has {len(array)} rows"
    for name, end in (("first_L", len(row_C)), ("first_C", len(offset_A)), ("first_W", len(id_R))):
        if latents[name][0] != 0 or latents[name][-1] != end or (np.diff(latents[name]) < 0).any():
            return f"{name} does not lead through its rows"
    limits = {
        "row_C": len(id_R),
        "id_R": words,
        "frequent_LT": words,
        "promoted_LT": words,
        "suppressed_LT": words,
    }
    for name, limit in limits.items():
        low = 0 if name in ("row_C", "id_R") else -1
        if (
            name in latents
            and latents[name].size
            and not low <= latents[name].min() <= latents[name].max() < limit
        ):
            return f"{name} points beyond what is there"
    if latents["span"].shape != (2,) or (latents["span"] < 0).any():
        return "span is no pair of lengths"
    context_A = np.repeat(np.arange(len(row_C)), np.diff(latents["first_C"]))
    place_A = row_C[context_A].astype(np.int64) + offset_A
    window_A = np.searchsorted(first_W, row_C[context_A], side="right") - 1
    before, after = map(int, latents["span"])
    outside = (offset_A < -before) | (offset_A > after)
    if (outside | (place_A < first_W[window_A]) | (place_A >= first_W[window_A + 1])).any():
        return "offset_A points beyond its context"
    for name in ("share_LT", "frequent_LT", "histogram_LB"):
        if latents[name].ndim != 2:
            return f"{name} is no matrix"
    return "" if latents["tokens"].ndim == 1 else "tokens is no list"
