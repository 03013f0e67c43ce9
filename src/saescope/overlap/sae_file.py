"""The weights of a finished job's SAE on this machine, and its rows as numpy arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ASSETS = Path(__file__).parents[1] / "assets" / "saes"
WEIGHTS = "sae.safetensors"
ENCODER, DECODER = "encoder.weight", "W_dec"


def find_weights(job: Path, sae: Mapping[str, Any]) -> Path | str:
    """The weights by the `sae` part of the job's provenance, or why they are not at hand. No download."""
    source, folder = sae.get("source"), str(sae.get("folder") or ".")
    layout = sae.get("format", "sparsify")
    if source in ("train", "pca", "directions"):
        path = job / folder / WEIGHTS
    elif source == "hub" and layout != "sparsify":
        return f"SAEs in {layout} format are not compared"
    elif source == "hub":
        repo = str(sae.get("repo"))
        local = ASSETS if repo == "embedded" else Path(repo).expanduser()
        path = local / folder / WEIGHTS if local.is_dir() else _cached(repo, folder, sae)
    elif source == "saelens":
        return "SAEs of sae_lens are not compared"
    else:
        return f"sae={source} is a control without stored weights"
    return path if path.is_file() else f"its weights are not on this machine ({path})"


def _cached(repo: str, folder: str, sae: Mapping[str, Any]) -> Path:
    """Where the Hub client's cache has the file, or a path that does not exist."""
    from huggingface_hub import try_to_load_from_cache

    name = "/".join(repo.split("/")[:2])
    file = WEIGHTS if folder == "." else f"{folder}/{WEIGHTS}"
    cached = try_to_load_from_cache(name, file, revision=sae.get("commit") or sae.get("revision"))
    return Path(cached) if isinstance(cached, str) else Path(name) / file


def read_rows(path: Path, name: str) -> npt.NDArray[np.floating[Any]]:
    """Tensor `name`, [latents, d]. Raises ValueError when it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            stored = file.get_slice(name)
            if stored.get_dtype() != "BF16":
                return np.asarray(file.get_tensor(name))
        return _bfloat16(path, name)
    except (OSError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _bfloat16(path: Path, name: str) -> npt.NDArray[np.float32]:
    """numpy has no bfloat16: its bits are the upper half of a float32's."""
    from safetensors import deserialize

    tensor = dict(deserialize(path.read_bytes()))[name]  # type: ignore[no-untyped-call]
    bits = np.frombuffer(tensor["data"], dtype="<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(tensor["shape"])
