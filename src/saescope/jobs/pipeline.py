"""One job: capture → SAE → features → SI/Q → report, with the run folder as the result."""

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope import catalogue, sae
from saescope.activations import ActivationStore
from saescope.analysis.examples import choose_latents, top_contexts
from saescope.analysis.features import FeatureResults, analyse
from saescope.analysis.latent_table import latent_table
from saescope.analysis.reconstruction import (
    Metrics,
    Sums,
    loss_metrics,
    loss_notes,
    null_notes,
    reconstruction_metrics,
    task_metrics,
    without_nonfinite,
)
from saescope.analysis.resamples import Draws, Resamples, quality_draws
from saescope.causal import run as causal
from saescope.causal.part import Part as CausalPart
from saescope.config import AppConfig, HookpointConfig
from saescope.config.applicable import READS_CORPUS
from saescope.dynamic_k import run as dynamic_k
from saescope.dynamic_k.part import Part
from saescope.errors import ConfigError, HookpointError, ModelError
from saescope.extraction.codes import Codes
from saescope.extraction.engine import Engine
from saescope.extraction.setup import Setup
from saescope.jobs.left_out import of_measurement
from saescope.jobs.others import NONE, OtherJobs
from saescope.jobs.provenance import peak_mem_mb, provenance_of, reset_peak, warnings_of
from saescope.model.blocks import text_config
from saescope.model.hookpoints import Hookpoint, check_layer, resolve
from saescope.model.load import check_context, load_model, load_skeleton, load_tokenizer, quiet_transformers
from saescope.runfolder.write import Results, write_results
from saescope.runtime.allocator import keep_freed_memory
from saescope.runtime.hardware import choose
from saescope.runtime.meter import Steps, phase
from saescope.sae.base import Sae
from saescope.stats.scratch import scratch_in
from saescope.text.token_rows import check_corpus
from saescope.text.windows import Windows, tokenize_probes
from saescope.tracking.wandb_run import Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What is known before any weight is loaded."""

    hookpoint: Hookpoint
    windows: Windows
    companions: tuple[Hookpoint, ...] = ()
    """Hookpoints that other jobs of the sweep will read on the same text."""
    others: OtherJobs = NONE


def prepare(cfg: AppConfig, others: OtherJobs = NONE) -> Prepared:
    """Resolve the hookpoint on a weightless model and tokenise the probes.

    Raises a SaescopeError for what the user has to correct, before anything slow happens.
    """
    quiet_transformers()
    with phase("find model and SAE"):
        skeleton = _skeleton(cfg)
        hookpoint = resolve(cfg.hookpoint, skeleton)
        dynamic_k.check(cfg, skeleton)
        _check_sae(cfg, hookpoint, skeleton)
        for place in causal.further_hookpoints(cfg, hookpoint, skeleton):
            _check_sae(cfg, place, skeleton)
        check_context(skeleton.config, f"probes.ctx_len={cfg.probes.ctx_len}", cfg.probes.ctx_len)
    with phase("tokenise the probes"):
        windows = _probe_windows(cfg, text_config(skeleton.config).vocab_size)
    if cfg.sae.source in READS_CORPUS:
        check_corpus(cfg.corpus, load_tokenizer(cfg.model))
    return Prepared(hookpoint, windows, _companions(others.hookpoints, skeleton), others)


def _check_sae(cfg: AppConfig, place: Hookpoint, skeleton: Any) -> None:
    """Raise SaeError where the job's source has no SAE of a hookpoint."""
    sae.check(
        cfg.sae,
        hookpoint=place.label,
        model_sae_repo=cfg.model.sae_repo,
        model_name=cfg.model.repo,
        at=place,
        model=skeleton,
    )


def _companions(hookpoints: Sequence[HookpointConfig], skeleton: Any) -> tuple[Hookpoint, ...]:
    """Those hookpoints that the model has; a job that asks for another fails by itself."""
    companions: list[Hookpoint] = []
    for hookpoint in hookpoints:
        with contextlib.suppress(HookpointError):
            companions.append(resolve(hookpoint, skeleton, quiet=True))
    return tuple(companions)


def _skeleton(cfg: AppConfig) -> Any:
    """The model without weights. A layer that the catalogue excludes is refused before any download."""
    layers = catalogue.known_layers(cfg.model.repo)
    if layers is not None and cfg.hookpoint.layer is not None:
        check_layer(cfg.hookpoint.layer, layers)
    try:
        return load_skeleton(cfg.model)
    except ModelError:
        sae.check_known(
            cfg.sae, cfg.model.repo, cfg.model.sae_repo
        )  # a more helpful message that needs no network
        raise


