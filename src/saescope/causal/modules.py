"""Communities of latents taken out whole: more selective than chance, and more than their members one by one?

Communities are those of `features.parquet`; the task of each is chosen on documents that are not measured.
Beside each stand a random set of as many latents of about its firings, mass and norm, and a set of as many
whose decoder rows point alike (k-means).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from saescope.causal.ablation import Ablation
from saescope.causal.attribution import Attribution, attribute
from saescope.causal.choice import Evidence, Family, evidence
from saescope.causal.controls import matched_families
from saescope.causal.halves import split_documents
from saescope.causal.latents import CHECK_DRAWS
from saescope.causal.part import Part
from saescope.causal.passes import measure, unmeasured
from saescope.causal.removal import LatentSet
from saescope.causal.selectivity import row_norms
from saescope.config import Ablate, AppConfig
from saescope.errors import SaeError
from saescope.extraction.codes import Codes
from saescope.extraction.setup import Setup
from saescope.runtime.meter import Meter
from saescope.sae.base import Sae
from saescope.sae.decoder_rows import decoder_rows
from saescope.stats.arrays import AnyIntArray, FloatArray, IntArray
from saescope.stats.causal import Effects, drawn_matrix, interval, measured_weights, task_matrix
from saescope.stats.causal_index import rank_correlation
from saescope.stats.causal_modules import decoder_sets, mean_selectivity, preferred_task, sample_members
from saescope.stats.savings import permutation_p

log = logging.getLogger(__name__)

PARTITIONS = {"module": "community", "module_within_token": "community_within_token"}
"""Start of a metric's name → column of `features.parquet`."""
MODULES = 8
"""Communities that are taken out, the largest."""
MIN_MEMBERS = 5
"""Latents a community needs."""
MODULE_TOKENS = 1024
"""Counted tokens of the measured documents on which they are taken out, spread over tasks."""
MEMBERS = 8
"""Members of each that are taken out one by one."""
DRAWS = 100
"""Random sets of each module that the attribution compares."""
ABLATED_DRAWS = 2
"""Random sets of each module that are taken out."""
NAMES = ("selectivity", "excess", "excess_ci_low", "excess_ci_high", "excess_decoder", "p", "synergy",
         "attribution_r")  # fmt: skip


@dataclass(frozen=True)
class Sets:
    """The largest communities of a partition with their control sets, [G] each."""

    numbers: list[int]
    """Of the communities."""
    modules: list[IntArray]
    random: list[list[IntArray]]
    """Draw after draw, none with a latent of the module's own."""
    null: list[list[IntArray]]
    """Draws for the p-value, which may have them (`matched_families`)."""
    decoder: list[IntArray]
    """Empty where the decoder has no rows of its own."""

    @property
    def ablated(self) -> dict[str, list[IntArray]]:
        """The sets that are taken out, by kind."""
        random = [members for draw in self.random for members in draw]
        kinds = {"module": self.modules, "random": random, "decoder": self.decoder}
        return {kind: sets for kind, sets in kinds.items() if sets}


def run_modules(
    cfg: AppConfig,
    job: Ablate,
    setup: Setup,
    coder: Sae,
    codes: Codes,
    features: pd.DataFrame,
    attribution: Attribution,
    run_dir: Path | None = None,
) -> Part:
    """The metrics of `NAMES` for each of `PARTITIONS`, and the table `causal_modules`.

    `attribution`: of the measured documents. Raises ProbeError for a task of a single document.
    """
    part, tables = Part(), []
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, cfg.seed)
    several = len(codes.tasks) > 1
    chosen = evidence(codes, halves.choose_D, codes.task_D, cfg.metrics) if several else None
    tokens = min(job.tokens, MODULE_TOKENS)
    ablation = Ablation(setup, coder, halves.measure_D, tokens, cfg.seed, codes.left_out)
    here: Attribution | None = None
    for start, column in PARTITIONS.items():
        keys = [f"causal/{start}_{name}" for name in NAMES]
        part.metrics |= dict.fromkeys(keys)
        reason = "a single task" if chosen is None else "these communities were not measured"
        if chosen is not None and column in features:
            reason = f"no community has {MIN_MEMBERS} latents that fire often enough"
            sets = control_sets(features[column].to_numpy(), chosen, coder, cfg.seed)
            if sets is not None:
                here = here or _attributed(ablation)
                taken_out = take_out(ablation, sets, here, cfg, f"of {column}", run_dir)
                compared = compare(
                    taken_out, sets, chosen, attribution, codes.tasks, job.bootstraps, cfg.seed
                )
                part.metrics |= {f"causal/{start}_{name}": value for name, value in compared.metrics.items()}
                compared.table.insert(0, "partition", column)
                tables.append(compared.table)
                reason = "a task or the members have no effect that was measured"
                if not sets.decoder:
                    reason = "the SAE's decoder has no rows of its own"
        part.notes |= {key: reason for key in keys if part.metrics[key] is None}
    if tables:
        part.left_out = [unmeasured(ablation, str(tokens), "ablation of communities")]
        part.tables["causal_modules"] = pd.concat(tables, ignore_index=True)
    return part


