"""Train the tokenizer and the language model of the embedded default."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from packing import CONTEXT, corpus_rows
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from saescope.text import embedded_corpus

SEPARATOR = "<|endoftext|>"


@dataclass(frozen=True)
class Recipe:
    """Sizes of the model and of its training run."""

    vocabulary: int = 4096
    width: int = 128
    layers: int = 6
    heads: int = 4
    steps: int = 1500
    batch_rows: int = 16
    peak_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    tokenizer_documents: int = 24_000
    seed: int = 0
    minutes: float = math.inf
    """The schedule is shortened so that training ends in time; the record says how many steps were done."""


def train_tokenizer(folder: Path, recipe: Recipe) -> Tokenizer:
    """Train a byte-level BPE on training documents and save it; digits are single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary, special_tokens=[SEPARATOR], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    texts = islice(embedded_corpus.documents("train", recipe.seed), recipe.tokenizer_documents)
    tokenizer.train_from_iterator((text for _, text in texts), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SEPARATOR, eos_token=SEPARATOR, pad_token=SEPARATOR,
        unk_token=SEPARATOR, model_max_length=2 * CONTEXT, clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)  # fmt: skip
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.pop("backend", None)
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return tokenizer


def new_model(recipe: Recipe) -> GPTNeoXForCausalLM:
    """Return an untrained model of the Pythia architecture."""
    torch.manual_seed(recipe.seed)
    config = GPTNeoXConfig(
        vocab_size=recipe.vocabulary, hidden_size=recipe.width, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, intermediate_size=4 * recipe.width,
        max_position_embeddings=2 * CONTEXT,
        rotary_pct=0.25, rotary_emb_base=10000, use_parallel_residual=True, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=0, pad_token_id=0, use_cache=True, classifier_dropout=0.0,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config)


def loss_of(model: nn.Module, rows: Tensor) -> Tensor:
    """Mean nats per predicted token."""
    logits = model(input_ids=rows, use_cache=False).logits[:, :-1]
    return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), rows[:, 1:].reshape(-1))


def rate_at(step: int, done: float, recipe: Recipe) -> float:
    """Learning rate: a linear warm-up times a cosine that falls to a twentieth of the peak at `done` = 1."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return recipe.peak_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def train_model(folder: Path, tokenizer: Tokenizer, recipe: Recipe) -> dict[str, object]:
    """Train the model, save it and return a record of the run."""
    rows = corpus_rows(tokenizer, "train", recipe.seed, recipe.steps * recipe.batch_rows)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(recipe.seed))]
    model = new_model(recipe).train()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.peak_rate, betas=(0.9, 0.95),
    )  # fmt: skip
    started, shown, step, done = time.monotonic(), 0.0, 0, 0.0
    while done < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, done, recipe)
        loss = loss_of(model, rows[step * recipe.batch_rows : (step + 1) * recipe.batch_rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, spent = step + 1, time.monotonic() - started
        done = max(step / recipe.steps, spent / 60 / recipe.minutes)
        if spent - shown > 10 or done >= 1:
            shown = spent
            print(
                f"step {step} ({done:.1%}) loss {loss.item():.3f}, {spent / done - spent:.0f} s left,"
                f" {step * recipe.batch_rows * CONTEXT / spent:.0f} tokens/s",
                flush=True,
            )
    model.eval().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    spent = time.monotonic() - started
    parameters = sum(p.numel() for p in model.parameters())
    tokens = step * recipe.batch_rows * CONTEXT
    used = {key: value for key, value in asdict(recipe).items() if key != "minutes"}
    return {
        "recipe": used | {"steps": step, "planned_steps": recipe.steps},
        "tokens": tokens,
        "parameters": parameters,
        "context": CONTEXT,
        "training_seconds": round(spent),
        "tokens_per_second": round(tokens / spent),
    }


def store_half(folder: Path) -> None:
    """Rewrite the weights as float16; the configuration still says float32, so they load as float32."""
    path = folder / "model.safetensors"
    save_file(
        {name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"}
    )
