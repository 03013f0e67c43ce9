"""Extraction beside its floor, the recipe users copy, and TransformerLens with sae_lens, as ratios.

    python benchmarks/extract.py [--shapes 70m 160m] [--rounds 3] [--tokens 8192]

Pythia shapes with random weights (70m layers.3, 160m layers.6, 410m layers.6), expansion 32, k 32, full
contexts of 256 tokens, batches of 2,048. Sides, in turn in one process, seconds a token:
    saescope    capture, codes, reconstruction sums and the statistics of every latent
    floor       the language model up to the hookpoint and the encoder product, nothing else
    recipe      the whole model in float32 with output_hidden_states=True, sparsify's encode, a dense matrix
    saelens     TransformerLens run_with_cache(stop_at_layer) and sae_lens' encode; no statistics
Ratios: floor_* share of the floor's speed (floor_bf16_*: both in bfloat16), recipe_* with the precision that
saescope chooses on this machine, recipe_fp32_* and saelens_* in float32. saescope and the floor keep
freed memory (saescope.runtime.allocator); recipe and saelens run with the allocator's own limits.
Writes benchmarks/results/extract.json.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import torch
from setting import CTX, PYTHIA, TINY, K, Setting, Shape
from side_by_side import (
    CLOCKS,
    as_by_default,
    as_saescope,
    in_turn,
    machine,
    print_ratios,
    ratios,
    versions,
    write,
)

from saescope.config import RuntimeConfig
from saescope.model.load import quiet_transformers
from saescope.runtime.hardware import BATCH_TOKENS, choose

SHAPES = ("70m", "160m", "410m")
PORTION = {"70m": 1, "160m": 2, "410m": 2}
EXPANSION = 32
PER_SHAPE = {"floor": 0.85, "floor_bf16": 0.75, "recipe": 5.0, "recipe_fp32": 2.3, "saelens": 1.3}
TARGETS = {f"{ratio}_{shape}": target for shape in SHAPES for ratio, target in PER_SHAPE.items()}


def compare(name: str, shape: Shape, args: argparse.Namespace, default: torch.dtype) -> dict[str, Any]:
    """Ratios of one shape; the slower sides see half the tokens."""
    many = args.tokens // PORTION[name]
    size = {"expansion": EXPANSION, "batch_tokens": min(BATCH_TOKENS["cpu"], many // 2)}
    ours = Setting(shape, dtype=torch.float32, tokens=many, **size)
    less = Setting(shape, dtype=torch.float32, tokens=many // 2, **size)
    less.check()
    sides = {
        "saescope": ours.saescope,
        "floor": as_saescope(ours.floor),
        "recipe": as_by_default(less.recipe),
        "saelens": as_by_default(less.saelens),
    }
    tokens = {"saescope": ours.tokens, "floor": ours.tokens, "recipe": less.tokens, "saelens": less.tokens}
    half = Setting(shape, dtype=torch.bfloat16, tokens=args.bf16_tokens, **size)
    sides |= {"saescope_bf16": half.saescope, "floor_bf16": as_saescope(half.floor)}
    tokens |= {"saescope_bf16": half.tokens, "floor_bf16": half.tokens}
    seconds = in_turn(sides, args.rounds, f"{name}: ", args.clock)
    per_token = {side: [s / tokens[side] for s in values] for side, values in seconds.items()}
    chosen = "saescope_bf16" if default is torch.bfloat16 else "saescope"
    found = ratios(
        per_token,
        {
            f"floor_{name}": ("floor", "saescope"),
            f"floor_bf16_{name}": ("floor_bf16", "saescope_bf16"),
            f"recipe_{name}": ("recipe", chosen),
            f"recipe_fp32_{name}": ("recipe", "saescope"),
            f"saelens_{name}": ("saelens", "saescope"),
        },
    )
    found["tokens_per_s"] = {side: len(v) / sum(v) for side, v in per_token.items()}
    found["tokens"] = tokens
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=8192, help="a round at 70m; half at 160m and 410m")
    parser.add_argument("--bf16-tokens", type=int, default=256, help="the same for bfloat16, often emulated")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: CPU time, for busy machines")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--out", type=Path, help="folder of extract.json; default benchmarks/results")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet_transformers()
    if args.tiny:
        args.tokens, args.bf16_tokens, args.rounds = 4096, 256, 2
    default = choose(RuntimeConfig("cpu")).dtype
    found: dict[str, Any] = {"ratios": {}, "spreads": {}, "tokens_per_s": {}, "tokens": {}}
    environment = machine()
    for name in args.shapes:
        one = compare(name, TINY if args.tiny else PYTHIA[name], args, default)
        found["ratios"] |= one["ratios"]
        found["spreads"] |= one["spreads"]
        found["tokens_per_s"][name], found["tokens"][name] = one["tokens_per_s"], one["tokens"]
    found["default_dtype"] = str(default).removeprefix("torch.")
    if default is torch.float32:
        found["note"] = (
            "no bfloat16 units: bfloat16 is emulated here and saescope chooses float32, "
            "so that recipe_* is recipe_fp32_*"
        )
    found["sizes"] = {
        "shapes": {n: {**vars(PYTHIA[n]), "hookpoint": f"layers.{PYTHIA[n].layer}"} for n in args.shapes},
        "expansion": EXPANSION, "k": K, "ctx_len": CTX, "batch_tokens": BATCH_TOKENS["cpu"],
        "rounds": args.rounds, "clock": args.clock,
    }  # fmt: skip
    found |= {"machine": environment, "versions": versions("sae-lens", "transformer-lens")}
    write("extract", found, args.out)
    print_ratios(found, TARGETS)
    for name, speeds in found["tokens_per_s"].items():
        print(f"{name}, tokens/s: " + ", ".join(f"{side} {speed:,.0f}" for side, speed in speeds.items()))
    if "note" in found:
        print(found["note"])


if __name__ == "__main__":
    main()