def _probe_windows(cfg: AppConfig, vocabulary: int) -> Windows:
    """The probe texts as tokens of the model."""
    windows = tokenize_probes(cfg.probes, load_tokenizer(cfg.model))
    largest = max(int(ids.max()) for ids in windows.ids)
    if largest >= vocabulary:
        raise ConfigError(
            f"the tokenizer gives token {largest}, but the model knows {vocabulary}; "
            "they do not belong together"
        )
    log.info(
        "probes: %d tasks, %d documents, %d counted tokens in windows of at most %d",
        len(windows.tasks),
        len(windows.task_D),
        windows.num_tokens,
        cfg.probes.ctx_len,
    )
    for task, unread in windows.truncated.items():
        log.info(
            "probes: %s has its tokens (max_tokens_per_task=%d); %d documents left unread",
            task,
            cfg.probes.max_tokens_per_task,
            unread,
        )
    return windows


def measure(cfg: AppConfig, prepared: Prepared, run_dir: Path, tracker: Tracker) -> Results:
    """Load, extract, compute, write the data files; meanwhile `tracker` gets name and training curves."""
    with scratch_in(run_dir):
        return _measure(cfg, prepared, run_dir, tracker)


def _measure(cfg: AppConfig, prepared: Prepared, run_dir: Path, tracker: Tracker) -> Results:
    started = time.perf_counter()
    setup = _load(cfg, prepared)
    coder = _sae(cfg, setup, run_dir, tracker, prepared.others)
    with phase("describe model and SAE"):
        provenance = provenance_of(cfg, setup, coder)
    tracker.describe(cfg.as_dict(), provenance)
    passes = _pass(cfg, setup.on_both_sides(coder) if coder.transcodes else setup, coder, tracker)
    log.info("statistics: SI with %d permutations, Q with its nulls", cfg.metrics.permutations)
    since = time.perf_counter()
    with Steps("statistics") as steps:
        features = analyse(passes.codes, cfg.metrics, cfg.seed, steps)
    log.info("statistics in %.1f s", time.perf_counter() - since)

    def sae_at(place: Setup) -> Sae:
        return _sae(cfg, place, run_dir, Tracker(), NONE, history=False)

    causal_part = causal.run(cfg, setup, coder, passes.codes, features, run_dir, sae_at)
    part = dynamic_k.run(cfg, setup, coder)
    cost: Metrics = {
        "cost/wall_s": time.perf_counter() - started,
        "cost/tokens": passes.codes.num_tokens,
        "cost/tokens_per_s": passes.codes.num_tokens / passes.seconds,
        "cost/peak_mem_mb": peak_mem_mb(setup.machine.device),
    }
    with phase("choose examples, write the tables"):
        results = _results(cfg, setup, coder, provenance, passes, features, part, causal_part, cost)
        write_results(run_dir, results, config=cfg.as_dict(), tracking=tracker.info())
    return results


def _load(cfg: AppConfig, prepared: Prepared) -> Setup:
    """Load the model onto this machine."""
    keep_freed_memory()
    machine = choose(cfg.runtime)
    reset_peak(machine.device)
    with phase("load the model"):
        lm = load_model(cfg.model, machine.dtype, cfg.seed)
        lm.model.to(machine.device)
        store = ActivationStore(cfg.runtime.cache, cfg.runtime.cache_gb, lm.model, machine.dtype)
    setup = Setup(
        lm, prepared.hookpoint, prepared.windows, machine, store, cfg.runtime, companions=prepared.companions
    )
    place = setup.hookpoint
    log.info("hookpoint %s (%s %s), width %d", place.label, place.kind, place.side, setup.width)
    return setup


def _sae(
    cfg: AppConfig,
    setup: Setup,
    run_dir: Path,
    tracker: Tracker,
    others: OtherJobs,
    *,
    history: bool = True,
) -> Sae:
    """Train or load the SAE of the hookpoint of `setup`; `history`: write the curves of a training."""
    if cfg.sae.source == "train":
        from saescope.training.train import train_sae

        return train_sae(
            cfg, setup, run_dir, tracker, others.trainings, together=others.together, history=history
        )
    if cfg.sae.source in ("pca", "directions"):
        from saescope.training.directions import sae_of_directions

        return sae_of_directions(cfg, setup, run_dir)
    with phase("load the SAE"):
        return sae.load(
            cfg.sae,
            d_in=setup.width,
            hookpoint=setup.hookpoint.label,
            model_sae_repo=cfg.model.sae_repo,
            model_name=setup.lm.name,
            dtype=setup.machine.dtype,
            at=setup.hookpoint,
            model=setup.lm.model,
        )


