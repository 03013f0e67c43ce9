"""All modularity numbers of one run: the validated graph, its communities, its nulls, and the q/ metrics."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, IntArray
from saescope.stats.coactivation import Edges, both_edges, collapse
from saescope.stats.edge_nulls import null_edge_count
from saescope.stats.modularity import Partition, leiden, modularity
from saescope.stats.naive import MAX_LATENTS, naive_modularity
from saescope.stats.progress import Progress, no_progress
from saescope.stats.rewired_null import rewired_null
from saescope.stats.row_blocks import some_columns
from saescope.stats.specialization import check_tasks

Metrics: TypeAlias = dict[str, float | None]
Notes: TypeAlias = dict[str, str]
"""Metric key → why the metric is None, or what its number does not say."""

MIN_EDGES = 5
"""With fewer validated edges there is no graph."""
NO_GRAPH = f"no graph: fewer than {MIN_EDGES} validated edges"
MIN_COMMUNITY = 5
"""Latents a community needs to be counted in q/n_communities."""
DENSE_EDGES = 20_000
"""Above this number of edges Leiden runs differ by less than 0.001 in Q, so a rewired graph gets one run
instead of all."""

KEYS = (
    "modularity", "null_mean", "null_sd", "excess", "z", "p", "rewirings", "n_edges", "null_edges",
    "n_communities", "coverage", "within_task", "task_partition", "ami_task", "ami_task_within", "seed_ari",
    "naive",
)  # fmt: skip


@dataclass(frozen=True)
class ModularitySettings:
    """How edges are validated, the graph is partitioned, and its nulls are drawn."""

    min_joint: int = 5
    """Units on which both latents of an edge are active, at least."""
    fdr: float = 0.01
    """False discovery rate of the edges, over all pairs."""
    resolution: float = 1.0
    """Resolution of the modularity that Leiden maximises."""
    leiden_seeds: int = 5
    """Leiden runs; the best one is reported."""
    rewirings: int = 20
    """Degree-preserving rewirings of the graph at least (`rewired_null`); 0 skips this null."""
    null_tokens: int = 50_000
    """Tokens (or units) on which the edge nulls are drawn, at most; 0 skips them."""
    curveball_passes: int = 12
    block_tokens: int = 32
    """Tokens (or units) of a block that the second edge null moves as a whole."""
    seed: int = 0
    naive: bool = True
    """Whether to compute q/naive."""


@dataclass(frozen=True)
class ModularitySummary:
    """The validated graph and its metrics; `edges` name latents, arrays run over all latents F."""

    metrics: Metrics
    notes: Notes
    """Why a metric is None, or what a number does not say."""
    edges: Edges
    within_edges: Edges
    """Edges beyond what the task mix explains."""
    community_F: IntArray
    """Leiden community, 0 the largest; -1 for a latent without an edge."""
    within_community_F: IntArray
    """The same in the graph of `within_edges`."""
    degree_F: IntArray
    """Edges of each latent."""


def summarise_modularity(
    active_NF: Csr,
    task_N: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    top_task_F: AnyIntArray,
    settings: ModularitySettings | None = None,
    *,
    unit_N: AnyIntArray | None = None,
    progress: Progress = no_progress,
) -> ModularitySummary:
    """Validated co-activation graph of the supported latents, its modularity and two nulls.

    `active_NF`: tokens by latents, non-zero = active; `top_task_F`: the task each latent fires most on.
    `unit_N` (chunk or document of each token) counts joint firings per unit instead of per token; a unit must
    lie within one task.

    Fewer than 5 edges are "no graph": q/modularity, q/within_task and q/n_communities are 0, what needs a
    graph (null, z, p, AMI) is None with a note.
    Raises ValueError when lengths disagree or a unit spans tasks.
    """
    settings = ModularitySettings() if settings is None else settings
    num_latents = active_NF.shape[1]
    task_N = check_tasks(task_N, active_NF.shape[0], num_tasks)
    nodes = np.flatnonzero(np.asarray(supported_F, dtype=np.bool_))
    top_task_S = np.asarray(top_task_F, dtype=np.int64)[nodes]
    active_NS, task_of_unit = some_columns(active_NF, nodes), task_N
    if unit_N is not None:
        active_NS, task_of_unit = collapse(active_NS, unit_N), _task_of_units(unit_N, task_N)

    edges, within_edges = both_edges(
        active_NS,
        task_of_unit,
        num_tasks,
        min_joint=settings.min_joint,
        fdr=settings.fdr,
        progress=progress,
    )
    degree_S = np.bincount(np.concatenate([edges.source, edges.target]), minlength=nodes.size)
    partition = _partition(edges, nodes.size, settings, progress)
    within_partition = _partition(within_edges, nodes.size, settings, progress)

    metrics: Metrics = {f"q/{key}": None for key in KEYS}
    notes: Notes = {}
    for some_metrics, some_notes in (
        _naive_metrics(active_NF, settings, progress),
        _edge_metrics(edges, degree_S),
        _edge_null_metrics(active_NS, settings, progress),
        _partition_metrics(edges, partition, top_task_S, settings),
        _rewiring_metrics(edges, partition, nodes.size, settings, progress),
        _within_task_metrics(within_partition, top_task_S),
    ):
        metrics |= some_metrics
        notes |= some_notes

    def over_latents(values_S: IntArray, missing: int) -> IntArray:
        values_F = np.full(num_latents, missing, dtype=np.int64)
        values_F[nodes] = values_S
        return values_F

    no_community = np.full(nodes.size, -1, dtype=np.int64)
    return ModularitySummary(
        metrics,
        notes,
        _with_latent_ids(edges, nodes),
        _with_latent_ids(within_edges, nodes),
        over_latents(partition.labels_S if partition else no_community, -1),
        over_latents(within_partition.labels_S if within_partition else no_community, -1),
        over_latents(degree_S, 0),
    )


def _partition(
    edges: Edges, num_nodes: int, settings: ModularitySettings, progress: Progress
) -> Partition | None:
    """The best Leiden partition; None where there are too few edges for a graph."""
    if len(edges) < MIN_EDGES:
        return None
    return leiden(
        edges.source,
        edges.target,
        edges.pmi,
        num_nodes,
        seeds=_leiden_seeds(settings),
        resolution=settings.resolution,
        progress=progress,
    )


def _leiden_seeds(settings: ModularitySettings) -> list[int]:
    return [settings.seed + run for run in range(max(1, settings.leiden_seeds))]


def _naive_metrics(active_NF: Csr, settings: ModularitySettings, progress: Progress) -> tuple[Metrics, Notes]:
    naive = naive_modularity(active_NF, progress) if settings.naive else None
    if naive is not None:
        return {"q/naive": naive}, {}
    return {}, {"q/naive": f"more than {MAX_LATENTS} latents" if settings.naive else "switched off"}


def _edge_metrics(edges: Edges, degree_S: IntArray) -> tuple[Metrics, Notes]:
    coverage = float((degree_S > 0).mean()) if degree_S.size else 0.0
    return {"q/n_edges": float(len(edges)), "q/coverage": coverage}, {}


def _edge_null_metrics(
    active_NS: Csr, settings: ModularitySettings, progress: Progress
) -> tuple[Metrics, Notes]:
    """Are the edges real? The larger number of edges that the two randomised matrices leave."""
    if settings.null_tokens <= 0:
        return {}, {"q/null_edges": "switched off"}
    null_edges = null_edge_count(
        active_NS,
        null_tokens=settings.null_tokens,
        min_joint=settings.min_joint,
        fdr=settings.fdr,
        passes=settings.curveball_passes,
        block=settings.block_tokens,
        seed=settings.seed,
        progress=progress,
    )
    return {"q/null_edges": float(max(null_edges))}, {}


def _partition_metrics(
    edges: Edges, partition: Partition | None, top_task_S: IntArray, settings: ModularitySettings
) -> tuple[Metrics, Notes]:
    """Modularity of the Leiden partition and of the tasks, and how far the two agree."""
    if partition is None:
        keys = ("modularity", "task_partition", "ami_task", "seed_ari")
        return {"q/modularity": 0.0, "q/n_communities": 0.0}, {f"q/{key}": NO_GRAPH for key in keys}
    sizes = np.bincount(partition.labels_S[partition.labels_S >= 0])
    metrics: Metrics = {
        "q/modularity": partition.modularity,
        "q/seed_ari": partition.seed_ari,
        "q/n_communities": float((sizes >= MIN_COMMUNITY).sum()),
        "q/task_partition": modularity(
            edges.source, edges.target, edges.pmi, top_task_S, settings.resolution
        ),
        "q/ami_task": _ami(partition.labels_S, top_task_S),
    }
    return metrics, {"q/seed_ari": "a single Leiden run"} if partition.seed_ari is None else {}


def _rewiring_metrics(
    edges: Edges,
    partition: Partition | None,
    num_nodes: int,
    settings: ModularitySettings,
    progress: Progress,
) -> tuple[Metrics, Notes]:
    """Is the graph modular beyond its degrees? Its Q against that of degree-preserving rewirings."""
    if partition is None or settings.rewirings <= 0:
        reason = NO_GRAPH if partition is None else "switched off"
        return {}, {f"q/{key}": reason for key in ("null_mean", "null_sd", "excess", "z", "p", "rewirings")}
    seeds = _leiden_seeds(settings)
    null = rewired_null(
        (edges.source, edges.target, edges.pmi),
        num_nodes,
        fewest=settings.rewirings,
        seeds=seeds if len(edges) <= DENSE_EDGES else seeds[:1],
        resolution=settings.resolution,
        seed=settings.seed,
        progress=progress,
    )
    metrics: Metrics = {
        "q/null_mean": null.mean,
        "q/null_sd": null.sd,
        "q/excess": partition.modularity - null.mean,
        "q/z": null.z,
        "q/p": null.p,
        "q/rewirings": float(null.draws),
    }
    return metrics, {"q/z": "all rewired graphs have the same modularity"} if null.z is None else {}


def _within_task_metrics(partition: Partition | None, top_task_S: IntArray) -> tuple[Metrics, Notes]:
    """Modularity that the task mix does not explain."""
    if partition is None:
        reason = NO_GRAPH + " within tasks"
        return {"q/within_task": 0.0}, {"q/within_task": reason, "q/ami_task_within": reason}
    agreement = _ami(partition.labels_S, top_task_S)
    return {"q/within_task": partition.modularity, "q/ami_task_within": agreement}, {}


def _ami(community_S: IntArray, top_task_S: IntArray) -> float:
    """Adjusted mutual information of communities and tasks, over the latents with an edge."""
    linked = community_S >= 0
    return float(adjusted_mutual_info_score(top_task_S[linked], community_S[linked]))


def _task_of_units(unit_N: AnyIntArray, task_N: IntArray) -> IntArray:
    """Task of every unit, in the order of `collapse`; ValueError when a unit spans two tasks."""
    _, first, unit = np.unique(np.asarray(unit_N), return_index=True, return_inverse=True)
    task_of_unit: IntArray = task_N[first]
    if (task_of_unit[unit] != task_N).any():
        raise ValueError("a counting unit spans two tasks")
    return task_of_unit


def _with_latent_ids(edges: Edges, nodes: IntArray) -> Edges:
    """The edges with their node numbers replaced by the latents that the nodes are."""
    return Edges(nodes[edges.source], nodes[edges.target], edges.joint, edges.pmi, edges.p)
