"""The settings of a job as columns: as requested, or as the job resolved them."""

from collections.abc import Mapping, Sequence
from typing import Any

from saescope.config import applicable
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

MAIN = (
    "model.name",
    "model.revision",
    "model.random_init",
    "model.num_parameters",
    "hookpoint.name",
    "hookpoint.kind",
    "hookpoint.layer",
    "hookpoint.depth",
    "sae.source",
    "sae.repo",
    "sae.k",
    "sae.expansion_factor",
    "sae.num_latents",
    "sae.tokens",
    "seed",
    "sae.init_seed",
    "sae.data_seed",
)
"""Columns every row has, in this order."""

SEEDS = ("seed", "sae.init_seed", "sae.data_seed")
"""Settings whose change is a repetition, not another condition."""

_NO_CONDITION_GROUPS = ("tracking.", "runtime.", "probes.", "metrics.")
"""Settings that decide no SAE: where a job ran, and how it was measured (`comparable` checks the latter)."""
_NO_CONDITION_KEYS = {
    "force",
    "objective",
    "sae.save_every",
    "model.sae_repo",
    "model.trust_remote_code",
    "sae.micro_acc_steps",
}
"""Single settings that change no number of the SAE, or that another column states."""
_CONTROL = ("model.random_init",)
"""Axes that come last: they are controls for the others."""
_CHOSEN_BY = {
    "sae.": "sae.source",
    "corpus.": "sae.source",
    "dynamic_k.": "dynamic_k.target",
    "causal.": "causal.method",
}
"""Settings that only some choices have, by the start of their name, and what chooses."""
_PLACE = {"hookpoint.name", "hookpoint.layer", "hookpoint.depth", "hookpoint.kind"}

Value = str | float | int | bool | None


def settings(job: Run) -> dict[str, Value]:
    """Every setting of a job, dotted key → value; all keys of `MAIN` are there."""
    requested = {key: _plain(value) for key, value in _leaves(applicable(job.config))}
    model, hookpoint, sae = job.resolved("model"), job.resolved("hookpoint"), job.resolved("sae")
    values: dict[str, Value] = {key: requested.get(key) for key in MAIN} | requested
    # older provenance files call the number `params`
    values["model.num_parameters"] = _first(model, "num_parameters", "params")
    if values.get("model.deduped") and "deduped" not in str(values["model.name"]):
        values["model.name"] = f"{values['model.name']}-deduped"
    for key, resolved in (
        ("hookpoint.name", _first(hookpoint, "name")),
        ("hookpoint.kind", _first(hookpoint, "kind")),
        ("hookpoint.layer", _first(hookpoint, "layer")),
        ("sae.k", _first(sae, "k")),
        ("sae.expansion_factor", _first(sae, "expansion_factor")),
        ("sae.num_latents", _first(sae, "num_latents")),
        ("sae.repo", _first(sae, "repo")),
    ):
        if resolved is not None:
            values[key] = resolved
    if requested.get("hookpoint.depth") is None:  # placed by layer or by name
        layer, layers = finite(values["hookpoint.layer"]), finite(model.get("num_layers"))
        values["hookpoint.depth"] = None if layer is None or not layers else round(layer / layers, 4)
    return values


def axes(rows: list[dict[str, Value]], placed_by_depth: bool) -> dict[str, list[str]]:
    """The settings that differ between the jobs and make another condition, those of `MAIN` first.

    Each with the settings that always change together with it, which are therefore no axes of their own.

    `placed_by_depth`: every job sets `hookpoint.depth`, so depth is the axis, not the layer that
    results from it.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    varying = [key for key in keys if varies(rows, key) and _is_condition(key)]
    place = [key for key in varying if key in _PLACE]
    place_axis = "hookpoint.depth" if placed_by_depth else "hookpoint.layer"
    place_axes = {key for key in ("hookpoint.kind", place_axis) if key in place} or set(place[:1])
    varying = [key for key in varying if key not in _PLACE or key in place_axes]
    if "sae.expansion_factor" in varying or "model.num_parameters" in varying:
        varying = [key for key in varying if key != "sae.num_latents"]
    if "model.num_parameters" in varying:
        # size orders the models; the name is the axis where it does not tell them apart
        sizes = {(row.get("model.name"), row.get("model.num_parameters")) for row in rows}
        by_size = len({size for _, size in sizes}) == len(sizes) and None not in {s for _, s in sizes}
        varying.remove("model.name" if by_size and "model.name" in varying else "model.num_parameters")
    twins: dict[str, list[str]] = {}
    for key in sorted(varying, key=_CONTROL.__contains__):
        partner = next((other for other in twins if _same_partition(rows, key, other)), None)
        if partner is None:
            twins[key] = []
        else:
            twins[partner].append(key)
    return twins


def varies(rows: Sequence[Mapping[str, Value]], key: str) -> bool:
    """Whether a setting differs between the jobs that have it.

    Jobs whose choice leaves it null do not have it: the training tokens of trained SAEs do not vary because
    the sweep also has an untrained control.
    """
    chooser = next((by for start, by in _CHOSEN_BY.items() if key.startswith(start)), None)
    by_choice: dict[Value, set[Value]] = {}
    for row in rows:
        by_choice.setdefault(row.get(chooser) if chooser else None, set()).add(row.get(key))
    values = [choice for choice in by_choice.values() if not chooser or choice != {None}]
    return len(set().union(*values)) > 1


def confounded(rows: list[dict[str, Value]], axis: str, others: list[str]) -> list[str]:
    """Those of `others` whose value the value of `axis` fixes: a step along it changes them too."""
    return [other for other in others if other != axis and _determines(rows, axis, other)]


def steps(value: Value) -> Value:
    """A Pythia revision `step1000` as the number 1000, so that training steps have an order."""
    if isinstance(value, str) and value.startswith("step") and value[4:].isdigit():
        return int(value[4:])
    return value


def conditions(row: Mapping[str, Value]) -> dict[str, Value]:
    """The settings of a row that make its condition: no seeds, nothing on where and how it was measured."""
    return {key: row.get(key) for key in sorted(row) if _is_condition(key)}


def _is_condition(key: str) -> bool:
    is_setting = "/" not in key and ("." in key)
    return is_setting and not (
        key.startswith(_NO_CONDITION_GROUPS) or key in SEEDS or key in _NO_CONDITION_KEYS
    )


def _determines(rows: list[dict[str, Value]], a: str, b: str) -> bool:
    pairs = {(row.get(a), row.get(b)) for row in rows}
    return len(pairs) == len({first for first, _ in pairs})


def _same_partition(rows: list[dict[str, Value]], a: str, b: str) -> bool:
    return _determines(rows, a, b) and _determines(rows, b, a)


def _first(content: Mapping[str, Any], *keys: str) -> Value:
    return next((_plain(content[key]) for key in keys if content.get(key) is not None), None)


def _leaves(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def _plain(value: Any) -> Value:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        number = finite(value)
        return int(number) if number is not None and number.is_integer() else number
    return str(value)
