"""Tiny random language models of the three layouts, and batches with padding."""

from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from saescope.dynamic_k.calibration import calibrate, fitting_batch
from saescope.dynamic_k.mlps import find_mlps
from saescope.dynamic_k.passes import Passes
from saescope.dynamic_k.variants import Masks, phase_of, variants
from saescope.text.windows import Batch, Windows

KINDS = ("gpt_neox", "gpt2", "llama")
VOCAB, D, F = 50, 16, 40


def tiny(kind: str) -> Any:
    """Two blocks, width 16, 40 neurons, float32, weights large enough for sharp differences."""
    torch.manual_seed(3)
    common = {"vocab_size": VOCAB, "initializer_range": 0.4, "bos_token_id": 0, "eos_token_id": 0}
    sizes = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": F}
    if kind == "gpt_neox":
        model: Any = GPTNeoXForCausalLM(GPTNeoXConfig(**common, **sizes))
    elif kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**common, n_embd=D, n_layer=2, n_head=2, n_inner=F))
    else:
        model = LlamaForCausalLM(LlamaConfig(**common, **sizes, num_key_value_heads=1))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


def batch(lengths: tuple[int, ...] = (9, 6), extra: int = 0) -> Batch:
    """Windows of these lengths, right-padded to the longest + `extra`; the first position does not count."""
    generator = torch.Generator().manual_seed(5)
    width = max(lengths) + extra
    ids = torch.full((len(lengths), width), 7)
    real = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(0, VOCAB, (length,), generator=generator)
        real[row, :length] = True
    counted = real.clone()
    counted[:, 0] = False
    return Batch(ids, counted, real, torch.arange(len(lengths)))


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits


def windows(documents=12):
    """Two tasks of different tokens, windows of unequal length."""
    generator = torch.Generator().manual_seed(1)
    ids, counted = [], []
    for number in range(documents):
        low = 1 + 24 * (number % 2)
        ids.append(
            torch.randint(low, low + 24, (6 + number % 5,), generator=generator).numpy().astype("int32")
        )
        counted.append(torch.arange(len(ids[-1])).numpy() > 0)
    zeros = torch.zeros(documents, dtype=torch.long).numpy()
    doc = torch.arange(documents).numpy()
    return Windows(ids, counted, doc, zeros, doc % 2, ("low", "high"), 0, {})


def passes(model, token_windows):
    """Over all windows, 32 positions a batch."""
    return Passes(model, token_windows, torch.arange(len(token_windows.ids)).numpy(), 32, "cpu")


def fitted_masks(model, job, compensation="none"):
    """Of every variant of the grid, calibrated on `windows()`."""
    mlps = find_mlps(model)
    calibration = calibrate(mlps, passes(model, windows()), 0)
    grid = [
        Masks(v, mlps, calibration, phase_of(v.granularity, job.phase), compensation, 0)
        for v in variants(job)
    ]
    for masks in grid:
        masks.fit(model, fitting_batch(passes(model, windows())))
    return grid
