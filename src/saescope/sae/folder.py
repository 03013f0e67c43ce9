"""A folder in sparsify layout (`cfg.json`, `sae.safetensors`) → an SAE, or a reason why not.

Facts behind the checks: sparsify drops unknown keys silently, also those that change the mathematics
(`signed`, `jumprelu`), and assumes k = 32 when k is missing.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from saescope.config import SaeConfig
from saescope.errors import SaeError
from saescope.sae.coder import (
    CoderSae,
    SparseCoder,
)  # SPARSIFY_DISABLE_TRITON is set there, before its import
from saescope.sae.repository import CFG, WEIGHTS, locate

log = logging.getLogger(__name__)

# Keys that change what the SAE computes and that sparsify would drop without a word.
REFUSED = {"signed": "signed TopK", "jumprelu": "JumpReLU"}


def load_sparsify(repo: str, cfg: SaeConfig, *, d_in: int, hookpoint: str, dtype: torch.dtype) -> CoderSae:
    """Load the SAE of `hookpoint` from a folder or Hub repository.

    Raises SaeError when it is missing, unreadable, of another mathematics, or contradicts the config.
    """
    folder = locate(repo, cfg.revision, hookpoint)
    described = read_cfg(folder / CFG)
    latents = described["num_latents"]
    if described["d_in"] != d_in:
        raise SaeError(
            f"the SAE in {folder.name} of {repo} reads width {described['d_in']}, but {hookpoint} has width "
            f"{d_in}; it belongs to another model or hookpoint"
        )
    if cfg.num_latents is not None and cfg.num_latents != latents:
        raise SaeError(
            f"sae.num_latents={cfg.num_latents}, but {repo} has {latents} at {hookpoint}; leave it out"
        )
    if cfg.expansion_factor is not None and cfg.expansion_factor * d_in != latents:
        raise SaeError(
            f"sae.expansion_factor={cfg.expansion_factor}, but {repo} has {latents} latents at {hookpoint}, "
            f"that is {latents / d_in:g} × {d_in}; leave it out, or choose another repository"
        )
    try:
        coder = SparseCoder.load_from_disk(folder)
    except (OSError, RuntimeError, SafetensorError, ValueError, StopIteration) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SaeError(f"{folder / WEIGHTS} cannot be loaded: {first}; download or save it again") from error
    bad = [name for name, tensor in coder.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise SaeError(
            f"{folder / WEIGHTS} has NaN or infinite weights in {', '.join(bad)}; it cannot be used"
        )
    trained_k = coder.cfg.k
    if cfg.k is not None:
        coder.cfg.k = cfg.k
        if cfg.k > trained_k:
            log.warning(
                "sae.k=%d is larger than the k=%d this SAE was trained with: outside its training",
                cfg.k,
                trained_k,
            )
    source = {
        "source": "hub",
        "repo": repo,
        "revision": cfg.revision,
        "folder": folder.name,
        "trained_k": trained_k,
    }
    return CoderSae(coder, dtype, source)


def read_cfg(path: Path) -> dict[str, Any]:
    """`cfg.json` with `d_in`, `k` and `num_latents` made sure of.

    `num_latents` 0 or absent means d_in × expansion_factor. Raises SaeError for a file that is no SAE
    config, lacks d_in or k, or asks for mathematics sparsify does not have.
    """
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SaeError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(cfg, dict):
        raise SaeError(f"{path} is no SAE config: an object with d_in and k is needed")
    for key, meaning in REFUSED.items():
        if cfg.get(key):
            raise SaeError(
                f"{path} says {key}: {json.dumps(cfg[key])} ({meaning}), which sparsify would ignore; "
                "not supported"
            )
    for key in ("transcode", "skip_connection"):
        if cfg.get(key):
            raise SaeError(
                f"{path} says {key}: true; transcoders read a module's input and are not supported here"
            )
    for key in ("d_in", "k"):
        if not isinstance(cfg.get(key), int) or cfg[key] < 1:
            raise SaeError(f"{path} has no valid {key}; it cannot be guessed, so add it to the file")
    if not cfg.get("num_latents"):
        factor = cfg.get("expansion_factor")
        if not isinstance(factor, int) or factor < 1:
            raise SaeError(
                f"{path} has neither num_latents nor expansion_factor; add one of them to the file"
            )
        cfg["num_latents"] = cfg["d_in"] * factor
    return cfg
