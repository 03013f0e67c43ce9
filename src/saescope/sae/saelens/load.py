"""`sae=saelens`: find the SAE, check its config against the hookpoint, load it, or say why not."""

import dataclasses
import importlib.metadata
import logging
import math
from dataclasses import dataclass
from typing import Any

import torch

from saescope import compat
from saescope.config import SaeLensSae
from saescope.errors import SaeError, choices
from saescope.model.hookpoints import Hookpoint
from saescope.sae.places import Places, places_of
from saescope.sae.saelens.folder import Folder, error_summary, find_folder
from saescope.sae.saelens.module import LensSae
from saescope.sae.saelens.notices import is_centred, notices_of
from saescope.sae.saelens.release import Release, find_release

log = logging.getLogger(__name__)

# Those that code each token by itself and reconstruct the activation they read.
SAES = ("standard", "gated", "jumprelu", "topk", "abstopk", "matching_pursuit")
# Those that code each token by itself and predict another activation.
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
WITH_K = ("topk", "abstopk")


@dataclass(frozen=True)
class _Checked:
    """What is known of an SAE before its weights are read."""

    source: Release | Folder
    name: str
    """For messages."""
    stated: dict[str, Any]
    """Its config as it stands in the file."""
    described: dict[str, Any]
    """Its config in sae_lens' present form."""
    places: Places

    @property
    def meta(self) -> dict[str, Any]:
        """What the config says about training."""
        return self.described.get("metadata") or {}

    @property
    def transcoder(self) -> bool:
        """Whether it predicts another activation."""
        return self.described["architecture"] in TRANSCODERS


def check_saelens(cfg: SaeLensSae, *, at: Hookpoint, model: Any, d_in: int | None = None) -> _Checked:
    """Find the SAE and check its config against the hookpoint `at`, of width `d_in` where that is known.

    `model` needs no weights; those of the SAE are not fetched. Raises SaeError when sae_lens is not
    installed, the SAE cannot be had, is of a kind that is not supported, or belongs to another hookpoint.
    """
    try:
        import sae_lens  # noqa: F401 - an optional extra, and nine seconds of import
    except ModuleNotFoundError as error:
        raise SaeError(
            f"sae=saelens needs the package {error.name}; install it with pip install 'saescope[saelens]', "
            "in a checkout with pip install -c constraints.txt -e '.[saelens]'"
        ) from error
    source = _find(cfg)
    sae_name = str(source.path) if not isinstance(source, Release) else f"{source.name} {source.id}"
    stated = source.config()
    described = _described(stated, sae_name)
    transcoder = described["architecture"] in TRANSCODERS
    _check_width(described, sae_name, d_in=d_in, at=at, transcoder=transcoder)
    meta: dict[str, Any] = described.get("metadata") or {}
    places = places_of(meta, sae_name, at=at, model=model, transcoder=transcoder)
    _check_sizes(cfg, described, sae_name)
    normalization = described.get("normalize_activations") or "none"
    if isinstance(source, Release) and normalization == "covariance_whitening":
        raise SaeError(
            f"{sae_name} reads whitened activations, and sae_lens has no whitening for it; not supported"
        )
    if transcoder and (normalization != "none" or is_centred(meta, model)):
        how = (
            "center_writing_weights" if normalization == "none" else f"normalize_activations {normalization}"
        )
        raise SaeError(
            f"{sae_name} is a transcoder trained with {how}, so that what it predicts is not the activation "
            "here; not supported"
        )
    return _Checked(source, sae_name, stated, described, places)


def _check_types(cfg: Any, sae_name: str) -> None:
    """sae_lens takes any value for a switch or a number and computes with it. Raises SaeError."""
    kinds: dict[str, tuple[type, ...]] = {
        "bool": (bool,),
        "int": (int,),
        "float": (int, float),
        "str": (str,),
    }
    for entry in dataclasses.fields(cfg):
        type_name = getattr(entry.type, "__name__", str(entry.type))
        name, _, none = type_name.partition(" | ")
        value = getattr(cfg, entry.name)
        if name not in kinds or (none == "None" and value is None) or none not in ("", "None"):
            continue
        wrong = not isinstance(value, kinds[name]) or (isinstance(value, bool) and name != "bool")
        if wrong or (isinstance(value, float) and not math.isfinite(value)):
            raise SaeError(
                f"the config of {sae_name} says {entry.name}: {value!r:.80}; it must be {type_name}"
            )