def control_sets(community_F: AnyIntArray, chosen: Evidence, coder: Sae, seed: int) -> Sets | None:
    """The sets of one partition; None where no community is large enough. Latents that can be chosen only."""
    able_F = chosen.supported_F & (chosen.count_F > 0) & (community_F >= 0)
    numbers, sizes = np.unique(community_F[able_F], return_counts=True)
    large = numbers[sizes >= MIN_MEMBERS][np.argsort(-sizes[sizes >= MIN_MEMBERS], kind="stable")]
    if not large.size:
        return None
    modules = [np.flatnonzero(able_F & (community_F == number)) for number in large[:MODULES]]
    pool_F = chosen.supported_F & (chosen.count_F > 0)
    norm_F, decoder = row_norms(coder), []
    try:
        rows_FD = decoder_rows(coder).float().cpu().numpy()
    except SaeError as error:
        log.info("no sets of like decoder rows: %s", error)
    else:
        sizes_G = [len(module) for module in modules]
        decoder = decoder_sets(rows_FD, sizes_G, pool_F, int(large.size), seed)

    # each by itself: the sets of one family share no latent, and communities can be most of them
    def drawn(draws: int, exchangeable: bool) -> list[list[IntArray]]:
        families = [
            matched_families(
                Family("module", 1.0, number, (module,)),
                chosen,
                norm_F,
                draws,
                1009 * seed + number,
                exchangeable,
            )
            for number, module in enumerate(modules)
        ]
        return [[of_module[draw].latents_K[0] for of_module in families] for draw in range(draws)]

    numbers = large[:MODULES].tolist()
    return Sets(numbers, modules, drawn(ABLATED_DRAWS, False), drawn(DRAWS, True), decoder)


@dataclass(frozen=True)
class TakenOut:
    """What the sets of one partition and some members by themselves do, on the same windows."""

    everything: list[IntArray]
    """The sets, kind after kind as in `Sets.ablated`."""
    effects: Effects
    """Of these, and behind them of the latents `alone`."""
    attributed_DG: FloatArray
    """The attributed effect of each set in each document."""
    alone: IntArray
    samples: list[tuple[IntArray, FloatArray]]
    """Of each module, which of its members, and their weights in the sum over all members."""
    task_D: AnyIntArray


def _attributed(ablation: Ablation) -> Attribution:
    """The attribution on the windows of an ablation."""
    documents = len(ablation.windows.task_D)
    with Meter("attribution for modules", ablation.num_tokens, "tokens") as meter:
        return attribute(
            ablation.batches(),
            ablation.coder,
            documents,
            seed=ablation.seed,
            draws=CHECK_DRAWS,
            advance=meter.advance,
        )


def take_out(
    ablation: Ablation, sets: Sets, here: Attribution, cfg: AppConfig, name: str, run_dir: Path | None
) -> TakenOut:
    """Take the modules, their controls and some of their members out; `here`: on the same windows."""
    effect_F: FloatArray = np.asarray(here.latents().sum(axis=0), dtype=np.float64).ravel()
    rng = np.random.default_rng(ablation.seed)
    samples = [sample_members(effect_F[module], MEMBERS, rng) for module in sets.modules]
    alone = np.unique(np.concatenate([m[at] for m, (at, _) in zip(sets.modules, samples, strict=True)]))
    everything = [members for family in sets.ablated.values() for members in family]
    named = [
        LatentSet(str(number), members)
        for number, members in enumerate([*everything, *(np.array([latent]) for latent in alone)])
    ]
    effects = measure(ablation, named, f"modules {name}", cfg, run_dir)
    attributed_DG = here.sets(membership(everything, ablation.coder.num_latents))
    return TakenOut(everything, effects, attributed_DG, alone, samples, ablation.windows.task_D)


@dataclass(frozen=True)
class Compared:
    """Numbers of one partition, without the start of their names, and rows of `causal_modules`."""

    metrics: dict[str, float | None]
    table: pd.DataFrame


