"""`causal=ablate`: the latents of each task are taken out; what it costs there and on the other tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from saescope.analysis.resamples import OfSome
from saescope.causal.ablation import Ablation
from saescope.causal.choice import Family, evidence, own_families, ranking_index
from saescope.causal.controls import low_si_families, matched_families, permuted_labels
from saescope.causal.halves import Halves, split_documents
from saescope.causal.part import Part
from saescope.causal.passes import measure, unmeasured
from saescope.causal.removal import LatentSet
from saescope.causal.replacements import Replacements
from saescope.config import Ablate, AppConfig
from saescope.errors import SaeError
from saescope.extraction.codes import Codes
from saescope.extraction.setup import Setup
from saescope.runtime.meter import Steps
from saescope.sae.base import Sae, SparseCodes
from saescope.stats.arrays import FloatArray, IntArray
from saescope.stats.causal import (
    Effects,
    Summary,
    drawn_matrix,
    geometric_ratio,
    hurts_own_most,
    interval,
    matched_p,
    measured_weights,
    own_and_others,
    per_unit,
    summarise,
    task_matrix,
    unit_selectivity,
)
from saescope.stats.causal_index import rank_correlation
from saescope.stats.resampling import draws_digest

KEYS = (
    "selectivity", "selectivity_ci_low", "selectivity_ci_high", "own_ce", "own_ce_ci_low", "own_ce_ci_high",
    "others_ce", "own_worst", "ratio", "ratio_ci_low", "ratio_ci_high", "ratio_over_norm", "ratio_matched",
    "excess", "excess_ci_low", "excess_ci_high", "p", "draws", "sets_attribution_r", "per_firing", "per_norm",
)  # fmt: skip


class SetEstimate(Protocol):
    """What taking out sets does, estimated without ablating them."""

    @property
    def tokens_D(self) -> IntArray:
        """Tokens of each document behind the estimate."""
        ...

    def sets(self, member_FG: sp.csr_matrix) -> FloatArray:
        """KL in each document [D, G], nats summed over tokens; a set is a column of the 0/1 matrix."""
        ...


def run_ablation(
    cfg: AppConfig,
    job: Ablate,
    setup: Setup,
    coder: Sae,
    codes: Codes,
    run_dir: Path | None = None,
    estimate: SetEstimate | None = None,
) -> Part:
    """Choose each task's latents on half of the documents, ablate them on the other half.

    `estimate` gives the effects of the matched draws; None: they are ablated, on fewer tokens.
    Raises ProbeError for a task of a single document. With a single task every key is null.
    """
    if len(codes.tasks) < 2:
        why = "a single task: there is no other one to compare with"
        keys = [f"causal/{key}" for key in KEYS]
        return Part(dict.fromkeys(keys), dict.fromkeys(keys, why))
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, cfg.seed)
    families = _families(cfg, job, coder, codes, halves)
    ablation = Ablation(setup, coder, halves.measure_D, job.tokens, cfg.seed, codes.left_out)
    replacements = Replacements.of(job, setup, coder, codes.task_D, halves.choose_D, cfg.seed, codes.left_out)
    ablated = [family for family in families if family.kind != "null"]
    effects = measure(ablation, sets_of(ablated, replacements), "sets", cfg, run_dir)
    compared = [_headline(families, job), *(family for family in families if family.kind == "null")]
    attributed_GK: FloatArray | None = None
    if estimate is None:
        few = Ablation(setup, coder, halves.measure_D, job.draw_tokens, cfg.seed, codes.left_out)
        drawn = measure(few, sets_of(compared, replacements), "draws", cfg, run_dir)
        p = _p(drawn.kl_GD, drawn.tokens_D, codes.task_D, len(codes.tasks))
    else:
        kl_DG = estimate.sets(_members(compared, codes.num_latents))
        p = _p(kl_DG.T, estimate.tokens_D, codes.task_D, len(codes.tasks))
        of_ablated_DG = estimate.sets(_members(ablated, codes.num_latents))
        attributed_GK = task_matrix(of_ablated_DG.T, estimate.tokens_D, codes.task_D, len(codes.tasks))
    result = Selectivity(job, codes.tasks, codes.task_D, ablated, effects, cfg.seed)
    part = Part(result.metrics(), warnings=_warnings(codes.tasks, families, job))
    part.resamples = result.resamples()
    part.left_out = [unmeasured(ablation, f"causal.tokens={job.tokens}", "ablation")]
    part.metrics |= {"causal/p": p, "causal/draws": job.draws}
    part.metrics["causal/sets_attribution_r"] = result.agreement(attributed_GK)
    part.notes = {key: result.why_null(key) for key, value in part.metrics.items() if value is None}
    part.tables["causal"] = result.table(evidence_mass(codes, halves), attributed_GK)
    return part


def _families(cfg: AppConfig, job: Ablate, coder: Sae, codes: Codes, halves: Halves) -> list[Family]:
    """The own sets of every size, and for the headline's size the controls."""
    choose_D = halves.choose_D
    with Steps("causal, choice of latents") as steps:
        latents = evidence(codes, choose_D, codes.task_D, cfg.metrics)
        index_FK = ranking_index(codes, choose_D, codes.task_D, latents, job.select, steps)
        families = own_families(index_FK, latents, job)
        own = _headline(families, job)
        measured = evidence(codes, halves.measure_D, codes.task_D, cfg.metrics)
        measured = replace(measured, supported_F=latents.supported_F)
        norm_F = row_norms(coder)
        families += matched_families(own, measured, norm_F, job.ablated_draws, cfg.seed)
        families += matched_families(own, measured, norm_F, job.draws, cfg.seed, exchangeable=True)
        families += low_si_families(own, latents, job.ablated_draws, cfg.seed)
        documents = np.flatnonzero(choose_D)
        for draw, labels_D in enumerate(
            permuted_labels(codes.task_D, documents, job.ablated_draws, cfg.seed)
        ):
            wrong = evidence(codes, choose_D, labels_D, cfg.metrics)
            index_FK = ranking_index(codes, choose_D, labels_D, wrong, job.select, steps)
            (chosen,) = [f for f in own_families(index_FK, wrong, job) if f.size == own.size]
            families.append(Family("permuted", own.size, draw, chosen.latents_K))
    return families


