"""What W&B is told about a job: its name, its config with what was resolved, keys to group and filter by."""

import re
from collections.abc import Mapping
from typing import Any

_RESOLVED = {
    "model": ("name",),
    "hookpoint": ("name", "layer", "depth"),
    "sae": ("repo", "k", "expansion_factor", "num_latents"),
}
"""Keys of config groups that are filled with what the job resolved them to."""
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
        _short(str(values.get("model_name", ""))),
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
    model, hookpoint, sae = (resolved.get(group) or {} for group in ("model", "hookpoint", "sae"))
    given = config.get("sae") or {}
    values = {
        "model_name": model.get("name"),
        "model_revision": model.get("revision"),
        "num_parameters": model.get("num_parameters"),
        "random_init": model.get("random_init"),
        "hookpoint_name": hookpoint.get("name"),
        "layer": hookpoint.get("layer"),
        "depth": _depth(model, hookpoint),
        "sae_source": sae.get("source"),
        "sae_freeze": sae.get("freeze"),
        "sae_repo": sae.get("repo"),
        "expansion_factor": sae.get("expansion_factor"),
        "num_latents": sae.get("num_latents"),
        "k": sae.get("k"),
        "seed": config.get("seed"),
        "init_seed": given.get("init_seed"),
        "data_seed": given.get("data_seed"),
    }
    return _without_null(values)


def config_of(config: Mapping[str, Any], resolved: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The config as W&B gets it: what the job was asked for, filled with what was resolved, no null."""
    values = {key: value for key, value in config.items() if key not in _NO_FACTS}
    groups = resolved or {}
    for group, keys in _RESOLVED.items():
        of_group = dict(groups.get(group) or {})
        if group == "hookpoint" and of_group:
            of_group["depth"] = _depth(groups.get("model") or {}, of_group)
        if isinstance(values.get(group), Mapping):
            filled = {key: of_group[key] for key in keys if of_group.get(key) is not None}
            values[group] = {**values[group], **filled}
    return _without_null(values)


def tags(resolved: Mapping[str, Any]) -> list[str]:
    """Model, hookpoint and source of the SAE."""
    values = facts({}, resolved)
    model = _short(str(values.get("model_name", "")))
    return [model, *(str(values[key]) for key in ("hookpoint_name", "sae_source") if key in values)]


def _depth(model: Mapping[str, Any], hookpoint: Mapping[str, Any]) -> float | None:
    layer, layers = hookpoint.get("layer"), model.get("num_layers")
    return None if layer is None or not layers else layer / layers


def _short(name: str) -> str:
    """`pythia-70m` of a Hub id; the last two folders of a path, whose last alone may be `hf`."""
    parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".", "..")]
    is_path = len(parts) > 2 or name.startswith((".", "/", "~"))
    return "-".join(parts[-2:] if is_path else parts[-1:]) or "model"


def _without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_null(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
