"""The causal index of every latent, and how far it may be trusted (`causal/attribution_r`).

Firing is read on the documents that choose, effects are attributed on those that measure, so that no document
takes part in both sides of a correlation.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from saescope.causal.ablation import Ablation
from saescope.causal.attribution import Attribution, attribute
from saescope.causal.halves import split_documents
from saescope.causal.part import Part
from saescope.causal.passes import measure, unmeasured
from saescope.causal.removal import LatentSet
from saescope.config import AppConfig, NoCausal
from saescope.extraction.codes import Codes
from saescope.extraction.setup import Setup
from saescope.left_out import LeftOut
from saescope.runtime.meter import Meter, Steps
from saescope.sae.base import Sae
from saescope.stats.arrays import BoolArray, FloatArray
from saescope.stats.causal_index import (
    Agreement,
    DocumentSums,
    agreement,
    causal_index,
    own_share,
    permutation_p,
    rank_correlation,
    rank_correlation_interval,
)
from saescope.stats.progress import Progress

MIN_FIRINGS = 20
"""Firings on the attributed tokens that a latent needs for an index …"""
MIN_DOCS = 5
"""… and documents they lie in."""
CHECKED_LATENTS = 64
"""Latents taken out one at a time, at random, to check the attribution."""
CHECK_TOKENS = 1024
"""Counted tokens of the check, spread over tasks."""
CHECK_DRAWS = 4
"""Draws of labels on them: tokens are few there."""
RESAMPLES = 200
"""Document resamples behind the interval of the rank correlation, at most: two indices a resample."""
RANKS = ("si_rank_corr", "si_rank_corr_ci_low", "si_rank_corr_ci_high", "si_rank_corr_given_firing",
         "beyond_rank_corr")  # fmt: skip
TRUST = ("attribution_r", "attribution_ratio", "attribution_ratio_high")
COLUMNS = ("causal_si", "causal_own", "causal_p")
"""Of `features.parquet`."""


def run_attribution(
    cfg: AppConfig,
    tokens: int,
    setup: Setup,
    coder: Sae,
    codes: Codes,
    features: pd.DataFrame,
    run_dir: Path | None = None,
) -> tuple[Part, Attribution]:
    """The columns `causal_si`, `causal_own` and `causal_p`, and the metrics of `RANKS` and `TRUST`.

    `tokens`: counted tokens of the measured documents to attribute. The attribution is handed on. Raises
    ProbeError for a task of a single document.
    """
    assert not isinstance(cfg.causal, NoCausal)
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, cfg.seed)
    ablation = Ablation(setup, coder, halves.measure_D, tokens, cfg.seed, codes.left_out)
    with Meter("attribution", ablation.num_tokens, "tokens") as meter:
        result = attribute(ablation.batches(), coder, len(codes.task_D), seed=cfg.seed, advance=meter.advance)
    part = Part()
    supported_F, beyond_F = features["supported"].to_numpy(bool), features["si_token"].to_numpy(float)
    with Steps("causal index") as steps:
        columns, metrics = index_of_latents(
            result,
            codes,
            halves.choose_D,
            supported_F,
            beyond_F,
            permutations=cfg.metrics.permutations,
            resamples=min(cfg.causal.bootstraps, RESAMPLES),
            seed=cfg.seed,
            progress=steps,
        )
    part.columns |= columns
    part.metrics |= {f"causal/{name}": metrics.get(name) for name in RANKS}
    scored = int(np.isfinite(columns["causal_si"]).sum())
    part.metrics["causal/scored"] = scored
    supported = int(supported_F.sum())
    why = (
        f"The latent does not fire {MIN_FIRINGS} times in {MIN_DOCS} of the attributed documents: it has no "
        "causal SI."
    )
    part.left_out = [
        unmeasured(ablation, f"{tokens} attributed", "attribution"),
        LeftOut("latents", supported - scored, supported, why, "attribution"),
    ]
    reason = (
        "a single task"
        if len(codes.tasks) < 2
        else f"{scored} latents have {MIN_FIRINGS} firings in {MIN_DOCS} of the attributed documents: "
        "raise causal.tokens"
    )
    part.notes |= {key: reason for key, value in part.metrics.items() if value is None}
    if np.isnan(beyond_F).all() and len(codes.tasks) > 1:
        part.notes["causal/beyond_rank_corr"] = "SI beyond words was not measured"
    few = Ablation(setup, coder, halves.measure_D, min(tokens, CHECK_TOKENS), cfg.seed, codes.left_out)
    trust = check(few, supported_F, cfg, run_dir)
    values = (None, None, None) if trust is None else (trust.r, trust.median_ratio, trust.largest_ratio)
    of_trust = dict(zip((f"causal/{name}" for name in TRUST), values, strict=True))
    part.metrics |= of_trust
    part.notes |= {key: "too few latents have an effect" for key, value in of_trust.items() if value is None}
    return part, result


def index_of_latents(
    result: Attribution,
    codes: Codes,
    choose_D: BoolArray,
    supported_F: BoolArray,
    beyond_F: FloatArray,
    *,
    permutations: int,
    resamples: int,
    seed: int,
    progress: Progress,
) -> tuple[Mapping[str, FloatArray], dict[str, float | None]]:
    """Columns over all latents, NaN where too little fired; metrics of `RANKS`, none for a single task.

    `beyond_F`: SI beyond the token of each latent, of all documents.
    """
    num_tasks, num_latents = len(codes.tasks), codes.num_latents
    columns = {name: np.full(num_latents, np.nan) for name in COLUMNS}
    if num_tasks < 2:
        return columns, {}
    firings_DF = result.firings()
    fired_F = np.asarray(firings_DF.sum(axis=0)).ravel()
    docs_F = np.asarray((firings_DF > 0).sum(axis=0)).ravel()
    scored = np.flatnonzero(supported_F & (fired_F >= MIN_FIRINGS) & (docs_F >= MIN_DOCS))
    if not scored.size:
        return columns, {}
    measured = result.tokens_D, codes.task_D, num_tasks
    mass_DF = result.latents()[:, scored]
    index = causal_index(mass_DF, *measured)
    chosen_tokens_D = np.where(choose_D, codes.tokens_D, 0)
    chosen = DocumentSums(codes.doc_counts_DF[:, scored], chosen_tokens_D, codes.task_D, num_tasks)
    rates_FK = chosen.rates(chosen.labels())
    own_F = np.where(rates_FK.sum(axis=1) > 0, rates_FK.argmax(axis=1), -1)
    columns["causal_si"][scored] = index.si_F
    columns["causal_own"][scored] = own_share(index.rates_FK, own_F)
    columns["causal_p"][scored] = permutation_p(
        mass_DF, *measured, permutations=permutations, seed=seed, progress=progress
    )
    chosen_si_F = chosen.index(chosen.dispersion())
    firing = causal_index(firings_DF[:, scored], *measured)
    interval = rank_correlation_interval(
        chosen,
        DocumentSums(mass_DF, *measured),
        np.ones(scored.size, dtype=np.bool_),
        resamples=resamples,
        seed=seed,
        progress=progress,
    )
    low, high = interval or (None, None)
    return columns, {
        "si_rank_corr": rank_correlation(chosen_si_F, index.si_F),
        "si_rank_corr_ci_low": low,
        "si_rank_corr_ci_high": high,
        "si_rank_corr_given_firing": rank_correlation(chosen_si_F, index.si_F, firing.si_F),
        "beyond_rank_corr": rank_correlation(beyond_F[scored], index.si_F),
    }


def check(
    ablation: Ablation, supported_F: BoolArray, cfg: AppConfig, run_dir: Path | None = None
) -> Agreement | None:
    """Attribution against ablation of `CHECKED_LATENTS` single latents on the windows of `ablation`.

    Supported latents at random among those that have an effect there; None where there are fewer than three.
    """
    num_documents, seed = len(ablation.windows.task_D), ablation.seed
    result = attribute(ablation.batches(), ablation.coder, num_documents, seed=seed, draws=CHECK_DRAWS)
    approximate_F = np.asarray(result.latents().sum(axis=0)).ravel()
    candidates = np.flatnonzero(supported_F & (approximate_F > 0))
    if candidates.size < 3:
        return None
    latents = np.sort(np.random.default_rng(seed).permutation(candidates)[:CHECKED_LATENTS])
    sets = [LatentSet(str(latent), np.array([latent])) for latent in latents]
    effects = measure(ablation, sets, "check of the attribution", cfg, run_dir)
    return agreement(effects.kl_GD.sum(axis=1), approximate_F[latents])
