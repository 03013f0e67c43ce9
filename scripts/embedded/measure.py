"""Held-out loss of the model and of counting baselines, in nats per token."""

from __future__ import annotations

import math

import torch
from packing import CONTEXT, corpus_rows, packed_rows
from tokenizers import Tokenizer
from torch import Tensor, nn
from train_tokenizer_and_model import loss_of

CHECK_ROWS = 4
"""Rows of each task that the quick check of the committed model uses."""


@torch.no_grad()
def model_loss(model: nn.Module, rows: Tensor) -> float:
    """Mean nats per predicted token over the rows, each row read on its own."""
    return sum(loss_of(model, part).item() * len(part) for part in rows.split(16)) / len(rows)


def held_out(
    model: nn.Module, tokenizer: Tokenizer, probes: dict[str, list[str]], seed: int, baseline_rows: int = 8000
) -> dict[str, object]:
    """Return losses over the probe text: overall, per task, on the check's rows, and of n-gram counts."""
    rows = {task: packed_rows(tokenizer, texts, 10**6) for task, texts in probes.items()}
    every = torch.cat(list(rows.values()))
    counted = corpus_rows(tokenizer, "train", seed, baseline_rows)
    vocabulary = tokenizer.get_vocab_size()
    unigram, bigram = count_losses(counted, every, vocabulary)
    check = torch.cat([part[:CHECK_ROWS] for part in rows.values()])
    return {
        "nats_per_token": round(model_loss(model, every), 4),
        "nats_per_token_by_task": {task: round(model_loss(model, part), 4) for task, part in rows.items()},
        "predicted_tokens": len(every) * (CONTEXT - 1),
        "unigram_nats_per_token": round(unigram, 4),
        "bigram_nats_per_token": round(bigram, 4),
        "uniform_nats_per_token": round(math.log(vocabulary), 4),
        "check": {"rows_per_task": CHECK_ROWS, "nats_per_token": round(model_loss(model, check), 4)},
    }


def count_losses(train: Tensor, held: Tensor, vocabulary: int, weight: float = 20.0) -> tuple[float, float]:
    """Return the losses of a unigram model with one count added and of a bigram model that backs off to it.

    The bigram estimate is (pair count + `weight` * unigram share) / (count of the first token + `weight`).
    """
    ones = torch.bincount(train.flatten(), minlength=vocabulary).double() + 1
    share = ones / ones.sum()
    first, second = train[:, :-1].flatten(), train[:, 1:].flatten()
    pairs = torch.bincount(first * vocabulary + second, minlength=vocabulary**2).double()
    firsts = torch.bincount(first, minlength=vocabulary).double()
    a, b = held[:, :-1].flatten(), held[:, 1:].flatten()
    bigram = (pairs[a * vocabulary + b] + weight * share[b]) / (firsts[a] + weight)
    return -share[b].log().mean().item(), -bigram.log().mean().item()
