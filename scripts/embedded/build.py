"""Build the embedded default: probes, tokenizer, model, sparse autoencoders and model card.

python scripts/embedded/build.py                                   # about half an hour on two CPU cores
python scripts/embedded/build.py --quick --output build/embedded   # the same steps in about a minute
python scripts/embedded/build.py --only saes card                  # keep the model, train the rest again
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measure import held_out, model_loss
from model_card import model_card
from packing import corpus_rows
from tokenizers import Tokenizer
from train_saes import measure_saes, train_saes
from train_tokenizer_and_model import Recipe, store_half, train_model, train_tokenizer
from transformers import GPTNeoXForCausalLM
from write_probes import read_probes, write_probes

STEPS = ("model", "probes", "saes", "card")
DEFAULT_OUTPUT = Path(__file__).parents[2] / "src" / "saescope" / "assets"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help="folder that receives model, saes, probes"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: few steps, a tiny probe")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="steps to run, in this order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps of the model")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="end the model's training within this time"
    )
    parser.add_argument(
        "--sae-tokens", type=int, default=2_097_152, help="training tokens of the autoencoders"
    )
    return parser.parse_args()


def main() -> None:
    """Run the chosen steps; each one leaves its numbers in `model/training.json`."""
    options = arguments()
    recipe = Recipe(steps=options.steps, seed=options.seed, minutes=options.minutes)
    if options.quick:
        recipe = replace(recipe, steps=6, batch_rows=4, warmup_steps=2, tokenizer_documents=2000)
    if options.quick and options.output == DEFAULT_OUTPUT:
        raise SystemExit("A quick build needs its own --output; it would replace the real model.")
    torch.set_flush_denormal(True)
    folder, probes, saes = (options.output / name for name in ("model", "probes", "saes"))
    folder.mkdir(parents=True, exist_ok=True)
    record_path = folder / "training.json"
    record: dict[str, Any] = json.loads(record_path.read_text("utf-8")) if record_path.exists() else {}
    if "model" in options.only:
        tokenizer = train_tokenizer(folder, recipe)
        record["model"] = train_model(folder, tokenizer, recipe)
        record["python"] = platform.python_version()
        record["stored"] = store_smaller(folder, tokenizer, recipe.seed)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if "probes" in options.only:
        size = (2000, 20, 300) if options.quick else (27_000, 260, 15_000)
        record["probes"] = write_probes(probes, tokenizer, options.seed, *size)
    if "saes" in options.only:
        tokens = 16_384 if options.quick else options.sae_tokens
        record["saes"] = train_saes(saes, model, tokenizer, tokens, options.seed)
    texts = read_probes(probes)
    if set(options.only) - {"card"}:
        record["held_out"] = held_out(model, tokenizer, texts, options.seed, 200 if options.quick else 8000)
        record["saes"]["probe"] = measure_saes(saes, model, tokenizer, texts)
    record_path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if "card" in options.only:
        (folder / "README.md").write_text(model_card(record), encoding="utf-8")
    megabytes = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file()) / 1e6
    print(
        f"held-out loss {record['held_out']['nats_per_token']} nats/token,"
        f" {megabytes:.2f} MB in {options.output}"
    )


def store_smaller(folder: Path, tokenizer: Tokenizer, seed: int) -> str:
    """Store float16 weights if the loss stays the same to 0.001 nats; return the stored type's name."""
    rows = corpus_rows(tokenizer, "probe", seed, 64)
    before = model_loss(GPTNeoXForCausalLM.from_pretrained(folder).eval(), rows)
    weights = (folder / "model.safetensors").read_bytes()
    store_half(folder)
    after = model_loss(GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), rows)
    print(f"loss with float32 weights {before:.5f}, with float16 weights {after:.5f}")
    if abs(after - before) < 1e-3:
        return "float16"
    (folder / "model.safetensors").write_bytes(weights)
    return "float32"


if __name__ == "__main__":
    main()
