"""Codes → the table of latents, the table of edges, and the metrics of SI and Q. Free of torch."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from saescope.analysis.resamples import BEYOND, MODULARITY, Draws, Resamples
from saescope.config import MetricsConfig
from saescope.extraction.codes import Codes
from saescope.metrics import CATALOGUE
from saescope.stats.arrays import FloatArray
from saescope.stats.beyond_words import beyond_words
from saescope.stats.beyond_words_summary import WordsSummary, summarise_words
from saescope.stats.coactivation import Edges
from saescope.stats.density import feature_statistics, log10_density_histogram, supported
from saescope.stats.graph_metrics import ModularitySettings
from saescope.stats.matched_summary import summarise_matched
from saescope.stats.modularity_replicates import modularity_replicates
from saescope.stats.modularity_summary import ModularitySummary, summarise_modularity
from saescope.stats.permutation import SI_EDGES
from saescope.stats.progress import Progress, no_progress
from saescope.stats.resampling import document_groups
from saescope.stats.row_blocks import some_columns, some_rows
from saescope.stats.specialization_summary import (
    SpecializationSettings,
    SpecializationSummary,
    summarise_specialization,
)
from saescope.stats.within_summary import summarise_within
from saescope.stats.word_classes import bigrams

log = logging.getLogger(__name__)

LOG_ACT_EDGES = np.linspace(-3.0, 4.0, 71)
"""Bins of log10 activation, the same in every run, so that histograms can be compared."""

RESAMPLED_LATENTS = 2048
"""Latents whose index given the word is computed anew without each group of documents, evenly chosen.

