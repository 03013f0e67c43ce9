"""Settings of the graphs, and what is said of any one of them: its partition, its null, its agreement."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from saescope.stats.arrays import IntArray
from saescope.stats.coactivation import Edges
from saescope.stats.modularity import Partition, leiden
from saescope.stats.progress import Progress
from saescope.stats.rewired_null import rewired_null

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
    words: bool = True
    """Whether to compute q/within_token*, q/lexical and q/word_share."""


def partition_of(
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


def rewiring_metrics(
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


def agreement_metrics(key: str, one: Partition | None, other: Partition | None) -> tuple[Metrics, Notes]:
    """AMI of two partitions over the latents with an edge in both graphs."""
    if one is not None and other is not None:
        both_S = (one.labels_S >= 0) & (other.labels_S >= 0)
        if both_S.any():
            return {f"q/{key}": ami(one.labels_S[both_S], other.labels_S[both_S])}, {}
    return {f"q/{key}": None}, {f"q/{key}": "no latent has an edge in both graphs"}


def seed_ami(partition: Partition) -> float | None:
    """Mean AMI of the Leiden runs, over the latents with an edge; None for a single run."""
    runs = partition.labels_per_seed
    pairs = [ami(runs[i], runs[j]) for i in range(len(runs)) for j in range(i)]
    return float(np.mean(pairs)) if pairs else None


def ami(community_S: IntArray, top_task_S: IntArray) -> float:
    """Adjusted mutual information of communities and another grouping, over the latents with an edge."""
    linked = community_S >= 0
    return float(adjusted_mutual_info_score(top_task_S[linked], community_S[linked]))
