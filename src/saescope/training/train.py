"""`sae=train`: corpus → activations → an SAE trained with sparsify's recipe, saved in sparsify's layout."""

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from torch import Tensor

from saescope.activations import ActivationSource, row_order, weights_digest
from saescope.config import AppConfig, HubSae, Recipe, TrainSae
from saescope.errors import ConfigError
from saescope.extraction.accumulators import ReconstructionSums
from saescope.extraction.setup import Setup
from saescope.files import lock, remove_leftovers, whole
from saescope.left_out import LeftOut
from saescope.model.load import check_context
from saescope.runfolder.names import HISTORY, SAE
from saescope.runtime.hardware import Hardware, free_memory
from saescope.sae.coder import CoderSae, SparseCoder
from saescope.sae.folder import load_sparsify
from saescope.stats.reconstruction import variance_unexplained
from saescope.text.token_rows import TokenRows, token_rows
from saescope.tracking.wandb_run import Tracker
from saescope.training.checkpoint import save_coder
from saescope.training.fit import fit
from saescope.training.log import TrainingLog
from saescope.training.module import SaeTraining
from saescope.training.recipe import check_kind, new_coder
from saescope.training.side_by_side import Companion

log = logging.getLogger(__name__)

TRAININGS = Path("outputs") / ".trainings"
"""Folders of checkpoints, named by a hash of the training's settings: the same command continues there."""


