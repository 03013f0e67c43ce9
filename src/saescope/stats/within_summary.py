"""Modularity of the graphs whose joint counts are expected within strata that were asked for."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr
from saescope.stats.coactivation import Edges, collapse, edges_beyond, labels_of_units
from saescope.stats.graph_metrics import (
    NO_GRAPH,
    Metrics,
    ModularitySettings,
    Notes,
    partition_of,
    rewiring_metrics,
)
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import some_columns
from saescope.stats.word_classes import NO_WORDS


def summarise_within(
    active_NF: Csr,
    supported_F: BoolArray,
    strata: Mapping[str, AnyIntArray | None],
    chosen: Sequence[str],
    settings: ModularitySettings | None = None,
    *,
    unit_N: AnyIntArray | None = None,
    progress: Progress = no_progress,
) -> tuple[Metrics, Notes]:
    """q/within_<stratum> with its edges and rewirings for each of the `chosen` strata; others are None.

    `active_NF`, `supported_F`, `unit_N` as in `summarise_modularity`, which has q/within_task itself.
    `strata`: label of each token by name of the stratum, None where it is not known; of a unit only `task`.
    Returns the metrics and why some are None.
    """
    settings = ModularitySettings() if settings is None else settings
    reasons = {name: _reason(name, label_N, chosen, unit_N) for name, label_N in strata.items()}
    metrics: Metrics = {key: None for name in strata for key in _keys(name)}
    notes: Notes = {key: why for name, why in reasons.items() if why for key in _keys(name)}
    measured = {name: label_N for name, label_N in strata.items() if reasons[name] is None}
    if not measured:
        return metrics, notes
    active_NS = some_columns(active_NF, np.flatnonzero(np.asarray(supported_F, dtype=np.bool_)))
    labels = [np.asarray(label_N) for label_N in measured.values()]
    if unit_N is not None:
        active_NS = collapse(active_NS, unit_N)
        labels = [labels_of_units(unit_N, label_N.astype(np.int64), "tasks") for label_N in labels]

    def in_strata(step: str, done: int, total: int, name: str = "strata") -> None:
        progress(f"{step} ({name})", done, total)

    graphs = edges_beyond(
        active_NS, labels, min_joint=settings.min_joint, fdr=settings.fdr, progress=in_strata
    )
    for name, edges in zip(measured, graphs, strict=True):
        of_graph, why = _of_graph(
            f"q/within_{name}", edges, active_NS.shape[1], settings, partial(in_strata, name=name)
        )
        metrics |= {key: of_graph.get(key) for key in _keys(name)}
        notes |= {key: text for key, text in why.items() if key in metrics}
    return metrics, notes


def _keys(name: str) -> list[str]:
    parts = ("_null_mean", "_n_edges") if name == "task" else ("", "_null_mean", "_n_edges")
    return [f"q/within_{name}{part}" for part in parts]


def _reason(
    name: str, label_N: AnyIntArray | None, chosen: Sequence[str], unit_N: AnyIntArray | None
) -> str | None:
    """Why nothing is measured within a stratum."""
    if name not in chosen:
        return "not asked for in metrics.within"
    if unit_N is not None and name != "task":
        return "joint firings are counted per chunk or document, which has a task only"
    return NO_WORDS if label_N is None else None


def _of_graph(
    key: str, edges: Edges, num_nodes: int, settings: ModularitySettings, progress: Progress
) -> tuple[Metrics, Notes]:
    partition = partition_of(edges, num_nodes, settings, progress)
    null, null_notes = rewiring_metrics(edges, partition, num_nodes, settings, progress)
    metrics: Metrics = {
        key: 0.0 if partition is None else partition.modularity,
        f"{key}_null_mean": null.get("q/null_mean"),
        f"{key}_n_edges": float(len(edges)),
    }
    notes = {f"{key}_null_mean": null_notes["q/null_mean"]} if "q/null_mean" in null_notes else {}
    return metrics, notes if partition is not None else {key: NO_GRAPH} | notes
