"""circuit-tracer: the transcoders of a model (`layer_N.safetensors`) and its cross-layer transcoders.

A layer of the latter (`W_enc_N.safetensors`, `W_dec_N.safetensors`) is read as a transcoder of that layer,
its decoders to all later layers added up, as sae_lens does: right for its latents, not its reconstruction.
`config.yaml` says what they read and predict.
"""

import yaml

from saescope.errors import SaeError, choices
from saescope.model.hookpoint_names import layer_in
from saescope.sae.dense import Computation
from saescope.sae.formats.description import Description, Format, Weights
from saescope.sae.formats.files import read_safetensors, tensor_of
from saescope.sae.formats.marks import FILES
from saescope.sae.repository import SaeFolder

CONFIG = FILES["circuit-tracer"][0]
CLT_NOTICE = (
    "this is one layer of a cross-layer transcoder, whose decoders to all later layers are added up here: "
    "its latents, SI and Q are its own, but FVU and losses say nothing about it."
)


def describe(folder: SaeFolder, hookpoint: str) -> Description:
    """From `config.yaml`. Raises SaeError."""
    path = folder.fetch(CONFIG)
    try:
        cfg = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SaeError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(cfg, dict) or not cfg.get("feature_input_hook") or not cfg.get("feature_output_hook"):
        raise SaeError(
            f"{path} does not say what its transcoders read and predict (feature_input_hook, "
            "feature_output_hook); add them, such as mlp.hook_in and hook_mlp_out"
        )
    clt = not any(name.startswith("layer_") for name in folder.files)
    block = f"blocks.{_layer(folder, hookpoint, 'W_enc' if clt else 'layer')}"
    return Description(
        None,
        hook=f"{block}.{cfg['feature_output_hook']}",
        reads=f"{block}.{cfg['feature_input_hook']}",
        model_name=cfg.get("model_name"),
        notices=(CLT_NOTICE,) if clt else (),
    )


def read(folder: SaeFolder, hookpoint: str, described: Description) -> tuple[Weights, Computation]:
    """W_enc [F, d_in], W_dec [F, d_out]; JumpReLU where it has thresholds, else ReLU.

    Names: circuit_tracer/transcoder/single_layer_transcoder.py.
    """
    path = folder.fetch(f"layer_{_layer(folder, hookpoint, 'layer')}.safetensors")
    stored = read_safetensors(path)
    threshold = next(
        (name for name in ("activation_function.threshold", "threshold") if name in stored), None
    )
    computation = Computation("jumprelu" if threshold else "relu", centred=False)
    weights = {name: tensor_of(stored, path, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    if threshold:
        weights["threshold"] = tensor_of(stored, path, threshold).flatten()
    if "W_skip" in stored:
        weights["W_skip"] = tensor_of(stored, path, "W_skip")
    known = {"W_enc", "W_dec", "b_enc", "b_dec", "W_skip", threshold}
    if unknown := set(stored) - known:
        raise SaeError(
            f"{path} also has {choices(sorted(unknown))}, whose meaning is not known; not supported"
        )
    return weights, computation


def read_clt(folder: SaeFolder, hookpoint: str, described: Description) -> tuple[Weights, Computation]:
    """W_enc_N [F, d_in], b_enc_N, b_dec_N; W_dec_N [F, layers from N on, d_out]. Raises SaeError."""
    layer = _layer(folder, hookpoint, "W_enc")
    path = folder.fetch(f"W_enc_{layer}.safetensors")
    decoders = folder.fetch(f"W_dec_{layer}.safetensors")
    stored = read_safetensors(path)
    weights = {name: tensor_of(stored, path, f"{name}_{layer}") for name in ("W_enc", "b_enc", "b_dec")}
    decoder_FLD = tensor_of(read_safetensors(decoders), decoders, f"W_dec_{layer}")
    if decoder_FLD.ndim != 3:
        raise SaeError(
            f"{decoders}: W_dec_{layer} has {decoder_FLD.ndim} axes; latents, layers and width are expected"
        )
    weights["W_dec"] = decoder_FLD.sum(1)
    if f"threshold_{layer}" not in stored:
        return weights, Computation("relu", centred=False)
    weights["threshold"] = tensor_of(stored, path, f"threshold_{layer}").flatten()
    return weights, Computation("jumprelu", centred=False)


def _layer(folder: SaeFolder, hookpoint: str, prefix: str) -> int:
    layer = layer_in(hookpoint)
    if f"{prefix}_{layer}.safetensors" in folder.files and layer is not None:
        return layer
    files = [name for name in folder.files if name.startswith(f"{prefix}_")]
    raise SaeError(
        f"{folder} has no {prefix}_{layer}.safetensors for {hookpoint}; it has {choices(files, 12)}"
    )


FORMAT = Format(describe, read)
CLT_FORMAT = Format(describe, read_clt)