class RowBatches:
    """Whole rows of an activation source in a fixed order, as batches [N, d_in]."""

    def __init__(self, source: ActivationSource, order: np.ndarray[Any, Any], rows: int) -> None:
        self.source, self.order, self.rows = source, order, rows

    def __len__(self) -> int:
        return len(self.order) // self.rows

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch; all rows have the same length."""
        return self.rows * int(self.source.sizes_R[0])

    def iter_from(self, step: int, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
        """Batches from `step` on, with `world` processes the share of `rank`; nothing else is computed."""
        for at in range(step, len(self)):
            rows = self.order[at * self.rows : (at + 1) * self.rows]
            yield self.source.read(np.array_split(rows, world)[rank]).float()


def train_sae(
    cfg: AppConfig,
    setup: Setup,
    run_dir: Path,
    tracker: Tracker,
    others: Sequence[TrainSae] = (),
    *,
    together: bool = False,
    history: bool = True,
) -> CoderSae:
    """Train the SAE of `cfg`, or continue its training, or read a finished one.

    Saved under `run_dir/sae/<hookpoint>`, its curves with `history` as `run_dir/history.csv`. `others` are
    SAEs that jobs of the same sweep will train on these activations: where these cannot be stored, or with
    `together`, they are trained side by side with this one, and their jobs find them finished.

    Raises SaeError, CorpusError or CacheError for what the user has to correct.
    """
    assert isinstance(cfg.sae, TrainSae)
    reads = setup.on_both_sides() if cfg.sae.transcode else setup
    plan = _plan(cfg, cfg.sae, setup)
    log.info(
        "training: %d latents, k %d, %d steps of %d tokens",
        plan.coder.num_latents,
        plan.recipe.k,
        plan.steps,
        plan.tokens // plan.steps,
    )
    beside = _beside(cfg, cfg.sae, setup, plan, others, together=together, width=reads.width)
    trained = _train(cfg.sae, reads, plan, tracker, beside)
    saved = run_dir / SAE / setup.hookpoint.name
    save_coder(trained, saved)
    if history and plan.history.is_file():
        with whole(run_dir / HISTORY) as temporary:
            shutil.copy2(plan.history, temporary)
    provenance: dict[str, Any] = {
        "source": "train",
        "folder": str(saved.relative_to(run_dir)),
        "trained_k": cfg.sae.k,
        "tokens": plan.tokens,
        "corpus": cfg.corpus.name or cfg.corpus.path or cfg.corpus.source,
        "init_seed": cfg.sae.init_seed,
        "data_seed": cfg.sae.data_seed,
        "freeze": cfg.sae.freeze,
        "finetuned_from": cfg.sae.finetune,
    }
    control = cfg.sae.freeze != "none" and cfg.sae.finetune is None
    sae = CoderSae(trained.to(setup.machine.device), setup.machine.dtype, provenance, control)
    sae.left_out = (*plan.rows.left_out, *untrained(cfg.sae.tokens, plan.tokens))
    if len(plan.rows.heldout):
        with reads.row_activations(plan.rows.heldout, "held-out text") as source:
            provenance["heldout_fvu"] = heldout_fvu(sae, source)
        log.info("held-out FVU %s over %d tokens", provenance["heldout_fvu"], plan.rows.heldout.size)
    return sae


def untrained(requested: int, tokens: int) -> list[LeftOut]:
    """Tokens that `sae.tokens` asks for beyond those of the training text that were used."""
    why = f"The training text ends before sae.tokens={requested}, or its last tokens fill no batch."
    return [LeftOut("tokens", requested - tokens, requested, why, "training")] if tokens < requested else []


@dataclass(frozen=True)
class _Plan:
    """One training, with all settings checked."""

    coder: SparseCoder
    """The SAE to train: new, or the one to fine-tune."""

    finetune: bool

    recipe: Recipe

    rows: TokenRows
    """Text to train on, and held-out text."""

    rows_per_batch: int

    encoder_dtype: torch.dtype | None
    """Precision of the encoder product; None: that of the weights."""

    home: Path
    """Folder of checkpoint and history; the same settings give the same folder."""

    @property
    def steps(self) -> int:
        """Number of batches."""
        return len(self.rows.train) // self.rows_per_batch

    @property
    def tokens(self) -> int:
        """Number of tokens in them."""
        return self.steps * self.rows_per_batch * int(self.rows.train.shape[1])

    @property
    def history(self) -> Path:
        """The training curves."""
        return self.home / HISTORY

    @property
    def checkpoint(self) -> Path:
        """State of the training."""
        return self.home / "checkpoint.pt"

    @property
    def num_bytes(self) -> int:
        """Memory of weights, gradients and at most three values of the optimiser for each, in float32."""
        weights: int = sum(parameter.numel() for parameter in self.coder.parameters())
        return 5 * 4 * weights

    def module(self) -> SaeTraining:
        """The training steps."""
        return SaeTraining(
            self.coder,
            self.recipe,
            total_steps=self.steps,
            finetune=self.finetune,
            encoder_dtype=self.encoder_dtype,
        )


def _plan(cfg: AppConfig, sae: TrainSae, setup: Setup) -> _Plan:
    """Check the settings against model and machine, and read the text. Raises ConfigError."""
    if setup.hookpoint.side != "output":
        raise ConfigError(f"sae=train needs a module's output; {setup.hookpoint.label} is an input")
    if cfg.runtime.num_nodes > 1:
        raise ConfigError(
            "sae=train runs on one machine; set runtime.num_nodes=1 (runtime.devices may be more)"
        )
    loaded, num_latents = _start(sae, setup)
    sae.check(setup.width, num_latents)
    ctx_len = cfg.corpus.ctx_len
    check_context(setup.lm.model.config, f"corpus.ctx_len={ctx_len}", ctx_len)
    per_batch = max(1, sae.batch_tokens // ctx_len)
    if per_batch < cfg.runtime.devices:
        raise ConfigError(
            f"sae.batch_tokens={sae.batch_tokens} is {per_batch} rows of corpus.ctx_len={ctx_len}, which "
            f"{cfg.runtime.devices} processes cannot share; raise it, or lower runtime.devices"
        )
    folder = setup.store.cache.tokens_folder if setup.store.cache else None
    rows = token_rows(cfg.corpus, setup.lm.tokenizer, sae.tokens, folder, at_least=per_batch * ctx_len)
    home = TRAININGS / _identity(cfg, setup, rows, loaded)
    coder = loaded or new_coder(setup.width, num_latents, sae.recipe)
    return _Plan(
        coder, loaded is not None, sae.recipe, rows, per_batch, _encoder_dtype(sae, setup.machine), home
    )


def _beside(
    cfg: AppConfig,
    this: TrainSae,
    setup: Setup,
    plan: _Plan,
    others: Sequence[TrainSae],
    *,
    together: bool,
    width: int,
) -> list[_Plan]:
    """The trainings to run side by side with `plan`: on its batches, as many as memory has room for.

    `width`: of a batch.
    """
    same_batches = [other for other in others if _stream(other) == _stream(this)]
    stored = setup.store.has_room(plan.rows.train.size, width)
    if stored and not together and same_batches:
        log.info(
            "plan: activations of %d tokens are stored once for the %d SAEs of the sweep that train on them",
            plan.rows.train.size,
            1 + len(same_batches),
        )
    if setup.processes > 1 or (stored and not together):
        return []
    room = free_memory(setup.machine.device) / 2 - plan.num_bytes
    plans: list[_Plan] = []
    for other in same_batches:
        beside = _plan(dataclasses.replace(cfg, sae=other), other, setup)
        room -= beside.num_bytes
        if room < 0:
            log.info("%d SAEs are left to trainings of their own: memory", len(same_batches) - len(plans))
            break
        plans.append(beside)
    return plans


def _stream(cfg: TrainSae) -> tuple[int | bool, ...]:
    """What decides the batches, for one model, hookpoint and corpus."""
    return cfg.tokens, cfg.batch_tokens, cfg.data_seed, cfg.transcode


def _train(
    cfg: TrainSae, setup: Setup, plan: _Plan, tracker: Tracker, beside: Sequence[_Plan] = ()
) -> SparseCoder:
    """The trained SAE; an interrupted training continues from its checkpoint."""
    machine = setup.machine
    module = plan.module()
    with (
        _locked(plan.home),
        setup.row_activations(plan.rows.train, "training text", fill=setup.processes == 1) as source,
        TrainingLog(plan.history, plan.steps, tracker) as history,
        ExitStack() as others,
    ):
        companions = []
        for other in beside:
            if not others.enter_context(_locked(other.home, wait=False)):
                log.info("another process trains the SAE of %s; it is left to it", other.home)
            else:
                curves = TrainingLog(other.history, other.steps, Tracker(), quiet=True)
                companions.append(
                    Companion(other.module(), other.checkpoint, others.enter_context(curves).step)
                )
        order = row_order(len(plan.rows.train), cfg.data_seed)
        return fit(
            module,
            RowBatches(source, order, plan.rows_per_batch),
            checkpoint_path=plan.checkpoint,
            save_every=cfg.save_every,
            accelerator={"cuda": "gpu"}.get(machine.device, machine.device),
            devices=setup.runtime.devices,
            on_step=history.step,
            companions=companions,
        )


@contextmanager
def _locked(home: Path, *, wait: bool = True) -> Iterator[bool]:
    """One process at a time works on a training: another waits, then reads the finished checkpoint.

    Without `wait` it gets False at once.
    """
    home.mkdir(parents=True, exist_ok=True)
    training = lock(home / "training.lock")
    try:
        training.acquire(timeout=0)
    except Timeout:
        if not wait:
            yield False
            return
        log.info("another process trains this very SAE; waiting for it")
        training.acquire()
    try:
        remove_leftovers(home)
        yield True
    finally:
        training.release()


def heldout_fvu(sae: CoderSae, source: ActivationSource, rows_at_once: int = 16) -> float | None:
    """FVU over held-out text, variance pooled over all of it in float64."""
    device = sae.coder.b_dec.device
    sums = ReconstructionSums(1, sae.d_in).to(device)
    rows = np.arange(len(source.sizes_R))
    for chosen in np.split(rows, range(rows_at_once, len(rows), rows_at_once)):
        with torch.inference_mode():
            x_ND = target_ND = source.read(chosen).float().to(device)
            if sae.transcodes:
                x_ND, target_ND = x_ND.chunk(2, dim=-1)
            codes = sae.encode(x_ND)
            text_N = torch.zeros(len(x_ND), dtype=torch.int64, device=device)  # one text, so one task
            sums.update(target_ND, sae.reconstruct(x_ND, codes), codes.sizes_N, text_N)
    total = sums.compute()
    return variance_unexplained(
        int(total["tokens"][0]), total["x"][0], float(total["x2"][0]), float(total["err2"][0])
    )


def _encoder_dtype(cfg: TrainSae, machine: Hardware) -> torch.dtype | None:
    """Precision of the encoder product; None: that of the weights."""
    follow = cfg.encoder_dtype == "auto" and machine.dtype is torch.bfloat16
    return torch.bfloat16 if follow or cfg.encoder_dtype == "bfloat16" else None


def _start(cfg: TrainSae, setup: Setup) -> tuple[SparseCoder | None, int]:
    """The SAE to fine-tune, if any, and the number of latents."""
    if cfg.finetune is None:
        return None, cfg.num_latents or (cfg.expansion_factor or 0) * setup.width
    pretrained = HubSae(repo=cfg.finetune, revision=cfg.revision, num_latents=cfg.num_latents)
    loaded = load_sparsify(
        cfg.finetune, pretrained, d_in=setup.width, hookpoint=setup.hookpoint.name, dtype=torch.float32
    )
    check_kind(loaded.coder, cfg)
    loaded.coder.requires_grad_(True)
    return loaded.coder, loaded.num_latents


def _identity(cfg: AppConfig, setup: Setup, rows: TokenRows, start: SparseCoder | None) -> str:
    """Hash of everything that decides the weights; `start`: the SAE to fine-tune."""
    sae_settings = cfg.scientific()["sae"]
    decisive = [sae_settings, setup.store.model, rows.digest, setup.hookpoint.label, setup.machine.dtype_name]
    if start is not None:  # what its folder or repository holds now
        decisive.append(weights_digest(start))
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
