"""A folder in sparsify layout (`cfg.json`, `sae.safetensors`) → an SAE, or a SaeError with the reason."""

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from saescope.config import HubSae
from saescope.errors import SaeError, choices
from saescope.sae.cfg_file import MAX_BYTES, SaeDescription, describe, scaling
from saescope.sae.coder import CoderSae, SparseCoder, SparseCoderConfig
from saescope.sae.formats.marks import SPARSIFY
from saescope.sae.layout import contradicts, hookpoint_part
from saescope.sae.repository import CFG, WEIGHTS, SaeFolder, locate

log = logging.getLogger(__name__)


def find_sparsify(
    repo: str, cfg: HubSae, hookpoint: str, folder: SaeFolder | None = None
) -> tuple[SaeFolder, SaeDescription]:
    """Find the SAE of `hookpoint` in a folder or Hub repository and read its `cfg.json`; no weights yet.

    `folder`: where it is, if that is known already. Raises SaeError when it is missing, of another
    mathematics, or contradicts the config.
    """
    folder = folder or locate(repo, cfg.revision, hookpoint)
    if folder.format != SPARSIFY:
        raise SaeError(f"{folder} is in {folder.format} format; an SAE in sparsify layout is needed here")
    if folder.size(CFG) > MAX_BYTES:
        raise SaeError(
            f"{CFG} in {folder} has {folder.size(CFG) / 1e6:.0f} MB; an SAE config has less than 1 MB"
        )
    description = describe(folder.fetch(CFG))
    d_in, latents = description.d_in, description.num_latents
    if cfg.num_latents is not None and cfg.num_latents != latents:
        raise SaeError(
            f"sae.num_latents={cfg.num_latents}, but {repo} has {latents} at {hookpoint}; leave it out"
        )
    if cfg.expansion_factor is not None and cfg.expansion_factor * d_in != latents:
        raise SaeError(
            f"sae.expansion_factor={cfg.expansion_factor}, but {repo} has {latents} latents at {hookpoint}, "
            f"that is {latents / d_in:g} × {d_in}; leave it out, or choose another repository"
        )
    if cfg.k not in (None, description.k) and description.activation == "groupmax":
        raise SaeError(
            f"sae.k={cfg.k}, but {repo} is a GroupMax SAE of {description.k} groups: another k is another "
            "SAE; leave it out"
        )
    return folder, description


def load_sparsify(
    repo: str,
    cfg: HubSae,
    *,
    d_in: int,
    hookpoint: str,
    dtype: torch.dtype,
    folder: SaeFolder | None = None,
) -> CoderSae:
    """Load the SAE of `hookpoint`, whose width is `d_in`, from a folder or Hub repository.

    Weights of any float type are read exactly into float32; `dtype` is that of the encoder product. Raises
    SaeError when it is missing, unreadable, of another mathematics, or contradicts the config.
    """
    folder, description = find_sparsify(repo, cfg, hookpoint, folder)
    if description.d_in != d_in:
        raise SaeError(
            f"the SAE in {folder} reads width {description.d_in}, but {hookpoint} has width {d_in}; "
            "it belongs to another model or hookpoint"
        )
    weights, stored = read_weights(folder.fetch(WEIGHTS), description)
    k = description.k if cfg.k is None else cfg.k
    if k > description.k:
        log.warning(
            "sae.k=%d is larger than the k=%d this SAE was trained with: outside its training",
            k,
            description.k,
        )
    if description.unknown:
        log.warning("%s in %s: unknown keys are ignored: %s", CFG, folder, choices(description.unknown))
    coder_cfg = SparseCoderConfig(
        activation=description.activation,
        expansion_factor=max(1, description.num_latents // d_in),
        normalize_decoder=description.normalize_decoder,
        num_latents=description.num_latents,
        k=k,
        multi_topk=description.multi_topk,
        transcode=description.transcode,
        skip_connection=description.skip_connection,
    )
    coder = SparseCoder(d_in, coder_cfg, device="meta")
    coder.load_state_dict(weights, assign=True)
    source = {
        "source": "hub",
        "format": folder.format,
        "repo": repo,
        "revision": cfg.revision,
        "commit": folder.place.commit,
        "folder": folder.folder or ".",
        "trained_k": description.k,
        "stored_dtype": stored,
    }
    sae = CoderSae(coder, dtype, source)
    sae.warnings = tuple(_origin_warnings(folder, hookpoint))
    return sae


def read_weights(path: Path, description: SaeDescription) -> tuple[dict[str, Tensor], str]:
    """Weights in float32, and their type in the file; names and shapes are checked before values are read.

    Raises SaeError when the file is damaged, does not fit `cfg.json`, or has NaN or infinite weights.
    """
    latents, d_in = description.num_latents, description.d_in
    expected = {
        "encoder.weight": [latents, d_in],
        "encoder.bias": [latents],
        "W_dec": [latents, d_in],
        "b_dec": [d_in],
        **({"W_skip": [d_in, d_in]} if description.skip_connection else {}),
    }
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if shapes != expected:
            raise SaeError(
                f"{path} does not fit its {CFG}: {_difference(shapes, expected)}; choose another SAE"
            )
        stored = load_file(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SaeError(f"{path} cannot be loaded: {first}; download or save it again") from error
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in stored.values()})
    if not all(tensor.is_floating_point() for tensor in stored.values()):
        raise SaeError(f"{path} has weights of type {choices(types)}; floating-point weights are needed")
    # copied, so that the SAE does not change when the file does
    weights = {name: tensor.to(torch.float32, copy=True) for name, tensor in stored.items()}
    bad = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise SaeError(f"{path} has NaN or infinite weights in {', '.join(bad)}; it cannot be used")
    return weights, "/".join(types)


def _difference(shapes: dict[str, list[int]], expected: dict[str, list[int]]) -> str:
    for name, shape in expected.items():
        if name not in shapes:
            return f"there is no {name} (it has {choices(sorted(shapes), 8) or 'nothing'})"
        if shapes[name] != shape:
            return f"{name} is {_product(shapes[name])}, {_product(shape)} expected"
    return f"there is also {choices(sorted(set(shapes) - set(expected)), 8)}"


def _product(shape: list[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


def _origin_warnings(folder: SaeFolder, hookpoint: str) -> list[str]:
    """Warnings for readers of the results about the origin of this SAE, in sentences."""
    warnings = []
    named = folder.folder or folder.place.path
    if contradicts(named, hookpoint):
        warnings.append(f"the SAE of {hookpoint_part(named)} is read at {hookpoint}.")
    configs = [name for name in folder.run_configs() if (folder.place.files[name] or 0) <= MAX_BYTES]
    warnings += [warning + "." for name in configs if (warning := scaling(folder.place.fetch(name)))]
    return warnings
