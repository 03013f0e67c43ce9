"""All numbers of one run about words: SI given the word, and the SI that words alone give."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray
from saescope.stats.beyond_words import beyond_words
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.progress import Progress, no_progress
from saescope.stats.row_blocks import some_columns
from saescope.stats.specialization import shrunk_index
from saescope.stats.specialization_summary import SpecializationSummary
from saescope.stats.word_classes import NO_WORDS

KINDS = ("token", "bigram")
"""A word is a token id, or a token id with the one before it."""
BEYOND = ("mean", "weighted", "null_mean", "significant_frac", "identified")
KEYS = (*(f"beyond_{kind}_{key}" for kind in KINDS for key in BEYOND), "lexical", "lexical_share")


@dataclass(frozen=True)
class WordsSummary:
    """SI and words; columns over all latents, NaN for a latent without support."""

    columns: dict[str, FloatArray]
    """`si_token`, `si_token_p`, `si_token_q`, the same for `bigram`, and `si_lexical`."""
    metrics: dict[str, float | None]
    notes: dict[str, str]
    """Why a metric is None."""


def summarise_words(
    active_NF: Csr,
    words: dict[str, AnyIntArray] | None,
    doc_N: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    supported_F: BoolArray,
    si: SpecializationSummary,
    *,
    draws: int,
    fdr: float = 0.05,
    seed: int = 0,
    progress: Progress = no_progress,
) -> WordsSummary:
    """The si/beyond_* and si/lexical* metrics, over the supported latents.

    `active_NF`: tokens in document order; `words`: number of each token's word, by kind of `KINDS`, negative
    where there is none; None where token ids are not known. `si`: of the same latents. `draws`: behind
    the means by chance; 0 leaves everything out.

    `si_lexical` is the index of the firings expected when those on a token id are dealt anew among all its
    occurrences, one by one, shrunk as the latent's own index is: that of a latent which only reads the token.
    """
    num_latents = len(supported_F)
    names = [f"si_{kind}{end}" for kind in KINDS for end in ("", "_p", "_q")] + ["si_lexical"]
    columns = {name: np.full(num_latents, np.nan) for name in names}
    metrics: dict[str, float | None] = {f"si/{key}": None for key in KEYS}
    scored = np.flatnonzero(supported_F)
    if reason := _left_out(words, draws, num_tasks, scored.size):
        return WordsSummary(columns, metrics, dict.fromkeys(metrics, reason))
    assert words is not None
    active = some_columns(active_NF, scored)
    rate_S = si.rates_FK[scored].sum(axis=1)
    for kind in KINDS:
        beyond = beyond_words(
            active, words[kind], doc_N, task_D, num_tasks, draws=draws, seed=seed, progress=progress
        )
        q_S = benjamini_hochberg(beyond.p_F)
        columns[f"si_{kind}"][scored] = beyond.si_F
        columns[f"si_{kind}_p"][scored], columns[f"si_{kind}_q"][scored] = beyond.p_F, q_S
        metrics |= {
            f"si/beyond_{kind}_mean": float(beyond.si_F.mean()),
            f"si/beyond_{kind}_weighted": float(np.average(beyond.si_F, weights=rate_S)),
            f"si/beyond_{kind}_null_mean": float(beyond.null_F.mean()),
            f"si/beyond_{kind}_significant_frac": float((q_S <= fdr).mean()),
            f"si/beyond_{kind}_identified": float(beyond.identified_F.sum() / si.counts_FK[scored].sum()),
        }
        if kind == "token":
            tokens_K = np.bincount(np.asarray(task_D)[doc_N], minlength=num_tasks)
            rate_SK = beyond.lexical_FK / tokens_K
            shares_KS = (rate_SK / rate_SK.sum(axis=1, keepdims=True)).T.copy()
            columns["si_lexical"][scored] = shrunk_index(shares_KS, si.shrinkage[scored])
    lexical = float(columns["si_lexical"][scored].mean())
    metrics["si/lexical"] = lexical
    mean, null = si.metrics["si/mean"], si.metrics["si/null_mean"]
    if mean is not None and null is not None and mean > null:
        metrics["si/lexical_share"] = (lexical - null) / (mean - null)
    notes = {key: "no SI above chance to be a share of" for key, value in metrics.items() if value is None}
    return WordsSummary(columns, metrics, notes)


def _left_out(
    words: dict[str, AnyIntArray] | None, draws: int, num_tasks: int, num_scored: int
) -> str | None:
    """Why nothing can be said, or nothing was asked for."""
    if draws == 0:
        return "switched off"
    if words is None:
        return NO_WORDS
    if num_tasks < 2:
        return "a single task"
    return None if num_scored else "no supported latent"
