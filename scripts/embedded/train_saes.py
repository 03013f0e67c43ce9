"""Train the sparse autoencoders of the embedded default with the sparsify trainer."""

from __future__ import annotations

import os

os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")

import shutil
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from packing import CONTEXT, corpus_rows, packed_rows
from sparsify import SaeConfig, TrainConfig, Trainer
from sparsify.sparse_coder import SparseCoder
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import GPTNeoXForCausalLM

HOOKPOINTS = ("layers.2", "layers.3", "layers.3.mlp")
EXPANSION, ACTIVE = 8, 16
RATE = 1e-2
"""Half of the rate that sparsify chooses for this size: fewer latents stay dead for a slightly larger FVU."""


def train_saes(
    folder: Path, model: GPTNeoXForCausalLM, tokenizer: Tokenizer, tokens: int, seed: int
) -> dict[str, object]:
    """Train all autoencoders in one pass over training text and save them as `<folder>/<hookpoint>`."""
    rows = corpus_rows(tokenizer, "train", seed, tokens // CONTEXT)
    data = Dataset.from_dict({"input_ids": rows.tolist()}).with_format("torch")
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainConfig(
            SaeConfig(expansion_factor=EXPANSION, k=ACTIVE), batch_size=16, hookpoints=list(HOOKPOINTS),
            init_seeds=[seed], lr=RATE, auxk_alpha=1 / 32, dead_feature_threshold=200_000,
            save_dir=scratch, run_name="embedded", save_every=10**9, log_to_wandb=False,
        )  # fmt: skip
        trainer = Trainer(settings, data, model)
        started = time.monotonic()
        trainer.fit()
        spent = time.monotonic() - started
        for hookpoint in HOOKPOINTS:
            shutil.rmtree(folder / hookpoint, ignore_errors=True)
            shutil.copytree(Path(scratch) / "embedded" / hookpoint, folder / hookpoint)
    return {"tokens": len(rows) * CONTEXT, "seed": seed, "rate": RATE, "training_seconds": round(spent)}


@torch.no_grad()
def measure_saes(
    folder: Path, model: GPTNeoXForCausalLM, tokenizer: Tokenizer, probes: dict[str, list[str]]
) -> dict[str, dict[str, float]]:
    """Return FVU, mean L0 and the share of latents that never fire, on the probe text, for each hookpoint.

    FVU is the squared error divided by the variance around the mean, both summed over all positions.
    """
    rows = torch.cat([packed_rows(tokenizer, texts, 10**6) for texts in probes.values()])
    result = {}
    for hookpoint in HOOKPOINTS:
        sae = SparseCoder.load_from_disk(folder / hookpoint)
        x = _outputs(model, hookpoint, rows)
        out = sae(x)
        fired = torch.zeros(sae.num_latents, dtype=torch.bool)
        fired[out.latent_indices[out.latent_acts > 0]] = True
        result[hookpoint] = {
            "fvu": round(out.fvu.item(), 4),
            "l0": round((out.latent_acts > 0).sum(-1).float().mean().item(), 2),
            "dead_share": round(1 - fired.float().mean().item(), 4),
            "positions": len(x),
        }
        print(f"sae {hookpoint}: {result[hookpoint]}", flush=True)
    return result


def _outputs(model: GPTNeoXForCausalLM, hookpoint: str, rows: Tensor) -> Tensor:
    """Outputs of a module at every position of the rows."""
    held: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        held.append((output[0] if isinstance(output, tuple) else output).flatten(0, 1))

    handle = model.base_model.get_submodule(hookpoint).register_forward_hook(keep)
    try:
        for batch in rows.split(16):
            model.base_model(input_ids=batch, use_cache=False)
    finally:
        handle.remove()
    return torch.cat(held)
