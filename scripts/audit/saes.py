"""SAEs trained on the synthetic activations by the product's own training, and their codes on the probes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from world import NUM_TASKS, WIDTH, Features, Text

from saescope.extraction.accumulators import ReconstructionSums
from saescope.extraction.codes import Codes, assemble
from saescope.sae.coder import CoderSae, SparseCoder
from saescope.stats.reconstruction import variance_unexplained
from saescope.training import Recipe, SaeTraining, checkpoint, fit, new_coder

NUM_LATENTS, K, BATCH = 1024, 16, 1024
TASKS = tuple(f"task {number + 1}" for number in range(NUM_TASKS))
STAGES = (0.0, 0.01, 0.1, 1.0)
"""Shares of the training at which the SAE is measured."""


class SyntheticBatches:
    """Batches of tokens in a random order; their activations are made when they are read."""

    def __init__(self, text: Text, truth: Features, seed: int, passes: int) -> None:
        self.text, self.truth, self.seed = text, truth, seed
        rng = np.random.default_rng(seed)
        self.order = np.concatenate([rng.permutation(text.word_N.size) for _ in range(passes)])

    def __len__(self) -> int:
        return self.order.size // BATCH

    def iter_from(self, step: int, rank: int = 0, world: int = 1) -> Iterator[torch.Tensor]:
        """Batches from `step` on; one process."""
        assert world == 1
        for at in range(step, len(self)):
            rows = self.order[at * BATCH : (at + 1) * BATCH]
            rng = np.random.default_rng([self.seed, at])
            yield torch.from_numpy(self.text.activations(self.truth, rows, rng))


class Snapshots(Callback):
    """Keeps the SAE as it is after some steps."""

    def __init__(self, steps: Sequence[int]) -> None:
        self.steps, self.coders = set(steps), {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """After each batch."""
        if pl_module.step in self.steps:
            self.coders[pl_module.step] = checkpoint.averaged_coder(pl_module.training_state())


def trained(text: Text, truth: Features, *, seed: int, passes: int = 1) -> dict[float, SparseCoder]:
    """SAEs at the `STAGES` of one training; `seed`: of the initial weights and the order of the tokens."""
    recipe = Recipe(k=K, init_seed=seed)
    batches = SyntheticBatches(text, truth, seed, passes)
    steps = {stage: max(1, round(stage * len(batches))) for stage in STAGES if stage}
    snapshots = Snapshots(list(steps.values()))
    module = SaeTraining(new_coder(WIDTH, NUM_LATENTS, recipe), recipe, total_steps=len(batches))
    with TemporaryDirectory() as folder:
        whole = fit(
            module,
            batches,
            checkpoint_path=Path(folder) / "training.ckpt",
            save_every=len(batches) + 1,
            callbacks=[snapshots],
        )
    # the product's untrained SAE: the weights before the first step
    coders = {0.0: new_coder(WIDTH, NUM_LATENTS, recipe)}
    coders |= {stage: snapshots.coders[step] for stage, step in steps.items() if stage < 1}
    return coders | {1.0: whole}


def codes_of(coder: SparseCoder, probes: Text, truth: Features) -> tuple[Codes, float]:
    """Codes of the probe tokens, and the share of variance unexplained."""
    sae = CoderSae(coder, torch.float32, {"source": "audit"})
    sums, rng = ReconstructionSums(1, WIDTH), np.random.default_rng(0)
    parts = []
    for start in range(0, probes.word_N.size, 4096):
        rows = np.arange(start, min(start + 4096, probes.word_N.size))
        x_ND = torch.from_numpy(probes.activations(truth, rows, rng))
        with torch.no_grad():
            codes = sae.encode(x_ND)
            sums.update(x_ND, sae.decode(codes), codes.sizes_N, torch.zeros(len(rows), dtype=torch.long))
        parts.append([part.numpy() for part in codes])
    sizes, latents, acts = (np.concatenate(part) for part in zip(*parts, strict=True))
    x, x2, err2 = (sums.compute()[name][0] for name in ("x", "x2", "err2"))
    fvu = variance_unexplained(probes.word_N.size, x, float(x2), float(err2))
    assert fvu is not None
    return as_codes(sizes, latents, acts, probes, NUM_LATENTS), fvu


def true_codes(probes: Text, features: np.ndarray) -> Codes:
    """Codes of an SAE that finds some features and makes no error."""
    active = probes.active_NF[:, features]
    return as_codes(np.diff(active.indptr), active.indices, active.data, probes, features.size)


def as_codes(
    sizes: np.ndarray, latents: np.ndarray, acts: np.ndarray, probes: Text, num_latents: int
) -> Codes:
    """Entries in token order as the product's `Codes`; a document is one window."""
    previous_N = np.where(probes.position_N > 0, np.r_[-1, probes.word_N[:-1]], -1)
    return assemble(
        np.arange(probes.word_N.size),
        sizes,
        latents,
        acts,
        window_N=probes.doc_N,
        position_N=probes.position_N,
        doc_N=probes.doc_N,
        task_D=probes.task_D,
        tasks=TASKS,
        num_latents=num_latents,
        token_N=probes.word_N.astype(np.int32),
        previous_N=previous_N.astype(np.int32),
    )