@dataclass(frozen=True)
class Passes:
    """Results of the passes through model and SAE."""

    codes: Codes
    sums: Sums
    """Reconstruction sums, per task."""
    losses: Sums | None
    """Loss sums with the SAE spliced in, per task; None where not measured."""
    seconds: float
    """Duration of the extraction."""
    draws: Draws
    """The SAE's quality with each group of documents left out."""


def _pass(cfg: AppConfig, setup: Setup, coder: Sae, tracker: Tracker) -> Passes:
    """Extract codes, then measure the model's losses with the SAE spliced in."""
    started = time.perf_counter()
    with setup.probe_activations() as source:
        engine = Engine(
            setup,
            coder,
            source,
            tracker.logger(),
            cfg.metrics.allow_nonfinite,
            cfg.metrics.document_groups,
        )
        codes, cell_sums = engine.extract()
    sums = engine.strata.by_task(cell_sums)
    seconds = time.perf_counter() - started
    log.info(
        "extracted %d tokens in %.1f s (%.0f tokens/s)", codes.num_tokens, seconds, codes.num_tokens / seconds
    )
    losses, losses_of_groups = None, []
    if cfg.metrics.lm_tokens:
        since = time.perf_counter()
        mean_D = sums["x"].sum(0) / sums["tokens"].sum()
        cell_losses = engine.splice(cfg.metrics.lm_tokens, mean_D, codes.left_out)
        losses = engine.strata.by_task(cell_losses)
        losses_of_groups = engine.strata.without_each_group(cell_losses)
        log.info(
            "losses with the SAE spliced in: %d predictions in %.1f s",
            int(losses["tokens_clean"].sum()),
            time.perf_counter() - since,
        )
    draws = quality_draws(engine.strata.without_each_group(cell_sums), losses_of_groups)
    return Passes(codes, sums, losses, seconds, draws)


def _results(
    cfg: AppConfig,
    setup: Setup,
    coder: Sae,
    provenance: dict[str, Any],
    passes: Passes,
    features: FeatureResults,
    part: Part,
    causal_part: CausalPart,
    cost: Metrics,
) -> Results:
    """Metrics with a reason for each null one, warnings, tables."""
    codes, windows = passes.codes, setup.windows
    metrics, nonfinite_notes = without_nonfinite(
        {
            **reconstruction_metrics(passes.sums),
            **loss_metrics(passes.losses),
            **task_metrics(windows.tasks, passes.sums, passes.losses, codes.tokens_D, codes.task_D),
            **features.metrics,
            **causal_part.metrics,
            **part.metrics,
            **cost,
        }
    )
    notes = (
        features.notes
        | part.notes
        | causal_part.notes
        | loss_notes(windows.tasks, passes.losses)
        | nonfinite_notes
    )
    latents = choose_latents(features.features, windows.tasks, cfg.metrics.example_latents)
    supported = features.features.latent[features.features.supported].to_numpy()
    table = latent_table(codes, windows, supported, coder, setup.lm)
    contexts = top_contexts(codes, windows, latents, cfg.metrics.example_contexts, setup.lm.tokenizer.decode)
    return Results(
        metrics,
        null_notes(metrics, notes),
        [
            *warnings_of(coder, cfg, setup, codes, metrics, features.features["si_p"].to_numpy()),
            *part.warnings,
            *causal_part.warnings,
        ],
        features.features.assign(**causal_part.columns),
        features.edges,
        contexts,
        features.histograms,
        provenance,
        [
            *of_measurement(
                cfg.metrics,
                windows,
                codes,
                features.features["supported"].to_numpy(bool),
                passes.losses,
                table[0],
                coder.left_out,
            ),
            *causal_part.left_out,
            *part.left_out,
        ],
        Resamples(
            features.resamples.bootstrap,
            {**features.resamples.groups, **passes.draws},
            causal_part.resamples,
        ).table(),
        part.tables,
        part.sections,
        table,
        features.matched,
        causal_part.tables,
        features.edges_within_token,
    )
