"""The other side of the training benchmarks: sparsify's own `Trainer`, run as its README does."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset

from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.training import Recipe

with contextlib.redirect_stdout(io.StringIO()):  # it prints which decoder it chose
    from sparsify import Trainer
    from sparsify.config import TrainConfig


def train(
    model: Any,
    rows: np.ndarray,
    hookpoint: str,
    recipe: Recipe,
    latents: int,
    batch: int,
    *,
    save_every: int = 10**9,
    prepare: Callable[[SparseCoder], Any] | None = None,
    on_save: Callable[[int, SparseCoder], None] | None = None,
) -> SparseCoder:
    """Train on `rows` [R, ctx_len] in their order, `batch` rows a step; the SAE as its trainer saves it.

    `prepare` may change the new SAE in place. `on_save` gets the number of steps done and the SAE, loaded
    from disk, at every save.
    """
    steps = len(rows) // batch

    class Watched(Trainer):
        def save(self) -> None:
            super().save()
            if on_save is not None:
                # saved inside a step, which is counted after it; at the end all are counted
                on_save(min(self.global_step + 1, steps), loaded())

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):

        def loaded() -> SparseCoder:
            return SparseCoder.load_from_disk(f"{folder}/unnamed/{hookpoint}")

        cfg = TrainConfig(
            SparseCoderConfig(num_latents=latents, k=recipe.k, multi_topk=recipe.multi_topk),
            batch_size=batch, hookpoints=[hookpoint], init_seeds=[recipe.init_seed], lr=recipe.lr,
            optimizer=recipe.optimizer, auxk_alpha=recipe.auxk_alpha,
            dead_feature_threshold=recipe.dead_feature_threshold,
            log_to_wandb=False, save_every=save_every, save_dir=folder,
        )  # fmt: skip
        data = Dataset.from_dict({"input_ids": rows}).with_format("torch")
        trainer = Watched(cfg, data, model)
        if prepare is not None:
            prepare(trainer.saes[hookpoint])
        trainer.fit()
        return loaded()
