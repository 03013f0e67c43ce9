"""One job: capture → SAE → features → SI/Q → report, with the run folder as the result."""

import dataclasses
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope import catalogue, sae
from saescope.activations import ActivationStore, LiveWindows
from saescope.analysis.examples import choose_latents, top_contexts
from saescope.analysis.features import analyse
from saescope.analysis.reconstruction import (
    Metrics,
    loss_metrics,
    loss_notes,
    null_notes,
    reconstruction_metrics,
    task_metrics,
    without_nonfinite,
)
from saescope.config import AppConfig
from saescope.dynamic_k import run as dynamic_k
from saescope.dynamic_k.part import Inputs
from saescope.errors import ConfigError, HookpointError, ModelError
from saescope.extraction.engine import Engine
from saescope.extraction.nonfinite import located
from saescope.jobs.provenance import peak_mem_mb, provenance_of, reset_peak, warnings_of
from saescope.model import load as models
from saescope.model.capture import Capture
from saescope.model.hookpoints import Hookpoint, check_layer, resolve
from saescope.report.page import write_report
from saescope.runfolder.identity import run_name
from saescope.runfolder.status import write_status
from saescope.runfolder.write import Results, write_results
from saescope.runtime import hardware
from saescope.runtime.allocator import keep_freed_memory
from saescope.sae.base import Sae
from saescope.text.windows import Windows, tokenize_probes
from saescope.tracking.wandb_run import Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What can be checked before any weight is loaded."""

    hookpoint: Hookpoint
    windows: Windows


def prepare(cfg: AppConfig) -> Prepared:
    """Resolve the hookpoint on a weightless model and tokenise the probes.

    Raises a SaescopeError for whatever the user has to mend; nothing slow has happened by then.
    """
    models.quiet_transformers()
    layers = catalogue.known_layers(cfg.model.repo)
    if layers is not None and cfg.hookpoint.layer is not None:
        check_layer(cfg.hookpoint.layer, layers)  # before anything is downloaded
    try:
        skeleton = models.load_skeleton(cfg.model)
    except ModelError:
        sae.check_known(cfg.sae, cfg.model.repo, cfg.model.sae_repo)  # the mistake may be told offline too
        raise
    hookpoint = resolve(cfg.hookpoint, skeleton)
    dynamic_k.check(cfg, skeleton)
    sae.check(
        cfg.sae,
        hookpoint=hookpoint.label,
        model_sae_repo=cfg.model.sae_repo,
        model_name=cfg.model.repo,
    )
    models.check_context(skeleton.config, f"probes.ctx_len={cfg.probes.ctx_len}", cfg.probes.ctx_len)
    windows = tokenize_probes(cfg.probes, models.load_tokenizer(cfg.model))
    vocabulary = skeleton.config.vocab_size
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
    for task, left in windows.truncated.items():
        log.info(
            "probes: %s has its tokens (max_tokens_per_task=%d); %d documents left unread",
            task,
            cfg.probes.max_tokens_per_task,
            left,
        )
    return Prepared(hookpoint, windows)


def measure(cfg: AppConfig, prepared: Prepared, run_dir: Path, tracker: Tracker) -> Results:
    """Load, extract, compute, write. Files first: W&B gets what is already on disk."""
    started = time.perf_counter()
    keep_freed_memory()
    machine = hardware.choose(cfg.runtime)
    reset_peak(machine.device)
    lm = models.load_model(cfg.model, machine.dtype, cfg.seed)
    lm.model.to(machine.device)
    hookpoint, windows = prepared.hookpoint, prepared.windows
    d_in = Capture(lm.model, hookpoint).width()
    log.info("hookpoint %s (%s %s), width %d", hookpoint.label, hookpoint.kind, hookpoint.side, d_in)
    store = ActivationStore(cfg.runtime.cache, cfg.runtime.cache_gb, lm.model, machine.dtype)
    coder: Sae
    if cfg.sae.source == "train":
        from saescope.training.train import train_sae

        coder = train_sae(cfg, lm, hookpoint, d_in, machine, store, run_dir, tracker)
    else:
        coder = sae.load(
            cfg.sae,
            d_in=d_in,
            hookpoint=hookpoint.label,
            model_sae_repo=cfg.model.sae_repo,
            model_name=lm.name,
            dtype=machine.dtype,
            at=hookpoint,
            model=lm.model,
        )
    provenance = provenance_of(cfg, lm, hookpoint, coder, windows, machine)
    name = run_name(cfg, lm.name, hookpoint.label, coder.num_latents, d_in, coder.k)
    tags = [Path(lm.name).name, hookpoint.label, cfg.sae.source]
    tracker.describe(name, tags, provenance)

    if coder.transcodes:
        hookpoint = _both_sides(hookpoint, lm.model, d_in)
    extracting = time.perf_counter()
    width = 2 * d_in if coder.transcodes else d_in
    live = LiveWindows(Capture(lm.model, hookpoint), windows, machine.batch_tokens, machine.device, width)
    alone = cfg.runtime.devices * cfg.runtime.num_nodes == 1
    with store.opened(live, hookpoint, windows, fill=alone, missing="model, probes") as source:
        engine = Engine(
            lm.model, hookpoint, coder, windows, machine, cfg.runtime, source, tracker.logger(),
            cfg.metrics.allow_nonfinite,
        )  # fmt: skip
        codes, sums = engine.extract()
    extract_s = time.perf_counter() - extracting
    log.info(
        "extracted %d tokens in %.1f s (%.0f tokens/s)",
        codes.num_tokens,
        extract_s,
        codes.num_tokens / extract_s,
    )
    losses = None
    if cfg.metrics.lm_tokens:
        mean_D = sums["x"].sum(0) / sums["tokens"].sum()
        losses = engine.splice(cfg.metrics.lm_tokens, mean_D, codes.left_out)
        log.info("losses with the SAE spliced in: %d predictions", int(losses["tokens_clean"].sum()))
    log.info("statistics: SI with %d permutations, Q with its nulls", cfg.metrics.permutations)
    found = analyse(codes, cfg.metrics, cfg.seed)
    part = dynamic_k.run(cfg, Inputs(lm, windows, machine, prepared.hookpoint, coder))
    latents = choose_latents(found.features, windows.tasks, cfg.metrics.example_latents)
    contexts = top_contexts(codes, windows, latents, cfg.metrics.example_contexts, lm.tokenizer.decode)
    metrics: Metrics = {
        **reconstruction_metrics(sums),
        **loss_metrics(losses),
        **task_metrics(windows.tasks, sums, losses, codes.tokens_D, codes.task_D),
        **found.metrics,
        **part.metrics,
        "cost/wall_s": time.perf_counter() - started,
        "cost/tokens": codes.num_tokens,
        "cost/tokens_per_s": codes.num_tokens / extract_s,
        "cost/peak_mem_mb": peak_mem_mb(machine.device),
    }
    metrics, unsound = without_nonfinite(metrics)
    warnings = warnings_of(coder, cfg, windows, metrics)
    if len(codes.left_out):
        where = located(codes.left_out, windows.doc_W, windows.task_D, windows.tasks, hookpoint.label)
        warnings.append(f"{where}: left out.")
        log.warning("%s", warnings[-1])
    results = Results(
        metrics,
        null_notes(metrics, found.notes | part.notes | loss_notes(windows.tasks, losses) | unsound),
        warnings + part.warnings,
        found,
        contexts,
        provenance,
        part.tables,
        part.sections,
    )
    write_results(run_dir, results, cfg, tracker.info())
    write_status(run_dir, "running", notes=results.notes, warnings=results.warnings)
    write_report(run_dir)
    _track(tracker, name, results, dynamic_k.curves(part), run_dir)
    return results


def _both_sides(hookpoint: Hookpoint, model: Any, d_in: int) -> Hookpoint:
    """A transcoder's hookpoint. Raises HookpointError where a module's input and output do not fit it."""
    both = dataclasses.replace(hookpoint, side="both")
    if hookpoint.side != "output" or Capture(model, both).width() != 2 * d_in:
        raise HookpointError(
            f"a transcoder predicts a module's output from an input of the same width; {hookpoint.label} is "
            "no such module, choose hookpoint=mlp or hookpoint=custom hookpoint.name=MODULE"
        )
    return both


def _track(
    tracker: Tracker, name: str, results: Results, curves: list[dict[str, float]], run_dir: Path
) -> None:
    found = results.found
    tracker.histograms(found.histograms)
    tracker.curve(dynamic_k.CURVE_AXIS, curves)
    shown = results.top_table()
    tracker.table(
        "features_top", list(shown.columns), shown.astype(object).where(shown.notna(), None).values.tolist()
    )
    files = [run_dir / f for f in ("features.parquet", "examples.parquet", "edges.parquet")]
    tracker.artifact(f"features-{name}", "feature_table", files, results.provenance)
    trained = sorted(p for p in (run_dir / "sae").rglob("*") if p.is_file())
    if trained:
        tracker.artifact(f"sae-{name}", "sae", trained, results.provenance)
    # last, so that no media key can come between the summary and metrics.json
    tracker.summary(results.metrics)
