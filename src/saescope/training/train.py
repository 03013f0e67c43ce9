"""`sae=train`: corpus → activations → an SAE trained with sparsify's recipe, saved in sparsify's layout."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from saescope.activations import (
    ActivationSource,
    ActivationStore,
    LiveActivations,
    row_order,
)
from saescope.analysis.reconstruction import reconstruction_metrics
from saescope.config import AppConfig
from saescope.errors import ConfigError
from saescope.extraction.accumulators import ReconstructionSums
from saescope.files import whole
from saescope.metrics import SAE_FVU
from saescope.model.capture import Capture
from saescope.model.hookpoints import Hookpoint
from saescope.model.load import LanguageModel
from saescope.runtime.hardware import Hardware
from saescope.sae.coder import CoderSae, SparseCoder
from saescope.sae.folder import load_sparsify
from saescope.text.token_rows import TokenRows, token_rows
from saescope.tracking.wandb_run import Tracker
from saescope.training.checkpoint import save_coder
from saescope.training.fit import fit
from saescope.training.log import TrainingLog
from saescope.training.module import SaeTraining
from saescope.training.recipe import Recipe, new_coder

log = logging.getLogger(__name__)

TRAININGS = Path("outputs") / ".trainings"
"""Checkpoints by identity of the training, so that the same command continues after a kill."""


class RowBatches:
    """Whole rows of an activation source in a fixed order, as batches [N, d_in]."""

    def __init__(self, source: ActivationSource, order: np.ndarray[Any, Any], rows: int) -> None:
        self.source, self.order, self.rows = source, order, rows

    def __len__(self) -> int:
        return len(self.order) // self.rows

    def iter_from(self, step: int, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
        """Batches from `step` on, or one process's rows of them; nothing else is computed."""
        for at in range(step, len(self)):
            rows = self.order[at * self.rows : (at + 1) * self.rows]
            yield self.source.read(np.array_split(rows, world)[rank]).float()


def recipe_of(cfg: AppConfig) -> Recipe:
    """The training recipe under `sae`."""
    names = (
        "k activation multi_topk optimizer lr lr_warmup_steps auxk_alpha dead_feature_threshold "
        "k_decay_steps init_seed grad_acc_steps micro_acc_steps"
    )
    return Recipe(**{name: getattr(cfg.sae, name) for name in names.split()})


