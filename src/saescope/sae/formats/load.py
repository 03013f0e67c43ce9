"""A folder of another library than sparsify → an SAE that fits the hookpoint, or a SaeError."""

import dataclasses
import logging
from typing import Any

from saescope.config import HubSae
from saescope.errors import SaeError, choices
from saescope.model.hookpoints import Hookpoint
from saescope.sae.dense import DenseSae
from saescope.sae.formats import circuit_tracer, dictionary_learning, gemma_scope, mlsae, openai
from saescope.sae.formats.description import Description, Format
from saescope.sae.formats.files import check_weights
from saescope.sae.places import Places, block_output, places_of
from saescope.sae.repository import SaeFolder

log = logging.getLogger(__name__)

FORMATS: dict[str, Format] = {
    "dictionary_learning": dictionary_learning.FORMAT,
    "mlsae": mlsae.FORMAT,
    "Gemma Scope": gemma_scope.FORMAT,
    "Gemma Scope 2": gemma_scope.FORMAT_2,
    "OpenAI": openai.FORMAT,
    "circuit-tracer": circuit_tracer.FORMAT,
    "circuit-tracer CLT": circuit_tracer.CLT_FORMAT,
}
"""By their names in `marks.FILES`."""


def describe(
    folder: SaeFolder, cfg: HubSae, hookpoint: str, *, at: Hookpoint | None = None, model: Any = None
) -> tuple[Description, Places]:
    """Check what is known without the weights: config, hookpoint, and the sizes the job asks for.

    `at` is the hookpoint in `model`, which needs no weights; without them the place is not checked. Raises
    SaeError.
    """
    described = FORMATS[folder.format].describe(folder, hookpoint)
    _check_sizes(cfg, folder, described)
    if at is None:
        return described, Places()
    if described.every_layer:
        _check_layer(folder, described, at)
        return described, Places()
    meta = {"hook_name": described.hook}
    if described.reads is not None:
        meta = {"hook_name": described.reads, "hook_name_out": described.hook}
    transcoder = described.reads is not None
    return described, places_of(meta, str(folder), at=at, model=model, transcoder=transcoder)


def load_format(
    folder: SaeFolder,
    cfg: HubSae,
    *,
    repo: str,
    hookpoint: str,
    d_in: int | None = None,
    at: Hookpoint | None = None,
    model: Any = None,
) -> DenseSae:
    """Load the SAE of a folder, in float32, for a hookpoint of width `d_in`, where that is known.

    A transcoder needs `at` and `model`, which tell what it reads. Raises SaeError.
    """
    described, places = describe(folder, cfg, hookpoint, at=at, model=model)
    if described.reads is not None and at is None:
        raise SaeError(
            f"{folder} is a transcoder, which reads another place of the model: give model=load_model(…)"
        )
    if described.reads is None:
        _check_width(folder, "reads", described.d_in, d_in, hookpoint)
    weights, computation = FORMATS[folder.format].read(folder, hookpoint, described)
    check_weights(weights, folder)
    trained_k = computation.k
    sizes = Description(computation, d_in=weights["W_enc"].shape[1], num_latents=len(weights["W_enc"]))
    for key in ("d_in", "num_latents"):
        if getattr(described, key) not in (None, getattr(sizes, key)):
            raise SaeError(
                f"{folder}: its config says {key} {getattr(described, key)}, its weights have "
                f"{getattr(sizes, key)}; download or save it again"
            )
    _check_sizes(cfg, folder, sizes)
    does = "reads" if described.reads is None else "predicts"
    _check_width(folder, does, weights["W_dec"].shape[1], d_in, hookpoint)
    notices = described.notices
    if described.hook is None and not described.every_layer:
        notices += ("the SAE does not say which hookpoint it was trained on; only its width was checked.",)
    if "threshold" in weights and bool((weights["threshold"] < 0).all()):
        notices += ("its threshold was never set in training: every positive latent is active.",)
    if cfg.k is not None:
        computation = dataclasses.replace(computation, k=cfg.k)
        if trained_k is not None and cfg.k > trained_k:
            log.warning("sae.k=%d is larger than the k=%d this SAE was trained with", cfg.k, trained_k)
    source = {
        "source": "hub",
        "format": folder.format,
        "repo": repo,
        "revision": cfg.revision,
        "commit": folder.place.commit,
        "folder": folder.folder or ".",
        "hook_name": described.reads or described.hook,
        **({"hook_name_out": described.hook} if described.reads else {}),
        "model_name": described.model_name,
        "trained_k": trained_k,
    }
    return DenseSae(weights, computation, source, places=places, notices=notices)


def _check_width(folder: SaeFolder, does: str, width: int | None, d_in: int | None, hookpoint: str) -> None:
    """Raise SaeError where the SAE is not as wide as the hookpoint."""
    if width is not None and d_in is not None and width != d_in:
        raise SaeError(
            f"the SAE in {folder} {does} width {width}, but {hookpoint} has width {d_in}; "
            "it belongs to another model or hookpoint"
        )


def _check_layer(folder: SaeFolder, described: Description, at: Hookpoint) -> None:
    """Raise SaeError unless `at` is the output of a block the SAE was trained on."""
    layer = block_output(at)
    if layer is None:
        raise SaeError(
            f"{folder} reads the outputs of blocks, but the hookpoint chosen is {at.label}; "
            "use hookpoint=resid"
        )
    if described.layers and layer not in described.layers:
        raise SaeError(
            f"{folder} was trained on the outputs of layers {choices(map(str, described.layers))}, but the "
            f"hookpoint chosen is {at.label}; use hookpoint.layer={described.layers[0]}"
        )


def _check_sizes(cfg: HubSae, folder: SaeFolder, described: Description) -> None:
    """Check `sae.k`, `sae.num_latents` and `sae.expansion_factor` against what is known. Raises SaeError."""
    latents, width, computation = described.num_latents, described.d_in, described.computation
    if cfg.k is not None and computation is not None and computation.k is None:
        raise SaeError(
            f"sae.k={cfg.k}: {folder} has activation {computation.activation}, where the number of active "
            "latents varies from token to token and there is no k; leave sae.k out"
        )
    if cfg.num_latents is not None and latents is not None and cfg.num_latents != latents:
        raise SaeError(f"sae.num_latents={cfg.num_latents}, but {folder} has {latents}; leave it out")
    if cfg.expansion_factor is None or latents is None or width is None:
        return
    if cfg.expansion_factor * width != latents:
        raise SaeError(
            f"sae.expansion_factor={cfg.expansion_factor}, but {folder} has {latents} latents, "
            f"that is {latents / width:g} × {width}; leave it out"
        )
