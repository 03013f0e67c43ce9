"""All modularity numbers of one run: the validated graph, its communities, its nulls, and the q/ metrics."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.coactivation import Edges, collapse, edges_beyond, labels_of_units, no_edges
from saescope.stats.edge_nulls import null_edge_count
from saescope.stats.edge_p import edge_p, length_strata
from saescope.stats.graph_metrics import (
    MIN_COMMUNITY,
    NO_GRAPH,
    Metrics,
    ModularitySettings,
    Notes,
    ami,
    partition_of,
    rewiring_metrics,
    seed_ami,
)
from saescope.stats.modularity import Partition, modularity
from saescope.stats.naive import MAX_LATENTS, naive_modularity
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import some_columns
from saescope.stats.specialization import check_tasks
from saescope.stats.word_graphs import WORD_KEYS, no_words_reason, vocabulary_metrics, within_token_metrics

LEVEL = 0.05
"""Level at which edges are counted by their p."""
KEYS = (
    "modularity", "null_mean", "null_sd", "excess", "z", "p", "rewirings", "n_edges", "null_edges",
    "edges_by_document_frac", "n_communities", "coverage", "within_task", "task_partition", "ami_task",
    "ami_task_within", "seed_ari", "seed_ami", "naive", *WORD_KEYS,
)  # fmt: skip


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
    within_token_edges: Edges
    """Edges beyond what token ids explain; none where they are not known."""
    within_token_community_F: IntArray
    """Community in the graph of `within_token_edges`."""
    degree_F: IntArray
    """Edges of each latent."""
    p_E: FloatArray
    """p of each of `edges`, by document; NaN without documents."""
    within_token_p_E: FloatArray
    """The same of `within_token_edges`, given the token ids."""


def summarise_modularity(
    active_NF: Csr,
    task_N: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    top_task_F: AnyIntArray,
    settings: ModularitySettings | None = None,
    *,
    unit_N: AnyIntArray | None = None,
    token_N: AnyIntArray | None = None,
    doc_N: AnyIntArray | None = None,
    progress: Progress = no_progress,
) -> ModularitySummary:
    """Validated co-activation graph of the supported latents, its modularity and two nulls.

    `active_NF`: tokens by latents, non-zero = active; `top_task_F`: the task each latent fires most on.
    `unit_N` (chunk or document of each token) counts joint firings per unit instead of per token; a unit must
    lie within one task. `token_N`: token id of each token, negative where it is not known; for
    q/within_token*, q/lexical and q/word_share, which chunks and documents do not have. `doc_N`: document of
    each token, for the p of the edges.

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
        active_NS, task_of_unit = collapse(active_NS, unit_N), labels_of_units(unit_N, task_N, "tasks")

    no_words = no_words_reason(token_N, unit_N, settings)
    strata: list[AnyIntArray | None] = [None, task_of_unit]
    if no_words is None:
        strata.append(token_N)
    edges, within_edges, *beyond_token = edges_beyond(
        active_NS,
        strata,
        min_joint=settings.min_joint,
        fdr=settings.fdr,
        progress=progress,
    )
    within_token_edges = beyond_token[0] if beyond_token else no_edges()
    degree_S = np.bincount(np.concatenate([edges.source, edges.target]), minlength=nodes.size)
    partition = partition_of(edges, nodes.size, settings, progress)
    within_partition = partition_of(within_edges, nodes.size, settings, progress)
    within_token_partition = partition_of(within_token_edges, nodes.size, settings, progress)

    p_E = _edge_p(active_NS, edges, doc_N, unit_N, None, progress)
    within_token_p_E = _edge_p(active_NS, within_token_edges, doc_N, unit_N, token_N, progress)
    metrics: Metrics = {f"q/{key}": None for key in KEYS}
    notes: Notes = {}
    for some_metrics, some_notes in (
        _naive_metrics(active_NF, settings, progress),
        _edge_metrics(edges, degree_S),
        _by_document("edges_by_document_frac", p_E),
        _by_document("within_token_edges_by_document_frac", within_token_p_E),
        _edge_null_metrics(active_NS, settings, progress),
        _partition_metrics(edges, partition, top_task_S, settings),
        rewiring_metrics(edges, partition, nodes.size, settings, progress),
        _within_task_metrics(within_partition, top_task_S),
        within_token_metrics(
            within_token_edges, within_token_partition, partition, top_task_S, settings, progress
        ),
        vocabulary_metrics(
            active_NS, token_N if no_words is None else None, edges, partition, settings, progress
        ),
    ):
        metrics |= some_metrics
        notes |= some_notes
    if no_words is not None:
        metrics |= {f"q/{key}": None for key in WORD_KEYS}
        notes |= {f"q/{key}": no_words for key in WORD_KEYS}

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
        _with_latent_ids(within_token_edges, nodes),
        over_latents(within_token_partition.labels_S if within_token_partition else no_community, -1),
        over_latents(degree_S, 0),
        p_E,
        within_token_p_E,
    )


