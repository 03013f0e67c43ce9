"""The model card, written from the record of a build."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

CARD = """---
license: mit
language: en
library_name: transformers
tags: [gpt_neox, interpretability, sparse-autoencoder]
---

# The embedded model of saescope

A small GPT-NeoX (Pythia) language model with its own tokenizer and three sparse autoencoders. It lets the first
command of saescope run without a download. It is a test bed for measurements, **not** a useful language model: it
writes grammatical text in the style of its six tasks and knows nothing of the world.

| | |
|---|---|
| Architecture | `GPTNeoXForCausalLM`, {layers} layers, width {width}, {heads} heads, parallel residual, rotary share 0.25, untied embeddings |
| Parameters | {parameters:,} (stored as {stored}, computed in float32) |
| Tokenizer | byte-level BPE, {vocabulary} entries, single digits; `<|endoftext|>` begins, ends and pads |
| Training context | {context} tokens (at most {positions} positions) |
| Training tokens | {tokens:,} in {steps} steps of {batch_rows} rows, seed {seed}{ended} |
| Optimiser | AdamW, peak rate {peak_rate}, {warmup_steps} steps of warm-up, cosine decay, weight decay {weight_decay} |
| Speed | {tokens_per_second:,} tokens/s on two CPU threads, {training_seconds} s |
| Library text | the standard library of Python {python} |

## Text

All text is written by the machine that trains: `code` and `reference` come from the Python standard library
(sources, manual topics and docstrings); `arithmetic`, `qa`, `dialogue` and `logic` come from seeded generators in
`saescope.text`. Whole library files and manual topics (one in eight, by a hash of the name) are kept for probes.
Generated probe documents use names of people and places that no training document uses, and none of their
80-character windows occurs in the first 15,000 documents of the training stream of the task (more than were trained on).

## Held-out loss

Mean nats per predicted token on the probe text ({predicted_tokens:,} tokens), packed to rows of {context}:

| Text | nats/token |
|---|---|
| all probes | {nats_per_token:.3f} |
{task_rows}
| bigram counts, all probes | {bigram_nats_per_token:.3f} |
| unigram counts, all probes | {unigram_nats_per_token:.3f} |
| uniform | {uniform_nats_per_token:.3f} |

## Sparse autoencoders

Trained with sparsify on {sae_tokens:,} training tokens: {latents} latents (expansion 8), TopK with k = 16, float32,
signed momentum at rate {sae_rate}. FVU is the squared error over the variance of the module's output; both are summed over all probe positions.

| Hookpoint | FVU | mean L0 | share of latents that never fire |
|---|---|---|---|
{sae_rows}

Licence: MIT for the generated text; the library text is under the PSF licence of Python. Rebuild everything with
`python scripts/embedded/build.py`; the numbers above are also in `training.json`.
"""


def model_card(record: dict[str, Any]) -> str:
    """Return the card's text for a build's record."""
    held, model = record["held_out"], record["model"]
    steps, planned = model["recipe"]["steps"], model["recipe"]["planned_steps"]
    ended = (
        "" if steps == planned else f"; {planned} steps were planned, and a time limit shortened the schedule"
    )
    tasks = "\n".join(f"| {task} | {loss:.3f} |" for task, loss in held["nats_per_token_by_task"].items())
    saes = "\n".join(
        f"| `{name}` | {row['fvu']:.3f} | {row['l0']:.1f} | {row['dead_share']:.1%} |"
        for name, row in record["saes"]["probe"].items()
    )
    return CARD.format_map({
        **held, **model, **model["recipe"], "positions": 2 * model["context"], "python": record["python"],
        "stored": record["stored"],
        "task_rows": tasks, "ended": ended, "sae_rows": saes, "sae_tokens": record["saes"]["tokens"],
        "sae_rate": record["saes"]["rate"],
        "latents": 8 * model["recipe"]["width"],
    })  # fmt: skip