def load_saelens(cfg: SaeLensSae, *, d_in: int, at: Hookpoint, model: Any, model_name: str) -> LensSae:
    """Load the SAE `sae.release` and `sae.id` name, in float32, for the hookpoint `at` of width `d_in`.

    Its config is read and checked before its weights are fetched. Raises SaeError as `check_saelens` does,
    and for weights that cannot be used.
    """
    checked = check_saelens(cfg, at=at, model=model, d_in=d_in)
    source, meta, stated = checked.source, checked.meta, checked.stated
    normalization = checked.described.get("normalize_activations") or "none"
    inner = source.load()
    if source.converter == "gemma_2" and meta.get("hook_name") == "hook_embed":
        # trained before Gemma scales its embeddings: sae_lens scales W_enc and W_dec, and leaves b_dec out
        inner.b_dec.data *= inner.cfg.d_in**0.5
    _check_types(inner.cfg, checked.name)
    bad = [name for name, tensor in inner.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise SaeError(f"{checked.name} has NaN or infinite weights in {', '.join(bad)}; it cannot be used")
    trained_k = getattr(inner.cfg, "k", None)
    if cfg.k is not None and trained_k is not None:
        inner.cfg.k = cfg.k
        inner.activation_fn = inner.get_activation_fn()
        if cfg.k > trained_k:
            log.warning("sae.k=%d is larger than the k=%d this SAE was trained with", cfg.k, trained_k)
    own_format = source.converter == "sae_lens"
    bos = stated.get("prepend_bos", (stated.get("metadata") or {}).get("prepend_bos"))
    return LensSae(
        inner,
        {
            "source": "saelens",
            "release": cfg.release,
            "id": cfg.id,
            "repo": source.repo if isinstance(source, Release) else str(source.path),
            "format": source.converter,
            "model_name": meta.get("model_name"),
            "hook_name": meta.get("hook_name"),
            **({"hook_name_out": meta["hook_name_out"]} if checked.transcoder else {}),
            "normalize_activations": normalization,
            "prepend_bos": bos,
            "trained_k": trained_k,
            "versions": {name: importlib.metadata.version(name) for name in ("sae-lens", "transformer-lens")},
        },
        places=checked.places,
        centred=is_centred(meta, model),
        # sae_lens states true for every dictionary_learning SAE, whatever was used
        prepend_bos=bos if source.converter != "dictionary_learning_1" else None,
        notices=notices_of(meta, source, normalization, own_format, model, model_name),
    )


def _find(cfg: SaeLensSae) -> Release | Folder:
    path = find_folder(cfg.release, cfg.id)
    return find_release(cfg.release, cfg.id) if path is None else Folder(path)


def _described(stated: dict[str, Any], sae_name: str) -> dict[str, Any]:
    """The config in sae_lens' present form. Raises SaeError where that would change what the SAE computes."""
    _check_architecture(str(stated.get("architecture", "standard")), sae_name)
    # configs before version 6; sae_lens reads every activation it no longer has as ReLU
    activation = stated.get("activation_fn", stated.get("activation_fn_str")) or "relu"
    k = (stated.get("activation_fn_kwargs") or {}).get("k")
    if activation not in ("relu", "topk") or (activation == "topk" and k is None and "k" not in stated):
        raise SaeError(
            f"{sae_name} has activation_fn {activation} (activation_fn_kwargs "
            f"{stated.get('activation_fn_kwargs')}), which sae_lens would read as ReLU; not supported"
        )
    try:
        described = compat.sae_lens_defaults(stated)
    except Exception as error:  # whatever a file may hold
        raise SaeError(
            f"the config of {sae_name} is not one sae_lens understands: {error_summary(error)}"
        ) from error
    for key in ("architecture", "d_in", "d_sae"):
        if not described.get(key):
            raise SaeError(f"the config of {sae_name} has no {key}; it cannot be guessed")
    _check_architecture(described["architecture"], sae_name)
    if described["architecture"] in TRANSCODERS and not described.get("d_out"):
        raise SaeError(f"the config of {sae_name}, a transcoder, has no d_out; it cannot be guessed")
    return described


def _check_architecture(architecture: str, sae_name: str) -> None:
    if architecture in SAES + TRANSCODERS:
        return
    if architecture == "temporal":
        why = "it codes a token from those before it"
    elif compat.sae_lens_trains(architecture):
        why = "that is a training state; save it with save_inference_model, which makes a jumprelu SAE of it"
    else:
        why = "no such architecture is known"
    raise SaeError(
        f"{sae_name} has architecture {architecture}, which is not supported: {why}; "
        f"supported: {choices(SAES + TRANSCODERS)}"
    )


def _check_width(
    described: dict[str, Any], sae_name: str, *, d_in: int | None, at: Hookpoint, transcoder: bool
) -> None:
    """Check that what the SAE reconstructs is as wide as the hookpoint. Raises SaeError."""
    width = described["d_out" if transcoder else "d_in"]
    hook = (described.get("metadata") or {}).get("hook_name_out" if transcoder else "hook_name")
    if d_in is not None and width != d_in:
        does = "predicts" if transcoder else "reads"
        raise SaeError(
            f"{sae_name} {does} width {width}{f' at {hook}' if hook else ''}, but "
            f"{at.label} has width {d_in}; it belongs to another model or hookpoint"
        )


def _check_sizes(cfg: SaeLensSae, described: dict[str, Any], sae_name: str) -> None:
    """Check `sae.k`, `sae.num_latents` and `sae.expansion_factor` against the SAE's own. Raises SaeError."""
    architecture, latents, width = described["architecture"], described["d_sae"], described["d_in"]
    if cfg.k is not None and architecture not in WITH_K:
        raise SaeError(
            f"sae.k={cfg.k}: {sae_name} has architecture {architecture}, where the number of active latents "
            "varies from token to token and there is no k; leave sae.k out"
        )
    if cfg.num_latents is not None and cfg.num_latents != latents:
        raise SaeError(f"sae.num_latents={cfg.num_latents}, but {sae_name} has {latents}; leave it out")
    if cfg.expansion_factor is not None and cfg.expansion_factor * width != latents:
        raise SaeError(
            f"sae.expansion_factor={cfg.expansion_factor}, but {sae_name} has {latents} latents, "
            f"that is {latents / width:g} × {width}; leave it out"
        )
