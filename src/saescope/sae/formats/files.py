"""Weights in pickles, npz and safetensors files → float32 tensors; no file can run code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from saescope.errors import SaeError, choices


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`, tensors on the CPU. Raises SaeError."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SaeError(f"{path} is damaged, or a pickle that would run code when read; refused") from error
    except Exception as error:  # a damaged stream makes torch's own unpickler raise nearly anything
        raise _unreadable(path, error) from error
    if not isinstance(stored, dict):
        raise SaeError(f"{path} holds a {type(stored).__name__}, not a dictionary of weights")
    return stored


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays in a file of `numpy.savez`. Raises SaeError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except Exception as error:  # zip, numpy and torch, each with errors of its own
        raise _unreadable(path, error) from error


def read_safetensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, which is cut off. Raises SaeError."""
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def tensor_of(stored: Mapping[str, Any], path: Path, *names: str) -> Tensor:
    """The tensor under one of `names`, in float32; a star before a name transposes. Raises SaeError."""
    for name in names:
        value = stored.get(name.removeprefix("*"))
        if isinstance(value, Tensor) and value.is_floating_point():
            return (value.T if name.startswith("*") else value).to(torch.float32, copy=True).contiguous()
    plain = [name.removeprefix("*") for name in names]
    raise SaeError(f"{path} has no {choices(plain)}; it has {choices(map(str, stored), 12) or 'nothing'}")


def matrix_of(stored: Mapping[str, Any], path: Path, *names: str) -> Tensor:
    """`tensor_of` for a matrix that is not empty. Raises SaeError."""
    tensor = tensor_of(stored, path, *names)
    if tensor.ndim != 2 or not tensor.numel():
        raise SaeError(
            f"{path}: {names[0].removeprefix('*')} is {_product(tuple(tensor.shape))} and no matrix; "
            "the file is damaged or of another format"
        )
    return tensor


def check_weights(weights: Mapping[str, Tensor], where: object) -> None:
    """Raise SaeError for shapes that do not belong together and for NaN or infinite weights.

    `where` names the SAE in messages.
    """
    if any(weights[name].ndim != 2 or not weights[name].numel() for name in ("W_enc", "W_dec")):
        raise SaeError(
            f"{where} has an encoder or decoder that is no matrix; it is damaged or of another format"
        )
    (latents, d_in), d_out = weights["W_enc"].shape, weights["W_dec"].shape[1]
    expected = {
        "W_dec": (latents, d_out),
        "b_dec": (d_out,),
        "W_skip": (d_out, d_in),
        "W_enc": (latents, d_in),
    }
    for name, tensor in weights.items():
        shape = expected.get(name, (latents,))
        if tuple(tensor.shape) != shape:
            raise SaeError(
                f"{where}: {name} is {_product(tuple(tensor.shape))}, {_product(shape)} belongs to an "
                f"encoder of {latents} latents and width {d_in}; the file is damaged or of another format"
            )
    bad = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise SaeError(f"{where} has NaN or infinite weights in {', '.join(bad)}; it cannot be used")


def _unreadable(path: Path, error: Exception) -> SaeError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SaeError(
        f"{path} cannot be read: {type(error).__name__}: {first[:300]}; download or save it again"
    )


def _product(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a single number"
