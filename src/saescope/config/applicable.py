"""Which values of a configuration apply to the job: the only ones that are written, logged and compared."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from saescope.config.causal import CausalConfig
from saescope.config.convert import members
from saescope.config.dynamic_k import TARGETS, DynamicKConfig
from saescope.config.hookpoint import KINDS
from saescope.config.recipe import ADDED_LATER
from saescope.config.sae import SaeConfig

_, _SOURCES = members(SaeConfig)
_, _METHODS = members(CausalConfig)

READS_CORPUS = ("train", "pca", "directions")
"""SAEs made from training text: those to which the group `corpus` applies."""

NAMED_BY = {
    "sae": "source", "hookpoint": "kind", "probes": "source", "corpus": "source", "dynamic_k": "target",
    "causal": "method",
}  # fmt: skip
"""Groups with keys that only some of their options take, and the key whose value says which option it is."""

_BY_PLACE = tuple(kind for kind in KINDS if kind != "custom")
_BOTH = ("k", "selectors", "tokens", "calibration_tokens", "structure", "bootstraps")
_TAKEN_BY: dict[str, tuple[str, ...]] = {
    "hookpoint.name": ("custom",),
    "hookpoint.layer": _BY_PLACE,
    "hookpoint.depth": _BY_PLACE,
    "probes.path": ("folder", "languages", "manifest"),
    "probes.text_key": ("folder", "languages"),
    "probes.task_key": ("folder",),
    "probes.split": ("folder", "languages"),
    "probes.languages": ("languages",),
    "probes.sentences": ("languages",),
    "probes.group_by": ("manifest",),
    "corpus.name": ("hf",),
    "corpus.config": ("hf",),
    "corpus.revision": ("hf",),
    "corpus.path": ("local", "memmap"),
    "corpus.dtype": ("memmap",),
}
_TAKEN_BY |= {
    f"dynamic_k.{field.name}": TARGETS[1:] if field.name in _BOTH else ("mlp",)
    for field in dataclasses.fields(DynamicKConfig)
    if field.name != "target"
}
for _group, _options in (("sae", _SOURCES), ("causal", _METHODS)):
    for _option, _kind in _options.items():
        for _field in dataclasses.fields(_kind):
            _key = f"{_group}.{_field.name}"
            _TAKEN_BY[_key] = (*_TAKEN_BY.get(_key, ()), _option)


def takes(group: str, values: Mapping[str, Any], key: str) -> bool:
    """Whether the option of `group` that has `values` takes `key`; true for what is not known here."""
    options = _TAKEN_BY.get(f"{group}.{key}")
    option = values.get(NAMED_BY.get(group, ""))
    return options is None or option is None or option in options


def without_keys_of_others(config: Mapping[str, Any], keys: Iterable[str]) -> tuple[dict[str, Any], set[str]]:
    """`config` without those of the dotted `keys` that the chosen option of their group does not take.

    Returns the set of the dropped keys too. They are the keys of a sweep over the options of a group: each
    applies to the jobs whose option has it.
    """
    values = {key: dict(group) if isinstance(group, Mapping) else group for key, group in config.items()}
    dropped = set()
    for dotted in keys:
        group, _, rest = dotted.partition(".")
        key = rest.partition(".")[0]
        chosen = values.get(group)
        if isinstance(chosen, dict) and key and not takes(group, chosen, key):
            chosen.pop(key, None)
            dropped.add(dotted)
    return values, dropped


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
            # older versions had no such keys and did always this
            for key, value in {"normalize_decoder": True, **ADDED_LATER}.items():
                sae.setdefault(key, value)
        sets_width = source in ("train", "random", "directions") and "expansion_factor" in sae
        if sets_width and (sae.get("finetune") or sae.get("num_latents") is not None):
            sae["expansion_factor"] = None
        values["sae"] = sae
    if source is not None and source not in READS_CORPUS:
        values.pop("corpus", None)
    if source is not None and (source != "hub" or sae.get("repo")):
        model.pop("sae_repo", None)
    if hookpoint.get("layer") is not None and "depth" in hookpoint:
        hookpoint["depth"] = None
    if dynamic_k.get("target") == "none":
        values["dynamic_k"] = {"target": "none"}
    return values