def compare(
    taken_out: TakenOut,
    sets: Sets,
    chosen: Evidence,
    attribution: Attribution,
    tasks: tuple[str, ...],
    bootstraps: int,
    seed: int,
) -> Compared:
    """The modules beside their controls and their members."""
    everything, effects, task_D = taken_out.everything, taken_out.effects, taken_out.task_D
    kinds, num_tasks = sets.ablated, len(tasks)
    exact_GK = task_matrix(effects.kl_GD, effects.tokens_D, task_D, num_tasks)
    weight_BD = measured_weights(task_D, effects.tokens_D, bootstraps, seed)
    exact_BGK = drawn_matrix(effects.kl_GD, effects.tokens_D, task_D, num_tasks, weight_BD)
    own_G = preferred_task(everything, chosen.rate_FK)
    ends = np.cumsum([len(family) for family in kinds.values()])
    of_kind = dict(zip(kinds, map(slice, [0, *ends[:-1]], ends), strict=True))
    selectivity = {kind: mean_selectivity(exact_GK[at], own_G[at]) for kind, at in of_kind.items()}
    draws = {kind: mean_selectivity(exact_BGK[:, at], own_G[at]) for kind, at in of_kind.items()}
    low, high = interval(draws["module"] - draws["random"])
    members = _members_together(taken_out, sets.modules)
    whole_kl_G = effects.kl_GD[of_kind["module"]].sum(axis=1)
    attributed_GK = task_matrix(taken_out.attributed_DG.T, effects.tokens_D, task_D, num_tasks)
    values = {
        "selectivity": float(selectivity["module"]),
        "excess": float(selectivity["module"] - selectivity["random"]),
        "excess_ci_low": low,
        "excess_ci_high": high,
        "excess_decoder": float(selectivity["module"] - selectivity["decoder"]) if sets.decoder else np.nan,
        "p": attributed_p(attribution, sets, chosen, task_D, num_tasks),
        "synergy": float(whole_kl_G.sum() / members["kl"].sum()) if members["kl"].sum() > 0 else np.nan,
        "attribution_r": rank_correlation(exact_GK[: len(everything)].ravel(), attributed_GK.ravel()),
    }
    metrics = {
        name: None if value is None or not np.isfinite(value) else value for name, value in values.items()
    }
    frames = []
    for kind, at in of_kind.items():
        frame = _rows(everything[at], own_G[at], effects, at, attributed_GK[at], task_D, tasks)
        modules = np.tile(sets.numbers, len(everything[at]) // len(sets.numbers))
        frame.insert(0, "module", np.repeat(modules, len(tasks)))
        frame.insert(0, "kind", kind)
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    first = table["kind"] == "module"
    for name, value_G in members.items():
        # of all tasks together, so the same in every row of a module
        table.loc[first, f"members_{name}"] = np.repeat(value_G / effects.tokens_D.sum(), len(tasks))
    return Compared(metrics, table)


def _members_together(taken_out: TakenOut, modules: Sequence[IntArray]) -> dict[str, FloatArray]:
    """Sum of what the members of each module do one by one, over all documents, from the sample of them."""
    sums: dict[str, FloatArray] = {}
    for name, value_GD in (("ce", taken_out.effects.ce_GD), ("kl", taken_out.effects.kl_GD)):
        value_A = value_GD[len(taken_out.everything) :].sum(axis=1)
        sums[name] = np.array(
            [
                (weights * value_A[np.searchsorted(taken_out.alone, module[members])]).sum()
                for module, (members, weights) in zip(modules, taken_out.samples, strict=True)
            ]
        )
    return sums


def _rows(
    sets: Sequence[IntArray],
    own_G: IntArray,
    effects: Effects,
    at: slice,
    attributed_GK: FloatArray,
    task_D: AnyIntArray,
    tasks: tuple[str, ...],
) -> pd.DataFrame:
    """One row for each set and task: what it does there, nats a scored token, beside its attribution."""
    num_tasks = len(tasks)
    ce_GK, kl_GK = (
        task_matrix(value_GD[at], effects.tokens_D, task_D, num_tasks)
        for value_GD in (effects.ce_GD, effects.kl_GD)
    )
    return pd.DataFrame(
        {
            "latents": np.repeat([len(members) for members in sets], num_tasks),
            "task": np.tile(np.array(tasks, dtype=object), len(sets)),
            "own": (np.arange(num_tasks) == own_G[:, None]).ravel(),
            "ce": ce_GK.ravel(),
            "kl": kl_GK.ravel(),
            "attributed": attributed_GK.ravel(),
        }
    )


def attributed_p(
    attribution: Attribution, sets: Sets, chosen: Evidence, task_D: AnyIntArray, num_tasks: int
) -> float:
    """p of the mean selectivity of the modules among `DRAWS` random ones, all by attribution.

    Attribution makes the effect of a selective set too small rather than too large: p is on the safe side.
    """
    families = [sets.modules, *sets.null]
    everything = [members for family in families for members in family]
    mass_DG = attribution.sets(membership(everything, len(chosen.count_F)))
    matrix_GK = task_matrix(mass_DG.T, attribution.tokens_D, task_D, num_tasks)
    own_G = preferred_task(everything, chosen.rate_FK)
    size = len(sets.modules)
    values = [
        float(mean_selectivity(matrix_GK[start : start + size], own_G[start : start + size]))
        for start in range(0, len(everything), size)
    ]
    return permutation_p(values[0], values[1:])


def membership(sets: Sequence[AnyIntArray], num_latents: int) -> sp.csr_matrix:
    """1 where a latent belongs to a set, [F, G]."""
    latents = np.concatenate([np.asarray(members, dtype=np.int64) for members in sets])
    number = np.repeat(np.arange(len(sets)), [len(members) for members in sets])
    return sp.csr_matrix((np.ones(len(latents)), (latents, number)), shape=(num_latents, len(sets)))
