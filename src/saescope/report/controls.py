"""Controls: runs that a result is set against, known from the facts of their run folder."""

from collections.abc import Mapping, Sequence
from typing import Any

_SOURCES = {"random": "random SAE", "neurons": "neurons", "pca": "PCA"}
"""SAE sources that are controls."""
_FREEZE = {"decoder": "frozen decoder", "encoder": "frozen encoder", "soft": "soft-frozen decoder"}
"""Values of `sae.freeze` that make a trained SAE a control."""
RANDOM_WEIGHTS = "random weights"


def control_labels(config: Mapping[str, Any], resolved_sae: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a run a control: `random SAE`, `random weights`, both, …; empty for a result.

    Args:
        config: the resolved configuration of the run.
        resolved_sae: section `sae` of its provenance, where `control` says so of any source.
    """
    sae, model = _group(config, "sae"), _group(config, "model")
    source = str(sae.get("source"))
    labels = [_SOURCES[source]] if source in _SOURCES else []
    if not labels and sae.get("freeze") in _FREEZE:
        labels = [_FREEZE[str(sae["freeze"])]]
    if not labels and resolved_sae.get("control"):
        labels = [f"sae={source}"]
    if model.get("random_init"):
        labels.append(RANDOM_WEIGHTS)
    return tuple(labels)


def control_name(labels: Sequence[str]) -> str:
    """`random SAE on random weights`; empty for a result."""
    return " on ".join(labels)


def _group(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    group = config.get(name)
    return group if isinstance(group, Mapping) else {}
