"""What token ids leave of the graph, and what they give alone: q/within_token, q/lexical, q/word_share."""

import numpy as np

from saescope.stats.arrays import AnyIntArray, Csr, IntArray
from saescope.stats.coactivation import Edges, validated_edges
from saescope.stats.graph_metrics import (
    MIN_COMMUNITY,
    NO_GRAPH,
    Metrics,
    ModularitySettings,
    Notes,
    agreement_metrics,
    ami,
    partition_of,
    rewiring_metrics,
)
from saescope.stats.lexical import deal_anew
from saescope.stats.modularity import Partition
from saescope.stats.progress import Progress
from saescope.stats.row_blocks import by_column, fits_in_memory
from saescope.stats.strata import Strata
from saescope.stats.word_classes import NO_WORDS

WORD_KEYS = (
    "within_token", "within_token_null_mean", "within_token_excess", "within_token_n_edges",
    "within_token_edges_by_document_frac", "within_token_n_communities", "lexical", "lexical_n_edges",
    "ami_lexical", "word_share", "ami_within_token", "ami_within_token_task",
)  # fmt: skip


def no_words_reason(
    token_N: AnyIntArray | None, unit_N: AnyIntArray | None, settings: ModularitySettings
) -> str | None:
    """Why nothing can be said about token ids, or nothing was asked for."""
    if not settings.words:
        return "switched off"
    if token_N is None:
        return NO_WORDS
    return (
        None if unit_N is None else "joint firings are counted per chunk or document, which has no token id"
    )


def within_token_metrics(
    edges: Edges,
    partition: Partition | None,
    plain: Partition | None,
    top_task_S: IntArray,
    settings: ModularitySettings,
    progress: Progress,
) -> tuple[Metrics, Notes]:
    """Modularity that token ids do not explain, and how far its communities are those of the plain graph."""
    metrics: Metrics = {"q/within_token": 0.0, "q/within_token_n_edges": float(len(edges))}
    if partition is None:
        keys = ("", "_null_mean", "_excess", "_n_communities")
        reason = NO_GRAPH + " within token ids"
        notes = {f"q/within_token{key}": reason for key in keys}
        notes |= {"q/ami_within_token": reason, "q/ami_within_token_task": reason}
        return metrics | {"q/within_token_n_communities": 0.0}, notes
    nodes = top_task_S.size
    null, null_notes = rewiring_metrics(edges, partition, nodes, settings, progress)
    labels_S = partition.labels_S
    sizes = np.bincount(labels_S[labels_S >= 0])
    metrics |= {
        "q/within_token": partition.modularity,
        "q/within_token_n_communities": float((sizes >= MIN_COMMUNITY).sum()),
        "q/within_token_null_mean": null.get("q/null_mean"),
        "q/within_token_excess": null.get("q/excess"),
        "q/ami_within_token_task": ami(labels_S, top_task_S),
    }
    notes = {
        f"q/within_token_{key}": null_notes[f"q/{key}"]
        for key in ("null_mean", "excess")
        if f"q/{key}" in null_notes
    }
    agreement, agreement_notes = agreement_metrics("ami_within_token", partition, plain)
    return metrics | agreement, notes | agreement_notes


def vocabulary_metrics(
    active_NS: Csr,
    token_N: AnyIntArray | None,
    edges: Edges,
    plain: Partition | None,
    settings: ModularitySettings,
    progress: Progress,
) -> tuple[Metrics, Notes]:
    """What token ids alone give: a graph of firings dealt anew within them, a share of the joint firing."""
    if token_N is None:
        return {}, {}

    def of_surrogate(step: str, done: int, total: int) -> None:
        progress(f"{step}, lexical surrogate", done, total)

    of_dealt = ("q/lexical", "q/lexical_n_edges", "q/ami_lexical")
    metrics: Metrics = dict.fromkeys(of_dealt)
    notes: Notes = dict.fromkeys(of_dealt, "not drawn: more firings than memory holds a second time")
    if fits_in_memory(active_NS):
        dealt_NS = deal_anew(active_NS, token_N, seed=settings.seed, progress=progress)
        dealt_edges = validated_edges(
            dealt_NS, min_joint=settings.min_joint, fdr=settings.fdr, progress=of_surrogate
        )
        dealt = partition_of(dealt_edges, active_NS.shape[1], settings, of_surrogate)
        metrics, notes = agreement_metrics("ami_lexical", dealt, plain)
        metrics |= {
            "q/lexical": 0.0 if dealt is None else dealt.modularity,
            "q/lexical_n_edges": float(len(dealt_edges)),
        }
        notes |= {} if dealt is not None else {"q/lexical": NO_GRAPH + " among firings dealt anew"}
    if not len(edges):
        return metrics, notes | {"q/word_share": "no validated edge"}
    given_token = Strata.of(by_column(active_NS), token_N).expected(edges.source, edges.target)
    by_chance = edges.joint / np.exp(edges.pmi)
    share = (given_token - by_chance).sum() / (edges.joint - by_chance).sum()
    return metrics | {"q/word_share": float(share)}, notes