def _headline(families: Sequence[Family], job: Ablate) -> Family:
    return next(f for f in families if f.kind == "own" and f.size == job.headline_size)


def row_norms(coder: Sae) -> FloatArray:
    """‖d_f‖ of every latent, [F]; ones where the SAE cannot decode a latent by itself."""
    norms = np.ones(coder.num_latents)
    device = next((t.device for t in (*coder.parameters(), *coder.buffers())), torch.device("cpu"))
    none = torch.zeros(0, dtype=torch.int64, device=device)
    with torch.no_grad():
        try:
            bias_1D = coder.decode(SparseCodes(none.new_zeros(1), none, none.float()))
            for start in range(0, coder.num_latents, 4096):
                latents = torch.arange(start, min(start + 4096, coder.num_latents), device=device)
                alone = SparseCodes(torch.ones_like(latents), latents, torch.ones_like(latents).float())
                rows_FD = coder.decode(alone) - bias_1D
                norms[start : start + len(latents)] = rows_FD.double().norm(dim=1).cpu().numpy()
        except (SaeError, AssertionError):
            return np.ones(coder.num_latents)
    return norms


def sets_of(families: Sequence[Family], replacements: Replacements) -> list[LatentSet]:
    """The sets of all families, family after family, task after task."""
    return [
        replacements.latent_set(f"{family.kind}.{family.size:g}.{family.draw}.{task}", latents_F, task)
        for family in families
        for task, latents_F in enumerate(family.latents_K)
    ]


def _members(families: Sequence[Family], num_latents: int) -> sp.csr_matrix:
    """1 where a latent belongs to a set, [F, G]."""
    sets = [latents_F for family in families for latents_F in family.latents_K]
    column = np.repeat(np.arange(len(sets)), [len(latents_F) for latents_F in sets])
    ones = np.ones(len(column))
    return sp.csr_matrix((ones, (np.concatenate(sets), column)), shape=(num_latents, len(sets)))


