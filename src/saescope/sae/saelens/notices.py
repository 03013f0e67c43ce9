"""What an SAE's own config says, or leaves open, about the activations it was trained on.

SAELens trains on TransformerLens models (`from_pretrained_no_processing` with the config's
`model_from_pretrained_kwargs`). Of those settings `center_writing_weights` changes what is read at residual
and sublayer outputs, and it is applied to LayerNorm models only.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

from saescope.model.blocks import text_config
from saescope.sae.formats.circuit_tracer import CLT_NOTICE
from saescope.sae.saelens.release import Release

# Settings that leave the activations at residual and sublayer outputs as they are.
HARMLESS = {
    "center_writing_weights", "fold_ln", "center_unembed", "fold_value_biases",
    "refactor_factored_attn_matrices", "dtype", "torch_dtype", "device", "device_map", "n_devices",
    "low_cpu_mem_usage", "move_to_device", "attn_implementation",
}  # fmt: skip


def is_centred(meta: dict[str, Any], model: Any) -> bool:
    """Whether it was trained on activations less their mean over the width."""
    kwargs = meta.get("model_from_pretrained_kwargs") or {}
    return bool(kwargs.get("center_writing_weights")) and not _is_rms(model)


def notices_of(
    meta: dict[str, Any], source: Any, normalization: str, own_format: bool, model: Any, model_name: str
) -> tuple[str, ...]:
    """One sentence for each thing that is known to differ, or cannot be known."""
    notices = []
    kwargs = meta.get("model_from_pretrained_kwargs")
    if meta.get("hook_name") is None:
        notices.append("the SAE does not say which hookpoint it was trained on; only its width was checked.")
    if _is_clt_layer(source):
        notices.append(CLT_NOTICE)
    if is_centred(meta, model):
        notices.append(
            "the SAE was trained with TransformerLens' center_writing_weights: the mean over the width is "
            "taken out of every activation before it and put back after."
        )
    elif kwargs is None and own_format and not _is_rms(model) and _on_lens(meta):
        notices.append(
            "the SAE does not say how TransformerLens processed the model it was trained on; had it centred "
            "the weights (center_writing_weights), the activations here would differ by their mean over the "
            "width."
        )
    others = {k: v for k, v in (kwargs or {}).items() if k not in HARMLESS and v is not None}
    if others:
        settings = ", ".join(f"{key}={value}" for key, value in others.items())
        notices.append(f"the SAE was trained on a model loaded with {settings}; that is not repeated here.")
    if isinstance(source, Release) and normalization == "expected_average_only_in" and not source.norm_factor:
        notices.append(
            "the SAE was trained on scaled activations (expected_average_only_in), and sae_lens knows no "
            "factor for it: they are read unscaled, as sae_lens does."
        )
    if any(end is not None for end in meta.get("seqpos_slice") or ()):
        notices.append(f"the SAE was trained on positions {meta['seqpos_slice']} of its contexts only.")
    trained_on, model_here = meta.get("model_name"), _short(model_name)
    if trained_on and model_here is not None and _official(str(trained_on)) != model_here:
        notices.append(f"the SAE was trained on {trained_on}, the model here is {model_name}.")
    return tuple(notices)


def _is_clt_layer(source: Any) -> bool:
    return isinstance(source, Release) and (
        "clt" in source.converter
        or re.search(r"(^|[/_-])clt([/_-]|$)", f"{source.name}/{source.id}") is not None
    )


def _is_rms(model: Any) -> bool:
    return getattr(text_config(model.config), "rms_norm_eps", None) is not None


def _on_lens(meta: dict[str, Any]) -> bool:
    return meta.get("model_class_name") in (None, "HookedTransformer")


def _official(name: str) -> str:
    """The Hub's name behind TransformerLens' (`gpt2-small` is `gpt2`), without its owner."""
    from transformer_lens.loading_from_pretrained import get_official_model_name

    with contextlib.suppress(ValueError):  # unknown there: compared as it is
        name = get_official_model_name(name)
    return name.rpartition("/")[2].lower()


def _short(model_name: str) -> str | None:
    """Hub name without its owner; None for a folder or the embedded model, whose names say nothing."""
    if model_name == "embedded" or Path(model_name).expanduser().is_dir():
        return None
    return model_name.rpartition("/")[2].lower()