How far the mean moves is what counts: of 4,503 latents of SmolLM2-135M so many gave a standard error 2 %
(token) and 6 % (bigram) above that of all, in half the time; 512 gave 18 % and 38 %.
"""

BROWSE_ROWS = 500
"""Latents in the table for a dashboard."""


@dataclass(frozen=True)
class FeatureResults:
    """Tables, metrics and histograms of the latents, computed from the codes."""

    features: pd.DataFrame
    """One row per latent: `features.parquet`."""

    edges: pd.DataFrame
    """Validated edges, source < target: `edges.parquet`."""

    metrics: dict[str, float | None]
    """`features/*`, `si/*`, `q/*`."""

    notes: dict[str, str]
    """Why a metric is null."""

    histograms: dict[str, dict[str, list[float]]]
    """Counts over fixed edges: `histograms.json`."""

    matched: dict[str, Any]
    """SI and Q at standard amounts of evidence, for sweeps: `matched.json`."""
    resamples: Resamples
    """Metrics with the documents drawn anew: `resamples.parquet`."""
    edges_within_token: pd.DataFrame
    """Edges that token ids do not explain: `edges_within_token.parquet`."""


def analyse(codes: Codes, cfg: MetricsConfig, seed: int, progress: Progress = no_progress) -> FeatureResults:
    """Feature statistics, SI with its null and interval, SI beyond words, Q with its nulls."""
    live_F = supported(codes.count_F, codes.docs_F, min_count=cfg.min_count, min_docs=cfg.min_docs)
    si = summarise_specialization(
        codes.doc_counts_DF,
        codes.tokens_D,
        codes.task_D,
        len(codes.tasks),
        live_F,
        SpecializationSettings(cfg.permutations, cfg.bootstraps, fdr=cfg.si_fdr, seed=seed),
        progress,
    )
    word_numbers = _words(codes)
    words = summarise_words(
        codes.active_NF,
        word_numbers,
        codes.doc_N,
        codes.task_D,
        len(codes.tasks),
        live_F,
        si,
        draws=cfg.word_draws,
        fdr=cfg.si_fdr,
        seed=seed,
        progress=progress,
    )
    graph = ModularitySettings(
        min_joint=cfg.min_joint,
        fdr=cfg.edge_fdr,
        resolution=cfg.resolution,
        leiden_seeds=cfg.leiden_seeds,
        rewirings=cfg.rewirings,
        null_tokens=cfg.null_tokens,
        curveball_passes=cfg.curveball_passes,
        block_tokens=cfg.block_tokens,
        seed=seed,
        words=cfg.word_draws > 0,
    )
    graph_codes = codes.of_documents(codes.documents_within(cfg.graph_tokens))
    if graph_codes.num_tokens < codes.num_tokens:
        log.info(
            "graph of joint firings: %d of %d tokens (metrics.graph_tokens)",
            graph_codes.num_tokens,
            codes.num_tokens,
        )
    unit_N = unit_numbers(graph_codes, cfg)
    q = summarise_modularity(
        graph_codes.active_NF,
        graph_codes.task_N,
        len(codes.tasks),
        live_F,
        si.top_task,
        graph,
        unit_N=unit_N,
        token_N=graph_codes.token_N,
        doc_N=graph_codes.doc_N,
        progress=progress,
    )
    within_metrics, within_notes = summarise_within(
        graph_codes.active_NF,
        live_F,
        _strata(graph_codes, word_numbers if graph_codes is codes else _words(graph_codes)),
        cfg.within,
        graph,
        unit_N=unit_N,
        progress=progress,
    )
    matched = summarise_matched(
        codes.active_NF,
        codes.doc_counts_DF,
        codes.tokens_D,
        codes.task_D,
        len(codes.tasks),
        live_F,
        firings=cfg.min_count,
        draws=cfg.matched_draws,
        resolution=cfg.resolution,
        seed=seed,
        unit_N=unit_numbers(codes, cfg),
        progress=progress,
    )
    metrics = {**feature_statistics(codes.count_F, codes.num_tokens, live_F), **si.metrics}
    metrics |= words.metrics | q.metrics | within_metrics
    counts = {entry.key for entry in CATALOGUE if entry.unit == "count"}
    metrics |= {key: int(value) for key, value in metrics.items() if key in counts and value is not None}
    return FeatureResults(
        _feature_table(codes, live_F, si, words, q),
        _edge_table(q.edges, q.p_E),
        metrics,
        {**si.notes, **words.notes, **q.notes, **within_notes},
        _histograms(codes, live_F, si),
        matched.plain(),
        Resamples(
            si.resamples,
            _beyond_words_draws(codes, cfg, live_F, words, word_numbers, progress)
            | _modularity_draws(graph_codes, cfg, live_F, q, unit_N, progress),
        ),
        _edge_table(q.within_token_edges, q.within_token_p_E),
    )


def most_specialised(features: pd.DataFrame) -> pd.DataFrame:
    """The supported latents with the highest SI, at most `BROWSE_ROWS`, in the main columns."""
    live = features[features.supported].sort_values("si", ascending=False).head(BROWSE_ROWS)
    return live[
        [
            "latent",
            "si",
            "si_q",
            "si_excess",
            "top_task",
            "density",
            "count",
            "docs",
            "community",
            "degree",
        ]
    ]


def _modularity_draws(
    codes: Codes, cfg: MetricsConfig, live_F: Any, q: ModularitySummary, unit_N: Any, progress: Progress
) -> Draws:
    """Q with each group of documents left out; nothing without groups or without a graph."""
    group_N = document_groups(codes.task_D, cfg.document_groups)[codes.doc_N]
    if group_N.max(initial=-1) < 1 or not q.metrics[MODULARITY.key]:
        return {}
    replicates_G = modularity_replicates(
        codes.active_NF,
        live_F,
        q.community_F,
        group_N,
        min_joint=cfg.min_joint,
        fdr=cfg.edge_fdr,
        resolution=cfg.resolution,
        unit_N=unit_N,
        num_edges=len(q.edges),
        progress=progress,
    )
    return {MODULARITY.key: replicates_G}


def _beyond_words_draws(
    codes: Codes,
    cfg: MetricsConfig,
    live_F: Any,
    words: WordsSummary,
    word_numbers: dict[str, Any] | None,
    progress: Progress,
) -> Draws:
    """Mean SI given the word with each group of documents left out."""
    group_N = document_groups(codes.task_D, cfg.document_groups)[codes.doc_N]
    num_groups = int(group_N.max(initial=-1)) + 1
    measured = {kind: entry for kind, entry in BEYOND.items() if words.metrics[entry.key] is not None}
    if num_groups < 2 or word_numbers is None:
        return {}
    live = np.flatnonzero(live_F)
    if live.size > RESAMPLED_LATENTS:
        live = live[np.arange(RESAMPLED_LATENTS) * live.size // RESAMPLED_LATENTS]
    active_NS = some_columns(codes.active_NF, live)
    draws: Draws = {}
    for kind, entry in measured.items():
        means = []
        progress(f"document groups ({kind})", 0, num_groups)
        for group in range(num_groups):
            tokens = np.flatnonzero(group_N != group)
            beyond = beyond_words(
                some_rows(active_NS, tokens),
                word_numbers[kind][tokens],
                codes.doc_N[tokens],
                codes.task_D,
                len(codes.tasks),
                draws=0,
                tested=False,
            )
            means.append(float(beyond.si_F.mean()))
            progress(f"document groups ({kind})", group + 1, num_groups)
        if np.isfinite(means).all():
            draws[entry.key] = np.array(means)
    return draws


def unit_numbers(codes: Codes, cfg: MetricsConfig) -> Any:
    """Number of the unit (chunk, document) each token lies in; None: units are the tokens."""
    match cfg.unit:
        case "chunk":
            return codes.chunks_N(cfg.chunk_tokens)
        case "document":
            return codes.doc_N
        case _:
            return None


def _words(codes: Codes) -> dict[str, Any] | None:
    """The word of each token by kind; None where token ids are not known."""
    if codes.token_N is None or codes.previous_N is None:
        return None
    return {"token": codes.token_N, "bigram": bigrams(codes.previous_N, codes.token_N)}


def _strata(codes: Codes, word_numbers: dict[str, Any] | None) -> dict[str, Any]:
    """The stratum of each token by kind; None where token ids are not known."""
    bigram_N = token_task_N = None
    if word_numbers is not None:
        token_N, bigram_N = word_numbers["token"].astype(np.int64), word_numbers["bigram"]
        token_task_N = np.where(token_N < 0, -1, token_N * len(codes.tasks) + codes.task_N)
    return {
        "task": codes.task_N,
        "token_task": token_task_N,
        "bigram": bigram_N,
        "position": codes.position_N,
    }


def _edge_table(edges: Edges, p_E: FloatArray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": edges.source,
            "target": edges.target,
            "joint": edges.joint,
            "pmi": edges.pmi,
            "p": p_E,
            "rank_tail": edges.rank_tail,
        }
    )


def _feature_table(
    codes: Codes, live_F: Any, si: SpecializationSummary, words: WordsSummary, q: ModularitySummary
) -> pd.DataFrame:
    names = np.array([*codes.tasks, None], dtype=object)
    table: dict[str, Any] = {
        "latent": np.arange(codes.num_latents),
        "count": codes.count_F,
        "docs": codes.docs_F,
        "density": codes.count_F / codes.num_tokens,
        "mean_act": codes.mean_act_F,
        "max_act": codes.max_act_F,
        "alive": codes.count_F > 0,
        "supported": live_F,
        "si": si.si,
        "si_independent": si.si_independent,
        "si_naive": si.si_naive,
        "si_null": si.si_null,
        "si_excess": si.si_excess,
        "si_p": si.si_p,
        "si_q": si.si_q,
        **words.columns,
        "top_task": names[si.top_task],
    }
    table |= {f"rate_{task}": si.rates_FK[:, t] for t, task in enumerate(codes.tasks)}
    table |= {"community": q.community_F, "community_within_token": q.within_token_community_F}
    table |= {"degree": q.degree_F}
    return pd.DataFrame(table)


def _histograms(codes: Codes, live_F: Any, si: SpecializationSummary) -> dict[str, dict[str, list[float]]]:
    alive = codes.count_F > 0
    density_counts, density_edges = log10_density_histogram(codes.count_F, codes.num_tokens)
    counts = {
        "si": (SI_EDGES, np.histogram(np.clip(si.si[live_F], 0, 1), SI_EDGES)[0]),
        "si_null_draws": (SI_EDGES, si.null_draw_counts),
        "log10_density": (density_edges, density_counts),
        "log10_max_act": (LOG_ACT_EDGES, np.histogram(np.log10(codes.max_act_F[alive]), LOG_ACT_EDGES)[0]),
    }
    return {name: {"edges": edges.tolist(), "counts": n.tolist()} for name, (edges, n) in counts.items()}