def _p(kl_GD: FloatArray, tokens_D: IntArray, task_D: IntArray, num_tasks: int) -> float:
    """p of the KL ratio of the first family among those of the others."""
    own_G = np.arange(num_tasks)
    kl_GK = task_matrix(kl_GD, tokens_D, task_D, num_tasks)
    ratios = [
        float(geometric_ratio(*own_and_others(kl_GK[at : at + num_tasks], own_G)))
        for at in range(0, len(kl_GK), num_tasks)
    ]
    return matched_p(ratios[0], ratios[1:])


def _warnings(tasks: tuple[str, ...], families: Sequence[Family], job: Ablate) -> list[str]:
    own = _headline(families, job)
    empty = [task for task, latents_F in zip(tasks, own.latents_K, strict=True) if not len(latents_F)]
    if not empty:
        return []
    return [
        f"causal: no latent with enough firings prefers {', '.join(empty)}; nothing was ablated for it, "
        "which counts as no selectivity"
    ]


def evidence_mass(codes: Codes, halves: Halves) -> FloatArray:
    """Share of each task's activation mass in each latent, over the measured half, [F, K]."""
    doc_E = np.repeat(codes.doc_N, np.diff(codes.indptr))
    measured_E = halves.measure_D[doc_E]
    num_tasks = len(codes.tasks)
    key_E = codes.latents[measured_E].astype(np.int64) * num_tasks + codes.task_D[doc_E[measured_E]]
    mass_FK = np.bincount(
        key_E, codes.acts[measured_E].astype(np.float64), minlength=codes.num_latents * num_tasks
    ).reshape(codes.num_latents, num_tasks)
    share_FK: FloatArray = mass_FK / np.maximum(mass_FK.sum(axis=0), np.finfo(float).tiny)
    return share_FK


