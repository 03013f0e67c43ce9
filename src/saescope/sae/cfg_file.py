"""`cfg.json` of a sparsify folder → sizes, k and activation, or a SaeError with the reason.

sparsify silently drops keys it does not know, even those that change what the SAE computes, and assumes
k = 32 when k is missing. Here each key is read, known to be harmless, refused, or named in a warning.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope.errors import SaeError

MAX_BYTES = 2**20
"""The real ones have 112 to 541 bytes."""

# Keys that change what the SAE computes. Value: what sparsify would leave out.
REFUSED = {
    "signed": "TopK by magnitude, of sparsify before its pull request 25",
    "jumprelu": "JumpReLU, of group-sae",
    "normalize_activations": "scaled activations, by a factor that is not in the file",
    "normalize_io": "normalised input and output, of forks of sparsify",
    "gram_lookup": "subtracted n-gram means, of forks of sparsify",
}

READ = {
    "d_in", "k", "num_latents", "expansion_factor", "activation", "multi_topk", "normalize_decoder",
    "transcode", "skip_connection",
}  # fmt: skip
# Silently dropped: they act on training only, or only together with a refused key.
# naive_decoder: EleutherAI/sae, sae/config.py; the others: ghidav/group-sae, group_sae/config.py.
HARMLESS = {
    "naive_decoder", "init_enc_as_dec_transpose", "init_b_dec_as_zeros", "pre_act_loss", "tanh_l1_loss",
    "jumprelu_init_threshold", "jumprelu_bandwidth", "jumprelu_target_l0", "jumprelu_per_layer_l0",
}  # fmt: skip


@dataclass(frozen=True)
class SaeDescription:
    """Contents of a `cfg.json`."""

    d_in: int
    num_latents: int
    k: int
    activation: str
    """`topk` or `groupmax`."""
    multi_topk: bool
    """Trained with the Multi-TopK loss; matters for fine-tuning."""
    normalize_decoder: bool
    """Trained with decoder rows of unit norm; matters for fine-tuning."""
    transcode: bool
    """Reads the module's input, without b_dec subtracted, and predicts its output."""
    skip_connection: bool
    """Adds W_skip x to the decoded codes."""
    unknown: tuple[str, ...]
    """Keys that are ignored without knowing what they mean."""


def describe(path: Path) -> SaeDescription:
    """Read `cfg.json`.

    `num_latents` 0 or absent means d_in × expansion_factor; where both are given, num_latents counts. Raises
    SaeError for a file that is no SAE config, lacks d_in or k, or needs what sparsify does not compute.
    """
    cfg = read_object(path)
    for key, meaning in REFUSED.items():
        if _on(cfg.get(key)):
            raise SaeError(
                f"{path} says {key}: {json.dumps(cfg[key])} ({meaning}), which sparsify ignores, so codes "
                "would be wrong; not supported, choose another SAE"
            )
    d_in, k = (_whole(cfg, key, path) for key in ("d_in", "k"))
    if cfg.get("num_latents"):
        latents = _whole(cfg, "num_latents", path)
    elif cfg.get("expansion_factor"):
        latents = d_in * _whole(cfg, "expansion_factor", path)
    else:
        raise SaeError(f"{path} has neither num_latents nor expansion_factor; add one of them to the file")
    activation = cfg.get("activation", "topk")
    if activation not in ("topk", "groupmax"):
        raise SaeError(f"{path} says activation: {activation}; only topk and groupmax are supported")
    if k > latents or (activation == "groupmax" and latents % k):
        raise SaeError(
            f"{path} says k: {k} with {latents} latents, which {activation} cannot do; correct the file"
        )
    return SaeDescription(
        d_in=d_in,
        num_latents=latents,
        k=k,
        activation=activation,
        multi_topk=_on(cfg.get("multi_topk")),
        normalize_decoder=_on(cfg.get("normalize_decoder", True)),
        transcode=_on(cfg.get("transcode")),
        skip_connection=_on(cfg.get("skip_connection")),
        unknown=tuple(sorted(set(cfg) - READ - HARMLESS - set(REFUSED))),
    )


def read_object(path: Path) -> dict[str, Any]:
    """A small JSON object. Raises SaeError for anything else."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SaeError(f"{path} has {size / 1e6:.0f} MB; an SAE config has less than 1 MB")
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, SaeError):
            raise
        raise SaeError(f"{path} cannot be read as JSON: {error}; download or save it again") from error
    if not isinstance(cfg, dict):
        raise SaeError(f"{path} is no SAE config: an object with d_in and k is needed")
    return cfg


def scaling(path: Path) -> str | None:
    """A warning when the config of a training run says that the SAE saw scaled activations.

    group-sae multiplies activations by a factor per hookpoint and notes only in the run's config that it did
    (group_sae/trainer.py); its export can fold the factor into the weights, so this is no error.
    """
    try:
        run = read_object(path)
    except SaeError:
        return None  # another kind of file; only the SAE's own cfg.json is required
    if not _on(run.get("normalize_activations")):
        return None
    factor = json.dumps(run["normalize_activations"])
    return (
        f"{path.name} of its training run says normalize_activations: {factor}; "
        "unless the scale is folded into the weights, these codes are wrong: look at the FVU"
    )


def _on(value: Any) -> bool:
    return bool(value) and value != "none"


def _whole(cfg: dict[str, Any], key: str, path: Path) -> int:
    value = cfg.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SaeError(f"{path} has no valid {key}; it cannot be guessed, so add it to the file")
    return value
