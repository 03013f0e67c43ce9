"""All modularity numbers of one run: the graph, its nulls, its communities, and the q/ metrics."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.coactivation import Edges, both_edges, collapse
from saescope.stats.edge_nulls import null_edge_count
from saescope.stats.modularity import leiden, modularity
from saescope.stats.naive import MAX_LATENTS, naive_modularity
from saescope.stats.rewiring import at_once, rewire
from saescope.stats.specialization import check_tasks
from saescope.stats.threads import in_threads

MIN_EDGES = 5
"""Fewer validated edges are no graph."""
MIN_COMMUNITY = 5
DENSE_EDGES = 20_000
"""Above it Leiden runs differ by < 0.001 in Q, so each rewired graph gets one run instead of all;
z and p then judge one run of the real graph too."""

KEYS = (
    "modularity", "null_mean", "null_sd", "excess", "z", "p", "n_edges", "null_edges", "n_communities",
    "coverage", "within_task", "task_partition", "ami_task", "ami_task_within", "seed_ari", "naive",
)  # fmt: skip


@dataclass(frozen=True)
class ModularitySummary:
    """The validated graph; ``edges`` name latents, arrays run over all latents F."""

    metrics: dict[str, float | None]
    notes: dict[str, str]
    """Why a metric is None, or what a number does not say."""
    edges: Edges
    within_edges: Edges
    """Edges beyond what the task mix explains."""
    community_F: IntArray
    """Leiden community, 0 the largest; -1 for a latent without an edge."""
    within_community_F: IntArray
    degree_F: IntArray


def summarise_modularity(
    active_NF: Csr,
    task_N: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    top_task_F: AnyIntArray,
    *,
    unit_N: AnyIntArray | None = None,
    min_joint: int = 5,
    fdr: float = 0.01,
    resolution: float = 1.0,
    leiden_seeds: int = 5,
    rewirings: int = 20,
    null_tokens: int = 50_000,
    curveball_passes: int = 12,
    block: int = 32,
    seed: int = 0,
    naive: bool = True,
) -> ModularitySummary:
    """Validated co-activation graph of the supported latents, its modularity and two nulls.

    ``active_NF``: tokens by latents, non-zero = active. ``unit_N`` (chunk or document of each token) counts
    joint firings per unit instead of per token; a unit must lie within one task, and ``null_tokens`` and
    ``block`` are then in units. ``rewirings`` or ``null_tokens`` of 0 skips that null.

    Fewer than 5 edges are "no graph": Q, within_task and coverage of communities are 0, what needs a graph
    (null, z, p, AMI) is None with a note. Raises ValueError when lengths disagree or a unit spans tasks.
    """
    num_latents = active_NF.shape[1]
    task_N = check_tasks(task_N, active_NF.shape[0], num_tasks)
    nodes = np.flatnonzero(np.asarray(supported_F, dtype=np.bool_))
    top_task_S = np.asarray(top_task_F, dtype=np.int64)[nodes]
    metrics: dict[str, float | None] = {f"q/{key}": None for key in KEYS}
    notes: dict[str, str] = {}
    seeds = [seed + run for run in range(max(1, leiden_seeds))]

    metrics["q/naive"] = naive_modularity(active_NF) if naive else None
    if metrics["q/naive"] is None:
        notes["q/naive"] = f"more than {MAX_LATENTS} latents" if naive else "switched off"

    active, unit_task = active_NF[:, nodes], task_N
    if unit_N is not None:
        active, unit_task = collapse(active, unit_N), _task_of_units(unit_N, task_N)
    edges, within = both_edges(active, unit_task, num_tasks, min_joint=min_joint, fdr=fdr)
    degree_S = np.bincount(np.concatenate([edges.source, edges.target]), minlength=nodes.size)
    metrics["q/n_edges"] = float(len(edges))
    metrics["q/coverage"] = float((degree_S > 0).mean()) if nodes.size else 0.0
    if null_tokens > 0:
        left = null_edge_count(
            active,
            null_tokens=null_tokens,
            min_joint=min_joint,
            fdr=fdr,
            passes=curveball_passes,
            block=block,
            seed=seed,
        )
        metrics["q/null_edges"] = float(max(left))
    else:
        notes["q/null_edges"] = "switched off"

    community_S, within_S = (np.full(nodes.size, -1, dtype=np.int64) for _ in range(2))
    few = f"no graph: fewer than {MIN_EDGES} validated edges"
    if len(edges) >= MIN_EDGES:
        part = leiden(edges.source, edges.target, edges.pmi, nodes.size, seeds=seeds, resolution=resolution)
        community_S = part.labels_S
        metrics["q/modularity"], metrics["q/seed_ari"] = part.modularity, part.seed_ari
        if part.seed_ari is None:
            notes["q/seed_ari"] = "a single Leiden run"
        sizes = np.bincount(community_S[community_S >= 0])
        metrics["q/n_communities"] = float((sizes >= MIN_COMMUNITY).sum())
        metrics["q/task_partition"] = modularity(
            edges.source, edges.target, edges.pmi, top_task_S, resolution
        )
        metrics["q/ami_task"] = _ami(community_S, top_task_S)
        if rewirings > 0:
            null_seeds = seeds if len(edges) <= DENSE_EDGES else seeds[:1]

            def null(draw: int) -> float:
                source, target, weight = rewire(
                    edges.source, edges.target, edges.pmi, nodes.size, seed=_seed_of(seed, draw)
                )
                return leiden(
                    source, target, weight, nodes.size, seeds=null_seeds, resolution=resolution
                ).modularity

            draws = np.array(in_threads(null, range(rewirings), most=at_once(nodes.size)))
            # equal effort on both sides: where the null gets one run, z and p judge one run, not the best
            judged = part.modularity
            if len(null_seeds) < len(seeds):
                first = part.labels_per_seed[0]
                judged = modularity(edges.source, edges.target, edges.pmi, first, resolution)
            _compare(part.modularity, judged, draws, metrics, notes)
        else:
            notes.update({f"q/{key}": "switched off" for key in ("null_mean", "null_sd", "excess", "z", "p")})
    else:
        metrics["q/modularity"], metrics["q/n_communities"] = 0.0, 0.0
        needs_graph = ("null_mean", "null_sd", "excess", "z", "p", "task_partition", "ami_task", "seed_ari")
        notes.update({f"q/{key}": few for key in ("modularity", *needs_graph)})
    if len(within) >= MIN_EDGES:
        part = leiden(
            within.source, within.target, within.pmi, nodes.size, seeds=seeds, resolution=resolution
        )
        within_S = part.labels_S
        metrics["q/within_task"] = part.modularity
        metrics["q/ami_task_within"] = _ami(within_S, top_task_S)
    else:
        metrics["q/within_task"] = 0.0
        notes["q/within_task"] = notes["q/ami_task_within"] = few + " within tasks"

    def over_latents(values_S: IntArray, missing: int) -> IntArray:
        values_F = np.full(num_latents, missing, dtype=np.int64)
        values_F[nodes] = values_S
        return values_F

    return ModularitySummary(
        metrics,
        notes,
        _named(edges, nodes),
        _named(within, nodes),
        over_latents(community_S, -1),
        over_latents(within_S, -1),
        over_latents(degree_S, 0),
    )


def _compare(
    q: float, judged: float, draws: FloatArray, metrics: dict[str, float | None], notes: dict[str, str]
) -> None:
    mean, sd = float(draws.mean()), float(draws.std(ddof=1)) if draws.size > 1 else 0.0
    metrics["q/null_mean"], metrics["q/null_sd"], metrics["q/excess"] = mean, sd, q - mean
    metrics["q/p"] = (1.0 + float((draws >= judged - 1e-12).sum())) / (draws.size + 1.0)
    if sd > 1e-12:
        metrics["q/z"] = (judged - mean) / sd
    else:
        notes["q/z"] = "all rewired graphs have the same modularity"


def _ami(community_S: IntArray, top_task_S: IntArray) -> float:
    linked = community_S >= 0
    return float(adjusted_mutual_info_score(top_task_S[linked], community_S[linked]))


def _task_of_units(unit_N: AnyIntArray, task_N: IntArray) -> IntArray:
    """Task of every unit, in the order of ``collapse``; ValueError when a unit spans two tasks."""
    _, first, unit = np.unique(np.asarray(unit_N), return_index=True, return_inverse=True)
    task_of_unit: IntArray = task_N[first]
    if (task_of_unit[unit] != task_N).any():
        raise ValueError("a counting unit spans two tasks")
    return task_of_unit


def _seed_of(seed: int, draw: int) -> int:
    return int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])


def _named(edges: Edges, nodes: IntArray) -> Edges:
    return Edges(nodes[edges.source], nodes[edges.target], edges.joint, edges.pmi, edges.p)