@dataclass(frozen=True)
class Selectivity:
    """The numbers of all ablated families; their sets in `effects` family after family, task after task."""

    job: Ablate
    tasks: tuple[str, ...]
    task_D: IntArray
    families: Sequence[Family]
    effects: Effects
    seed: int

    @property
    def own_K(self) -> IntArray:
        """The task of each set of a family."""
        return np.arange(len(self.tasks))

    def of(self, family: int) -> Effects:
        """The effects of one family's sets."""
        return self.effects.of(np.arange(family * len(self.tasks), (family + 1) * len(self.tasks)))

    @cached_property
    def weight_BD(self) -> FloatArray:
        """How often every document is drawn."""
        return measured_weights(self.task_D, self.effects.tokens_D, self.job.bootstraps, self.seed)

    @cached_property
    def drawn(self) -> Summary:
        """The numbers of the headline's sets in every resample."""
        effects = self.of(self.families.index(_headline(self.families, self.job)))
        return summarise(effects, self.own_K, self.task_D, len(self.tasks), self.weight_BD)

    def matched(self, weight_BD: FloatArray | None = None) -> list[Summary]:
        """The numbers of each family of matched sets."""
        return [
            summarise(self.of(at), self.own_K, self.task_D, len(self.tasks), weight_BD)
            for at, family in enumerate(self.families)
            if family.kind == "matched"
        ]

    @cached_property
    def draws(self) -> dict[str, FloatArray]:
        """The metrics that have an interval, in every resample."""
        drawn = self.drawn
        matched = [family.selectivity for family in self.matched(self.weight_BD)]
        return {
            "selectivity": drawn.selectivity,
            "own_ce": drawn.own_ce,
            "ratio": drawn.ratio,
            "excess": drawn.selectivity - np.mean(matched, axis=0),
        }

    def resamples(self) -> OfSome:
        """Metrics in every resample; none of a metric without an interval."""
        tokens_D = self.effects.tokens_D
        return OfSome(
            {f"causal/{key}": draws for key, draws in self.draws.items() if np.isfinite(draws).all()},
            draws_digest(self.weight_BD, tokens_D),
            int((tokens_D > 0).sum()),
        )

    def metrics(self) -> dict[str, float | None]:
        """Every key but those of the matched draws, for the headline's size."""
        own_K, task_D, num_tasks = self.own_K, self.task_D, len(self.tasks)
        effects = self.of(self.families.index(_headline(self.families, self.job)))
        own, matched = summarise(effects, own_K, task_D, num_tasks), self.matched()
        ce_KK = task_matrix(effects.ce_GD, effects.tokens_D, task_D, num_tasks)
        ends = {
            f"{key}_ci_{end}": value
            for key, draws in self.draws.items()
            for end, value in zip(("low", "high"), interval(draws), strict=True)
        }
        per = {
            name: unit_selectivity(per_unit(effects.ce_GD, unit_GD, task_D, num_tasks), own_K)
            for name, unit_GD in (("per_firing", effects.firings_GD), ("per_norm", effects.norm_GD))
        }
        values = {
            "selectivity": float(own.selectivity),
            "own_ce": float(own.own_ce),
            "others_ce": float(own.others_ce),
            "own_worst": hurts_own_most(ce_KK, own_K),
            "ratio": float(own.ratio),
            "ratio_over_norm": float(own.ratio / own.norm_ratio),
            "ratio_matched": float(np.exp(np.mean([np.log(family.ratio) for family in matched]))),
            "excess": float(own.selectivity - np.mean([family.selectivity for family in matched])),
            **ends,
            **per,
        }
        return {f"causal/{name}": value if np.isfinite(value) else None for name, value in values.items()}

    def agreement(self, attributed_GK: FloatArray | None) -> float | None:
        """Rank correlation of the attributed effects of all sets on all tasks with their KL."""
        if attributed_GK is None:
            return None
        effects = self.effects
        kl_GK = task_matrix(effects.kl_GD, effects.tokens_D, self.task_D, len(self.tasks))
        return rank_correlation(kl_GK.ravel(), attributed_GK.ravel())

    def why_null(self, key: str) -> str:
        """The reason of a null value."""
        if key == "causal/sets_attribution_r":
            return "no set has an effect" if self.job.to == "zero" else "only causal.to=zero is attributed"
        if key in ("causal/per_firing", "causal/per_norm"):
            return "no set fires both on its own task and on another one"
        if key.endswith(("_ci_low", "_ci_high")):
            return "a task has fewer than two measured documents with scored predictions; raise causal.tokens"
        return "a task has no scored prediction among the measured documents"

    def table(self, share_FK: FloatArray, attributed_GK: FloatArray | None = None) -> pd.DataFrame:
        """`causal.parquet`: one row for each set and each task on which it was ablated.

        `share_FK`: share of each task's activation mass in each latent, on the measured documents;
        `attributed_GK`: the attributed KL of each set on each task.
        """
        task_D, num_tasks, effects = self.task_D, len(self.tasks), self.effects
        member_DK = task_D[:, None] == np.arange(num_tasks)
        tokens_K = effects.tokens_D @ member_DK
        ce_GK, kl_GK = (
            task_matrix(value_GD, effects.tokens_D, task_D, num_tasks)
            for value_GD in (effects.ce_GD, effects.kl_GD)
        )
        firings_GK, norm_GK = effects.firings_GD @ member_DK, effects.norm_GD @ member_DK
        rows = []
        for number, family in enumerate(self.families):
            own = self.of(number)
            drawn_BGK = drawn_matrix(own.ce_GD, own.tokens_D, task_D, num_tasks, self.weight_BD)
            for chosen, latents_F in enumerate(family.latents_K):
                at = number * num_tasks + chosen
                for task in range(num_tasks):
                    low, high = interval(drawn_BGK[:, chosen, task])
                    rows.append(
                        {
                            "set": family.kind,
                            "draw": family.draw,
                            "size": family.size,
                            "set_task": self.tasks[chosen],
                            "task": self.tasks[task],
                            "num_latents": len(latents_F),
                            "mass_share": float(share_FK[latents_F, task].sum()),
                            "ce_delta": ce_GK[at, task],
                            "ce_delta_lo": low,
                            "ce_delta_hi": high,
                            "kl": kl_GK[at, task],
                            "attributed": np.nan if attributed_GK is None else attributed_GK[at, task],
                            "tokens": int(tokens_K[task]),
                            "firings": int(firings_GK[at, task]),
                            "removed_norm": norm_GK[at, task],
                            "latents": latents_F.tolist() if chosen == task else None,
                        }
                    )
        return pd.DataFrame(rows)
