"""`causal.layers`: a task's latents at several hookpoints taken out together, and each hookpoint's alone.

Every hookpoint has an SAE of the job's source, and chooses its sets as `causal=ablate` does at the job's own.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from saescope.analysis.reconstruction import reconstruction_metrics
from saescope.causal.ablation import Ablation
from saescope.causal.choice import Family, evidence, own_families, ranking_index
from saescope.causal.controls import matched_families
from saescope.causal.halves import Halves, split_documents
from saescope.causal.joint import JointAblation
from saescope.causal.part import Part
from saescope.causal.passes import measure, unmeasured
from saescope.causal.removal import LatentSet
from saescope.causal.replacements import Replacements
from saescope.causal.selectivity import row_norms, sets_of
from saescope.config import Ablate, AppConfig, HookpointConfig
from saescope.errors import ConfigError, HookpointError
from saescope.extraction.codes import Codes
from saescope.extraction.engine import Engine
from saescope.extraction.setup import Setup
from saescope.left_out import LeftOut
from saescope.model.hookpoint_names import with_layer
from saescope.model.hookpoints import Hookpoint, resolve
from saescope.runfolder.names import TOGETHER
from saescope.sae.base import Sae
from saescope.stats.arrays import FloatArray, IntArray
from saescope.stats.causal import (
    Effects,
    additivity,
    drawn_matrix,
    hurts_own_most,
    interval,
    measured_weights,
    own_and_others,
    summarise,
    task_matrix,
)

KEYS = (
    "selectivity", "selectivity_ci_low", "selectivity_ci_high", "selectivity_alone", "own_ce", "others_ce",
    "own_worst", "ratio", "ratio_matched", "excess", "additivity", "additivity_ci_low", "additivity_ci_high",
    "additivity_others", "additivity_ce", "additivity_matched",
)  # fmt: skip


def places(cfg: AppConfig, own: Hookpoint, model: Any) -> list[Hookpoint]:
    """The further hookpoints that `causal.layers` names; `own` is the job's.

    Raises HookpointError for a layer that the model (weights not needed) lacks, ConfigError where the job's
    hookpoint is in no layer.
    """
    if not isinstance(cfg.causal, Ablate) or cfg.causal.layers is None:
        return []
    if own.layer is None:
        raise ConfigError(
            f"causal.layers needs a hookpoint in a layer; {own.label} is in none: choose another one, or "
            "causal.layers=null"
        )
    further: list[Hookpoint] = []
    for layer in cfg.causal.layers:
        if layer >= own.num_layers:
            raise HookpointError(
                f"causal.layers={list(cfg.causal.layers)}: this model has layers 0–{own.num_layers - 1}"
            )
        if cfg.hookpoint.kind == "custom":
            assert cfg.hookpoint.name is not None
            there = HookpointConfig("custom", name=with_layer(cfg.hookpoint.name, layer))
        else:
            there = HookpointConfig(cfg.hookpoint.kind, layer=layer)
        place = resolve(there, model, quiet=True)
        if place != own:
            further.append(place)
    if not further:
        raise ConfigError(
            f"causal.layers={list(cfg.causal.layers)} names the job's own layer {own.layer} alone: add others"
        )
    return further


@dataclass(frozen=True)
class LayerSets:
    """One hookpoint with the families of sets of its SAE: own, and matched ones draw after draw."""

    place: Hookpoint
    ablation: Ablation
    families: list[Family]
    sets: list[LatentSet]
    """Family after family, task after task."""


Reading = tuple[Setup, Sae, Codes]
"""One hookpoint, its SAE and what that reads in the probe text."""


def read_layers(
    cfg: AppConfig, setup: Setup, coder: Sae, codes: Codes, sae_at: Callable[[Setup], Sae]
) -> tuple[list[Reading], list[str]]:
    """The job's hookpoint and those of `causal.layers`, from below upwards, and warnings on their SAEs.

    `sae_at` loads or trains the SAE of a further hookpoint. Raises what that raises. With a single task
    there is nothing to compare, and only the own hookpoint is returned.
    """
    readings, warnings = [(setup, coder, codes)], []
    if len(codes.tasks) < 2:
        return readings, []
    for place in places(cfg, setup.hookpoint, setup.lm.model):
        there = dataclasses.replace(setup, hookpoint=place, companions=())
        other = sae_at(there)
        of_place, fvu = _codes(cfg, there, other)
        readings.append((there, other, of_place))
        of_sae = list(other.warnings)
        if not other.control and fvu is not None and fvu > 1:
            of_sae.append(f"the FVU is {fvu:.3g}; above 1, this SAE does not belong there.")
        warnings += [f"causal.layers, {place.label}: {warning}" for warning in of_sae]
    readings.sort(key=lambda reading: reading[0].hookpoint.layer or 0)
    return readings, warnings


def run_layers(
    cfg: AppConfig,
    job: Ablate,
    setup: Setup,
    codes: Codes,
    read: Sequence[Reading],
    run_dir: Path | None = None,
) -> Part:
    """The metrics of `KEYS` and the table `causal_layers`, of what `read_layers` found.

    Raises ProbeError for a task of a single document. With a single task every key is null.
    """
    keys = [f"causal/layers_{key}" for key in KEYS]
    if len(codes.tasks) < 2:
        return Part(dict.fromkeys(keys), dict.fromkeys(keys, "a single task"))
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, cfg.seed)
    part = Part()
    # one token without a finite activation, at any hookpoint, spoils a window for all
    spoilt = np.unique(np.concatenate([each.left_out for _, _, each in read]))
    layers = [_sets(cfg, job, *reading, halves, spoilt) for reading in read]
    alone = [
        measure(layer.ablation, layer.sets, f"layer {layer.place.label}", cfg, run_dir) for layer in layers
    ]
    joint = JointAblation(tuple(layer.ablation for layer in layers))
    sets = [joint.joined(parts) for parts in zip(*(layer.sets for layer in layers), strict=True)]
    together = measure(joint, sets, "layers together", cfg, run_dir)
    result = LayerEffects(job, codes.tasks, codes.task_D, layers, alone, together, cfg.seed)
    part.metrics = result.metrics()
    part.notes = {key: result.why_null(key) for key, value in part.metrics.items() if value is None}
    part.tables["causal_layers"] = result.table()
    part.left_out = [unmeasured(layers[0].ablation, f"causal.tokens={job.tokens}", "ablation of layers")]
    part.left_out += [
        LeftOut(
            "tokens",
            len(each.left_out),
            setup.windows.num_tokens,
            f"The activation at {there.hookpoint.label} is NaN or infinite there.",
            "ablation of layers",
        )
        for there, _, each in read
        if each is not codes and len(each.left_out)
    ]
    return part


def _codes(cfg: AppConfig, place: Setup, coder: Sae) -> tuple[Codes, float | None]:
    """What the SAE reads in the probe text, and its FVU there."""
    reads = place.on_both_sides(coder) if coder.transcodes else place
    with reads.probe_activations() as source:
        engine = Engine(reads, coder, source, None, cfg.metrics.allow_nonfinite)
        codes, sums = engine.extract()
    return codes, reconstruction_metrics(engine.strata.by_task(sums))["sae/fvu"]


def _sets(
    cfg: AppConfig, job: Ablate, setup: Setup, coder: Sae, codes: Codes, halves: Halves, spoilt: IntArray
) -> LayerSets:
    """Choose at one hookpoint, on the choosing documents alone; matched sets by the measured ones."""
    latents = evidence(codes, halves.choose_D, codes.task_D, cfg.metrics)
    index_FK = ranking_index(codes, halves.choose_D, codes.task_D, latents, job.select)
    own = next(f for f in own_families(index_FK, latents, job) if f.size == job.headline_size)
    measured = evidence(codes, halves.measure_D, codes.task_D, cfg.metrics)
    measured = dataclasses.replace(measured, supported_F=latents.supported_F)
    families = [own, *matched_families(own, measured, row_norms(coder), job.ablated_draws, cfg.seed)]
    replacements = Replacements.of(job, setup, coder, codes.task_D, halves.choose_D, cfg.seed, spoilt)
    ablation = Ablation(setup, coder, halves.measure_D, job.tokens, cfg.seed, spoilt)
    return LayerSets(setup.hookpoint, ablation, families, sets_of(families, replacements))


@dataclass(frozen=True)
class LayerEffects:
    """What the sets of each hookpoint do alone, and those of all together; sets as in `LayerSets`."""

    job: Ablate
    tasks: tuple[str, ...]
    task_D: IntArray
    layers: Sequence[LayerSets]
    alone: Sequence[Effects]
    together: Effects
    seed: int

    @cached_property
    def weight_BD(self) -> FloatArray:
        """How often every document is drawn."""
        return measured_weights(self.task_D, self.together.tokens_D, self.job.bootstraps, self.seed)

    def metrics(self) -> dict[str, float | None]:
        """`causal/layers_…`, null where it does not apply."""
        num_tasks, families = len(self.tasks), len(self.layers[0].families)
        own_K, task_D, tokens_D = np.arange(num_tasks), self.task_D, self.together.tokens_D
        own = summarise(self._of(self.together, 0), own_K, task_D, num_tasks)
        drawn = summarise(self._of(self.together, 0), own_K, task_D, num_tasks, self.weight_BD)
        matched = [
            summarise(self._of(self.together, family), own_K, task_D, num_tasks)
            for family in range(1, families)
        ]
        alone = [summarise(self._of(effects, 0), own_K, task_D, num_tasks) for effects in self.alone]
        ce_KK = task_matrix(self._of(self.together, 0).ce_GD, tokens_D, task_D, num_tasks)
        low, high = interval(drawn.selectivity)
        kl_own, kl_others = self._additivity("kl_GD", [0])
        sum_low, sum_high = interval(self._additivity("kl_GD", [0], self.weight_BD)[0])
        values = {
            "selectivity": float(own.selectivity),
            "selectivity_ci_low": low,
            "selectivity_ci_high": high,
            "selectivity_alone": float(np.mean([each.selectivity for each in alone])),
            "own_ce": float(own.own_ce),
            "others_ce": float(own.others_ce),
            "own_worst": hurts_own_most(ce_KK, own_K),
            "ratio": float(own.ratio),
            "ratio_matched": float(np.exp(np.mean([np.log(each.ratio) for each in matched]))),
            "excess": float(own.selectivity - np.mean([each.selectivity for each in matched])),
            "additivity": float(kl_own),
            "additivity_ci_low": sum_low,
            "additivity_ci_high": sum_high,
            "additivity_others": float(kl_others),
            "additivity_ce": float(self._additivity("ce_GD", [0])[0]),
            "additivity_matched": float(self._additivity("kl_GD", range(1, families))[0]),
        }
        return {f"causal/layers_{name}": v if np.isfinite(v) else None for name, v in values.items()}

    def _of(self, effects: Effects, family: int) -> Effects:
        """The effects of one family's sets."""
        size = len(self.tasks)
        return effects.of(np.arange(family * size, (family + 1) * size))

    def _additivity(
        self, name: str, families: Sequence[int], weight_BD: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """`additivity` of the effect `name` on the own task and on the others, over the sets of families."""
        num_tasks = len(self.tasks)
        at = np.concatenate([family * num_tasks + np.arange(num_tasks) for family in families])
        together, *alone = (
            own_and_others(self._matrix(getattr(effects, name)[at], weight_BD), at % num_tasks)
            for effects in (self.together, *self.alone)
        )
        return (
            additivity(together.own, np.stack([each.own for each in alone])),
            additivity(together.others, np.stack([each.others for each in alone])),
        )

    def _matrix(self, value_GD: FloatArray, weight_BD: FloatArray | None) -> FloatArray:
        arguments = value_GD, self.together.tokens_D, self.task_D, len(self.tasks)
        return task_matrix(*arguments) if weight_BD is None else drawn_matrix(*arguments, weight_BD)

    def why_null(self, key: str) -> str:
        """The reason of a null value."""
        if "additivity" in key:
            return "no hookpoint alone raises the loss of the tasks whose latents are taken out"
        if key.endswith(("_ci_low", "_ci_high")):
            return "a task has fewer than two measured documents with scored predictions; raise causal.tokens"
        return "a task has no scored prediction among the measured documents"

    def table(self) -> pd.DataFrame:
        """`causal_layers.parquet`: one row for each hookpoint, and all together, set and task."""
        task_D, num_tasks, tokens_D = self.task_D, len(self.tasks), self.together.tokens_D
        member_DK = task_D[:, None] == np.arange(num_tasks)
        rows = []
        for number, effects in enumerate([*self.alone, self.together]):
            layer = self.layers[number] if number < len(self.layers) else None
            ce_GK, kl_GK = (self._matrix(value_GD, None) for value_GD in (effects.ce_GD, effects.kl_GD))
            drawn_BGK = self._matrix(effects.ce_GD, self.weight_BD)
            firings_GK, norm_GK = effects.firings_GD @ member_DK, effects.norm_GD @ member_DK
            for at, latents_F in enumerate(self._latents(layer)):
                family, chosen = divmod(at, num_tasks)
                for task in range(num_tasks):
                    low, high = interval(drawn_BGK[:, at, task])
                    rows.append(
                        {
                            "hookpoint": layer.place.label if layer else TOGETHER,
                            "set": self.layers[0].families[family].kind,
                            "draw": self.layers[0].families[family].draw,
                            "set_task": self.tasks[chosen],
                            "task": self.tasks[task],
                            "num_latents": len(latents_F),
                            "ce_delta": ce_GK[at, task],
                            "ce_delta_lo": low,
                            "ce_delta_hi": high,
                            "kl": kl_GK[at, task],
                            "tokens": int((tokens_D @ member_DK)[task]),
                            "firings": int(firings_GK[at, task]),
                            "removed_norm": norm_GK[at, task],
                            "latents": latents_F.tolist() if layer and chosen == task else None,
                        }
                    )
        return pd.DataFrame(rows)

    def _latents(self, layer: LayerSets | None) -> list[IntArray]:
        """The latents of every set of a hookpoint; None: those of all, numbers without meaning."""
        if layer is not None:
            return [latents_F for family in layer.families for latents_F in family.latents_K]
        return [np.concatenate(parts) for parts in zip(*map(self._latents, self.layers), strict=True)]
