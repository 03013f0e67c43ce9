"""The latents of each task, chosen on the choosing half of the documents alone. Free of torch."""

from dataclasses import dataclass

import numpy as np

from saescope.config import Ablate, MetricsConfig
from saescope.errors import ConfigError
from saescope.extraction.codes import Codes
from saescope.stats.arrays import BoolArray, FloatArray, IntArray
from saescope.stats.beyond_words import beyond_words
from saescope.stats.density import supported
from saescope.stats.progress import Progress, no_progress
from saescope.stats.specialization import document_dispersion, specialization, task_counts


@dataclass(frozen=True)
class Evidence:
    """What the choosing documents say of F latents on K tasks."""

    rate_FK: FloatArray
    """Firings per token."""
    mass_FK: FloatArray
    """Sum of activations."""
    count_F: IntArray
    """Firings."""
    square_F: FloatArray
    """Sum of squared activations."""
    si_F: FloatArray
    """SI, NaN for a latent that never fired there."""
    supported_F: BoolArray
    """Fires often enough to be chosen: half the support that a run asks for, on half its documents."""

    @property
    def top_task_F(self) -> IntArray:
        """Task of the highest rate."""
        top_F: IntArray = self.rate_FK.argmax(axis=1).astype(np.int64)
        return top_F


def evidence(codes: Codes, choose_D: BoolArray, task_D: IntArray, cfg: MetricsConfig) -> Evidence:
    """Counts, masses and SI on the documents `choose_D`, with `task_D` as their tasks."""
    num_tasks, num_latents = len(codes.tasks), codes.num_latents
    counts_DF = codes.doc_counts_DF[np.flatnonzero(choose_D)]
    tokens_D, chosen_task_D = codes.tokens_D[choose_D], task_D[choose_D]
    counts_FK = task_counts(counts_DF, chosen_task_D, num_tasks)
    tokens_K = np.bincount(chosen_task_D, weights=tokens_D, minlength=num_tasks)
    si_F = specialization(
        counts_FK, tokens_K, document_dispersion(counts_DF, tokens_D, chosen_task_D, num_tasks)
    )
    doc_E = np.repeat(codes.doc_N, np.diff(codes.indptr))
    chosen_E = choose_D[doc_E]
    latent_E, acts_E = codes.latents[chosen_E].astype(np.int64), codes.acts[chosen_E].astype(np.float64)
    mass_FK = np.bincount(
        latent_E * num_tasks + task_D[doc_E[chosen_E]], acts_E, minlength=num_latents * num_tasks
    ).reshape(num_latents, num_tasks)
    count_F = counts_FK.sum(axis=1)
    docs_F = np.bincount(counts_DF.indices, minlength=num_latents)
    enough = supported(count_F, docs_F, min_count=(cfg.min_count + 1) // 2, min_docs=(cfg.min_docs + 1) // 2)
    square_F = np.bincount(latent_E, acts_E**2, minlength=num_latents)
    return Evidence(
        counts_FK / tokens_K,
        mass_FK.astype(np.float64),
        count_F,
        square_F.astype(np.float64),
        si_F,
        enough,
    )


def ranking_index(
    codes: Codes,
    choose_D: BoolArray,
    task_D: IntArray,
    latents: Evidence,
    select: str,
    progress: Progress = no_progress,
) -> FloatArray:
    """What ranks the latents for each task, [F, K]; minus infinity where a latent is not the task's.

    Except with `rate`, a latent belongs to the task of its highest rate alone. Raises ConfigError for
    `si_token` without token ids.
    """
    if select == "rate":
        index_FK = latents.rate_FK.copy()
    else:
        index_F = np.nan_to_num(latents.si_F)
        if select == "mutual_info":
            index_F = index_F * latents.rate_FK.sum(axis=1)
        if select == "si_token":
            index_F = _beyond_token(codes, choose_D, task_D, latents, progress)
        own_FK = latents.top_task_F[:, None] == np.arange(latents.rate_FK.shape[1])
        index_FK = np.where(own_FK, index_F[:, None], -np.inf)
    index_FK[~latents.supported_F | (latents.count_F == 0)] = -np.inf
    return index_FK


def _beyond_token(
    codes: Codes, choose_D: BoolArray, task_D: IntArray, latents: Evidence, progress: Progress
) -> FloatArray:
    if codes.token_N is None:
        raise ConfigError("causal.select=si_token needs the token ids of the probes; choose causal.select=si")
    choose_N = choose_D[codes.doc_N]
    candidates = np.flatnonzero(latents.supported_F)
    given_token = beyond_words(
        codes.active_NF[np.flatnonzero(choose_N)][:, candidates],
        codes.token_N[choose_N],
        codes.doc_N[choose_N],
        task_D,
        len(codes.tasks),
        draws=0,
        tested=False,
        progress=progress,
    )
    index_F = np.zeros(codes.num_latents)
    index_F[candidates] = given_token.si_F
    return index_F


def first_latents(index_FK: FloatArray, mass_FK: FloatArray, task: int, size: float) -> IntArray:
    """Latents of the task in the order of the index until they have the share `size` of its activation mass.

    All the task's latents where they have less.
    """
    order = np.argsort(-index_FK[:, task], kind="stable")
    order = order[np.isfinite(index_FK[order, task])]
    share = np.cumsum(mass_FK[order, task]) / max(mass_FK[:, task].sum(), np.finfo(float).tiny)
    first: IntArray = order[: int(np.searchsorted(share, size * (1 - 1e-9))) + 1].astype(np.int64)
    return first


@dataclass(frozen=True)
class Family:
    """One set of latents for each task, chosen in one way."""

    kind: str
    """`own`; controls: `matched`, `low_si`, `permuted`."""
    size: float
    """Share of activation mass that was requested, or number of latents."""
    draw: int
    """Number among the families of its kind and size."""
    latents_K: tuple[IntArray, ...]
    """The set of each task."""


def own_families(index_FK: FloatArray, latents: Evidence, cfg: Ablate) -> list[Family]:
    """The sets that `causal.select` chooses, one family a size."""
    tasks = range(latents.rate_FK.shape[1])

    def chosen(task: int, size: float) -> IntArray:
        share = size if cfg.num_latents is None else 1.0
        return first_latents(index_FK, latents.mass_FK, task, share)[: cfg.num_latents]

    return [Family("own", size, 0, tuple(chosen(task, size) for task in tasks)) for size in cfg.set_sizes]
