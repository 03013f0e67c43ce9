"""The key of activations in the cache: everything that decides their values."""

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saescope.model.hookpoints import Hookpoint
from saescope.text.packing import Ids
from saescope.text.token_rows import rows_digest
from saescope.text.windows import Windows

FORMAT = 3
"""Incremented when the layout of the shards or the meaning of their values changes."""

VOLATILE = ("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "_commit_hash")
"""Entries of a model's configuration that say where it came from, not what it computes."""


@dataclass(frozen=True)
class ActivationKey:
    """Key of the activations of one hookpoint over one set of token rows."""

    model: str
    """Hash of the weights as loaded (their precision included) and of the configuration."""

    rows: str
    """Hash of the token ids and of which of them count: stands for text, tokenizer, split and windows."""

    hookpoint: str
    """Module and side; for a transcoder also those it reads, where they are others."""

    num_rows: int
    tokens: int
    d_in: int

    dtype: str
    """How activations are stored: `float32`, `bfloat16` or `float16`."""

    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Name of the folder in the cache."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:32]

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as a torch type."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.dtype]

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return dataclasses.asdict(self)


def activation_key(
    model: str, hookpoint: Hookpoint, rows: Ids | Windows, d_in: int, dtype: torch.dtype
) -> ActivationKey:
    """The key of `hookpoint`'s activations over packed rows [R, ctx_len] or probe windows.

    `model` is a `model_digest`; `dtype` is how activations are stored.
    """
    if isinstance(rows, Windows):
        digest, num_rows, tokens = windows_digest(rows), len(rows.ids), rows.num_tokens
    else:
        digest, num_rows, tokens = rows_digest(rows), len(rows), rows.size
    return ActivationKey(
        model=model,
        rows=digest,
        hookpoint=f"{hookpoint.name}:{hookpoint.side}"
        + (f":{hookpoint.reads.name}:{hookpoint.reads.side}" if hookpoint.reads else ""),
        num_rows=num_rows,
        tokens=tokens,
        d_in=d_in,
        dtype=str(dtype).removeprefix("torch."),
    )


def windows_digest(windows: Windows) -> str:
    """Hash of the tokens of all windows and of which of them count."""
    digest = hashlib.sha256()
    for ids, counted in zip(windows.ids, windows.counted, strict=True):
        digest.update(f"{len(ids)}".encode() + ids.tobytes() + counted.tobytes())
    return digest.hexdigest()


def model_digest(model: Any) -> str:
    """Hash of a `transformers` model: name, type, shape and bytes of every weight, and the config.

    The weights themselves are hashed, not their file or revision: random weights, fine-tuned copies and
    edited models all differ, and the same weights in another folder do not. About 1.5 GB/s and core.
    """
    config = {k: v for k, v in model.config.to_dict().items() if k not in VOLATILE}
    digest = hashlib.sha256(json.dumps([type(model).__name__, config], sort_keys=True, default=str).encode())
    for part in _weight_digests(model):
        digest.update(part)
    return digest.hexdigest()


def weights_digest(module: nn.Module) -> str:
    """Hash of name, type, shape and bytes of every weight."""
    return hashlib.sha256(b"".join(_weight_digests(module))).hexdigest()


def _weight_digests(module: Any) -> list[bytes]:
    with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
        return list(pool.map(_tensor_digest, sorted(module.state_dict().items())))


def _tensor_digest(item: tuple[str, Tensor]) -> bytes:
    name, tensor = item
    digest = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    data = tensor.detach().cpu().contiguous().reshape(-1)
    if data.numel():
        digest.update(data.view(torch.uint8).numpy().data)
    return digest.digest()