def _naive_metrics(active_NF: Csr, settings: ModularitySettings, progress: Progress) -> tuple[Metrics, Notes]:
    naive = naive_modularity(active_NF, progress) if settings.naive else None
    if naive is not None:
        return {"q/naive": naive}, {}
    return {}, {"q/naive": f"more than {MAX_LATENTS} latents" if settings.naive else "switched off"}


def _edge_metrics(edges: Edges, degree_S: IntArray) -> tuple[Metrics, Notes]:
    coverage = float((degree_S > 0).mean()) if degree_S.size else 0.0
    return {"q/n_edges": float(len(edges)), "q/coverage": coverage}, {}


def _edge_p(
    active_NS: Csr,
    edges: Edges,
    doc_N: AnyIntArray | None,
    unit_N: AnyIntArray | None,
    stratum_N: AnyIntArray | None,
    progress: Progress,
) -> FloatArray:
    """p of each edge by document; NaN without documents."""
    if doc_N is None or not len(edges):
        return np.full(len(edges), np.nan)
    if unit_N is not None:
        _, first, tokens_U = np.unique(np.asarray(unit_N), return_index=True, return_counts=True)
        doc_N, stratum_N = doc_N[first], length_strata(tokens_U)
    return edge_p(active_NS, edges.source, edges.target, doc_N, stratum_N, progress=progress)


def _by_document(key: str, p_E: FloatArray) -> tuple[Metrics, Notes]:
    """The share of edges whose p, by document, is at most 5 %."""
    if not p_E.size:
        return {}, {f"q/{key}": "no validated edge"}
    if np.isnan(p_E).any():
        return {}, {f"q/{key}": "documents are not known"}
    return {f"q/{key}": float((p_E <= LEVEL).mean())}, {}


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
        keys = ("modularity", "task_partition", "ami_task", "seed_ari", "seed_ami")
        return {"q/modularity": 0.0, "q/n_communities": 0.0}, {f"q/{key}": NO_GRAPH for key in keys}
    sizes = np.bincount(partition.labels_S[partition.labels_S >= 0])
    metrics: Metrics = {
        "q/modularity": partition.modularity,
        "q/seed_ari": partition.seed_ari,
        "q/seed_ami": seed_ami(partition),
        "q/n_communities": float((sizes >= MIN_COMMUNITY).sum()),
        "q/task_partition": modularity(
            edges.source, edges.target, edges.pmi, top_task_S, settings.resolution
        ),
        "q/ami_task": ami(partition.labels_S, top_task_S),
    }
    single = {f"q/{key}": "a single Leiden run" for key in ("seed_ari", "seed_ami")}
    return metrics, single if partition.seed_ari is None else {}


def _within_task_metrics(partition: Partition | None, top_task_S: IntArray) -> tuple[Metrics, Notes]:
    """Modularity that the task mix does not explain."""
    if partition is None:
        reason = NO_GRAPH + " within tasks"
        return {"q/within_task": 0.0}, {"q/within_task": reason, "q/ami_task_within": reason}
    agreement = ami(partition.labels_S, top_task_S)
    return {"q/within_task": partition.modularity, "q/ami_task_within": agreement}, {}


def _with_latent_ids(edges: Edges, nodes: IntArray) -> Edges:
    """The edges with their node numbers replaced by the latents that the nodes are."""
    return Edges(nodes[edges.source], nodes[edges.target], edges.joint, edges.pmi, edges.rank_tail)
