"""What W&B is told about a job: its name, its config with what was resolved, keys to group and filter by."""

import re
from collections.abc import Mapping
from typing import Any

_RESOLVED = {
    "model": ("name",),
    "hookpoint": ("name", "layer", "depth"),
    "sae": ("repo", "k", "expansion_factor", "num_latents"),
}
"""Keys of config groups that are filled with what the job resolved, where they are null."""
_FACTS = {
    "model.name": "model_name",
    "model.revision": "model_revision",
    "model.num_parameters": "num_parameters",
    "model.random_init": "random_init",
    "hookpoint.name": "hookpoint_name",
    "hookpoint.layer": "layer",
    "sae.source": "sae_source",
    "sae.freeze": "sae_freeze",
    "sae.repo": "sae_repo",
    "sae.expansion_factor": "expansion_factor",
    "sae.num_latents": "num_latents",
    "sae.k": "k",
}
"""What the job resolved, by the setting it belongs to, and the flat key it gets."""
_SEEDS = {"seed": "seed", "sae.init_seed": "init_seed", "sae.data_seed": "data_seed"}
"""Settings that are facts as they were given."""
_NO_FACTS = ("tracking", "force")
"""Parts of a job's config that say nothing about its result."""
NAME_LENGTH = 100
"""Longest name: an artifact's is at most 128 characters, its kind included."""


def display_name(config: Mapping[str, Any], resolved: Mapping[str, Any], identity: str) -> str:
    """`{model}.{hookpoint}.{source}.x{expansion}.k{k}.s{seeds}.{identity}`, for dashboards.

    `identity` (the first 8 digits are used) tells apart what the words before it do not: every other setting
    that decides the numbers.
    """
    values = facts(config, resolved)
    source, expansion = values.get("sae_source", ""), values.get("expansion_factor")
    freeze = values.get("sae_freeze", "none")
    seeds = [values[key] for key in ("seed", "init_seed", "data_seed") if key in values]
    parts = [
        _model(config, resolved),
        f"@{values['model_revision']}" if "model_revision" in values else "",
        ".random-init" if values.get("random_init") else "",
        f".{values.get('hookpoint_name', '')}",
        "" if source == "hub" else f".{source}",
        "" if freeze == "none" else f"-frozen-{freeze}",
        "" if expansion is None else f".x{expansion:g}",
        f".k{values.get('k', 'var')}.s{'-'.join(map(str, seeds))}",
    ]
    end = f".{identity[:8]}" if identity else ""
    return f"{''.join(parts)[: NAME_LENGTH - len(end)]}{end}"


def facts(config: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Flat config keys of a job, from its config and provenance; what does not exist is left out."""
    values = {flat: _at(resolved, setting) for setting, flat in _FACTS.items()}
    values["depth"] = _depth(resolved.get("model") or {}, resolved.get("hookpoint") or {})
    return without_null(values | {flat: _at(config, setting) for setting, flat in _SEEDS.items()})


def key_of(setting: str) -> str:
    """The config key that holds a setting, such as `sae.k`, in every run: flat, or else nested like itself.

    `hookpoint.depth` is what was asked for, as in `sweep.csv`; the fact `depth` is that of the layer.
    """
    return (_FACTS | _SEEDS).get(setting, setting)


def config_of(config: Mapping[str, Any], resolved: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The config as W&B gets it: what the job was asked for, filled with what was resolved; no null."""
    values = {key: value for key, value in config.items() if key not in _NO_FACTS}
    groups = resolved or {}
    for group, keys in _RESOLVED.items():
        of_group = dict(groups.get(group) or {})
        if group == "hookpoint" and of_group:
            of_group["depth"] = _depth(groups.get("model") or {}, of_group)
        if isinstance(values.get(group), Mapping):
            given = values[group]
            values[group] = {**given, **{key: of_group.get(key) for key in keys if given.get(key) is None}}
    return without_null(values)


def tags(config: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[str]:
    """Model, hookpoint and source of the SAE."""
    values = facts(config, resolved)
    place = [str(values[key]) for key in ("hookpoint_name", "sae_source") if key in values]
    return [_model(config, resolved), *place]


def _at(values: Mapping[str, Any], setting: str) -> Any:
    group, _, key = setting.rpartition(".")
    return ((values.get(group) or {}) if group else values).get(key)


def _depth(model: Mapping[str, Any], hookpoint: Mapping[str, Any]) -> float | None:
    layer, layers = hookpoint.get("layer"), model.get("num_layers")
    return None if layer is None or not layers else layer / layers


def _model(config: Mapping[str, Any], resolved: Mapping[str, Any]) -> str:
    """One word for the model; the embedded one is called so in the config only."""
    name = (config.get("model") or {}).get("name")
    return "embedded" if name == "embedded" else _short(str(facts(config, resolved).get("model_name", "")))


def _short(name: str) -> str:
    """`pythia-70m` of a Hub id; the last two folders of a path, whose last alone may be `hf`."""
    parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".", "..")]
    is_path = len(parts) > 2 or name.startswith((".", "/", "~"))
    return "-".join(parts[-2:] if is_path else parts[-1:]) or "model"


def without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values that are not null."""
    return {
        key: without_null(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
