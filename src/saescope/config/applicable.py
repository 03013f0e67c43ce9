"""Which values of a configuration apply to the job: the only ones that are written, logged and compared."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from saescope.config.convert import members
from saescope.config.sae import SaeConfig

_, _SOURCES = members(SaeConfig)


def applicable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values `config` without those that other values in it make meaningless.

    Works on the `config.yaml` of older versions too, where every SAE had the keys of all sources, and on
    Hydra's record of a failed job; a group that is missing or damaged is not changed.
    """
    values = {key: dict(group) if isinstance(group, Mapping) else group for key, group in config.items()}
    sae, hookpoint, model, dynamic_k = (
        group if isinstance(group := values.get(name), dict) else {}
        for name in ("sae", "hookpoint", "model", "dynamic_k")
    )
    source = sae.get("source")
    if kind := _SOURCES.get(str(source)):
        own = {field.name for field in dataclasses.fields(kind)}
        elsewhere = {field.name for other in _SOURCES.values() for field in dataclasses.fields(other)} - own
        sae = {"source": source} | {key: value for key, value in sae.items() if key not in elsewhere}
        if source == "train":
            sae.setdefault("normalize_decoder", True)  # older versions had no key and always did it
        sets_width = source in ("train", "random") and "expansion_factor" in sae
        if sets_width and (sae.get("finetune") or sae.get("num_latents") is not None):
            sae["expansion_factor"] = None
        values["sae"] = sae
    if source is not None and source != "train":
        values.pop("corpus", None)
    if source is not None and (source != "hub" or sae.get("repo")):
        model.pop("sae_repo", None)
    if hookpoint.get("layer") is not None and "depth" in hookpoint:
        hookpoint["depth"] = None
    if dynamic_k.get("target") == "none":
        values["dynamic_k"] = {"target": "none"}
    return values