def train_sae(
    cfg: AppConfig,
    lm: LanguageModel,
    hookpoint: Hookpoint,
    d_in: int,
    machine: Hardware,
    store: ActivationStore,
    run_dir: Path,
    tracker: Tracker,
) -> CoderSae:
    """Train (or continue, or find finished) the SAE of `cfg`; saved under `run_dir/sae/<hookpoint>`.

    Raises SaeError, CorpusError or CacheError, one line each, for what the user has to mend.
    """
    if hookpoint.side != "output":
        raise ConfigError(f"sae=train needs a module's output; {hookpoint.label} is an input")
    if cfg.runtime.num_nodes > 1:
        raise ConfigError(
            "sae=train runs on one machine; set runtime.num_nodes=1 (runtime.devices may be more)"
        )
    start, width = _start(cfg, d_in, hookpoint)
    recipe = recipe_of(cfg)
    recipe.check(d_in, width)
    ctx_len = cfg.corpus.ctx_len
    limit = getattr(lm.model.config, "max_position_embeddings", None)
    if limit is not None and ctx_len > limit:
        raise ConfigError(f"corpus.ctx_len={ctx_len} exceeds the model's context of {limit} tokens")
    per_batch = max(1, cfg.sae.batch_tokens // ctx_len)
    if per_batch < cfg.runtime.devices:
        raise ConfigError(
            f"sae.batch_tokens={cfg.sae.batch_tokens} is {per_batch} rows of corpus.ctx_len={ctx_len}, which "
            f"{cfg.runtime.devices} processes cannot share; raise it, or lower runtime.devices"
        )
    folder = store.cache.tokens_folder if store.cache else None
    rows = token_rows(cfg.corpus, lm.tokenizer, cfg.sae.tokens, folder, at_least=per_batch * ctx_len)
    capture = Capture(lm.model, hookpoint)
    live = LiveActivations(capture, rows.train, machine.batch_tokens // ctx_len, machine.device, d_in)

    home = TRAININGS / _identity(cfg, store.model, rows, hookpoint, machine)
    coder = start or new_coder(d_in, width, recipe)
    steps = len(rows.train) // per_batch
    module = SaeTraining(
        coder,
        recipe,
        total_steps=steps,
        finetune=start is not None,
        encoder_dtype=_encoder_dtype(cfg, machine),
    )
    log.info(
        "training: %d latents, k %d, %d steps of %d tokens", width, cfg.sae.k, steps, per_batch * ctx_len
    )
    alone = cfg.runtime.devices == 1
    with (
        _only_one(home),
        store.opened(live, hookpoint, rows.train, fill=alone, missing="model, training text") as source,
        TrainingLog(home / "history.csv", steps, tracker) as history,
    ):
        trained = fit(
            module,
            RowBatches(source, row_order(len(rows.train), cfg.sae.data_seed), per_batch),
            checkpoint_path=home / "checkpoint.pt",
            save_every=cfg.sae.save_every,
            accelerator={"cuda": "gpu"}.get(machine.device, machine.device),
            devices=cfg.runtime.devices,
            on_step=history.step,
        )
    saved = run_dir / "sae" / hookpoint.name
    save_coder(trained, saved)
    if (home / "history.csv").is_file():
        with whole(run_dir / "history.csv") as temporary:
            shutil.copy2(home / "history.csv", temporary)
    source_facts: dict[str, Any] = {
        "source": "train",
        "folder": str(saved.relative_to(run_dir)),
        "trained_k": cfg.sae.k,
        "tokens": steps * per_batch * ctx_len,
        "corpus": cfg.corpus.name or cfg.corpus.path or cfg.corpus.source,
        "init_seed": cfg.sae.init_seed,
        "data_seed": cfg.sae.data_seed,
        "finetuned_from": cfg.sae.finetune,
    }
    trained.to(machine.device)
    sae = CoderSae(trained, machine.dtype, source_facts)
    if len(rows.heldout):
        held = LiveActivations(capture, rows.heldout, machine.batch_tokens // ctx_len, machine.device, d_in)
        with store.opened(held, hookpoint, rows.heldout, missing="model, held-out text") as source:
            source_facts["heldout_fvu"] = heldout_fvu(sae, source)
        log.info("held-out FVU %s over %d tokens", source_facts["heldout_fvu"], rows.heldout.size)
    return sae


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """One process at a time works on a training; the next waits, and then finds it done."""
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "training.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process trains this very SAE; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def heldout_fvu(sae: CoderSae, source: ActivationSource, rows_at_once: int = 16) -> float | None:
    """FVU over held-out text, variance pooled over all of it in float64."""
    sums = ReconstructionSums(1, sae.d_in)
    rows = np.arange(len(source.sizes_R))
    for chosen in np.split(rows, range(rows_at_once, len(rows), rows_at_once)):
        with torch.inference_mode():
            x_ND = source.read(chosen).float().to(sae.coder.b_dec.device)
            codes = sae.encode(x_ND)
            text_N = torch.zeros(len(x_ND), dtype=torch.int64)  # one text, so one task
            sums.update(x_ND.cpu(), sae.reconstruct(x_ND, codes).cpu(), codes.sizes_N.cpu(), text_N)
    return reconstruction_metrics(sums.compute())[SAE_FVU.key]


def _encoder_dtype(cfg: AppConfig, machine: Hardware) -> torch.dtype | None:
    """Of the encoder product; None: that of the weights."""
    asked = cfg.sae.encoder_dtype
    low = asked == "bfloat16" or (asked == "auto" and machine.dtype is torch.bfloat16)
    return torch.bfloat16 if low else None


def _start(cfg: AppConfig, d_in: int, hookpoint: Hookpoint) -> tuple[SparseCoder | None, int]:
    """The SAE to fine-tune, if any, and the number of latents."""
    asked = cfg.sae.num_latents or (cfg.sae.expansion_factor or 0) * d_in
    if cfg.sae.finetune is None:
        return None, asked
    from dataclasses import replace

    plain = replace(cfg.sae, num_latents=None, expansion_factor=None, k=None)
    loaded = load_sparsify(cfg.sae.finetune, plain, d_in=d_in, hookpoint=hookpoint.name, dtype=torch.float32)
    loaded.coder.requires_grad_(True)
    return loaded.coder, loaded.num_latents


def _identity(cfg: AppConfig, model: str, rows: TokenRows, hookpoint: Hookpoint, machine: Hardware) -> str:
    science = cfg.scientific()
    decisive = [science["sae"], model, rows.digest, hookpoint.label, machine.dtype_name]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
