"""Extraction on a CUDA GPU: tokens/s, share of the measured matmul ceiling, memory, compile options; Q.

    make bench-gpu        (= python benchmarks/gpu.py)
    python benchmarks/gpu.py --device cpu --tiny        # does it run?

Pythia-410m, 1.4b and 6.9b shapes with random weights, bfloat16, expansion 32, k 32, batches of 65,536 tokens.
The sides are those of extract.py. The language model is also run with its blocks compiled, with and without
CUDA graphs: `forward` has the speed of each beside eager, and `fastest` names the winner.
Writes benchmarks/results/gpu.json.
"""

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from setting import CTX, PYTHIA, TINY, K, Setting, Shape
from side_by_side import alone, in_turn, machine, print_ratios, ratios, versions, write

from saescope.model.load import quiet_transformers

SHAPES = ("410m", "1.4b", "6.9b")
EXPANSION = 32
COMPILE: dict[str, dict[str, Any]] = {
    "eager": {},
    "compile": {"mode": "default"},
    "cuda_graphs": {"mode": "reduce-overhead"},
}


def flops_per_token(shape: Shape) -> float:
    """Multiply-adds × 2 of the blocks up to the hookpoint, causal attention and the encoder product."""
    blocks = (shape.layer + 1) * (24 * shape.width**2 + 2 * CTX * shape.width)
    return blocks + 2 * EXPANSION * shape.width**2


def ceiling(device: str, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of a large square product."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        wait(device)
        start = time.perf_counter()
        for _ in range(5):
            a @ b
        wait(device)
        best = max(best, 5 * 2 * size**3 / (time.perf_counter() - start))
    return best


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def forward(setting: Setting) -> Callable[[], None]:
    def run() -> None:
        for ids_BT in setting.batches:
            setting.activations(ids_BT)
        wait(setting.device)

    return run


def compare_forwards(setting: Setting, rounds: int) -> dict[str, Any]:
    """Tokens/s of the language model up to the hookpoint under each option; a failure is told, not hidden."""
    blocks = setting.model.base_model.layers[: setting.shape.layer + 1]
    plain = [block.forward for block in blocks]
    found: dict[str, Any] = {}
    for name, options in COMPILE.items():
        if options:
            options = {"backend": "eager"} if setting.device == "cpu" else options
            for block, method in zip(blocks, plain, strict=True):
                block.forward = torch.compile(method, **options)
        try:
            run = forward(setting)
            run()
            run()
            seconds = in_turn({name: run}, rounds)[name]
            found[name] = setting.tokens / statistics.median(seconds)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        finally:
            for block, method in zip(blocks, plain, strict=True):
                block.forward = method
            torch.compiler.reset()
    speeds = {name: value for name, value in found.items() if isinstance(value, float)}
    return {"forward": found, "fastest": max(speeds, key=lambda name: speeds[name])}


def measure(name: str, shape: Shape, args: argparse.Namespace, peak_flops: float) -> dict[str, Any]:
    sizes = {"expansion": EXPANSION, "batch_tokens": args.batch_tokens, "device": args.device}
    ours = Setting(shape, dtype=torch.bfloat16, tokens=args.tokens, **sizes)
    ours.saescope(), ours.floor()  # warm
    if args.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    ours.saescope()
    memory = torch.cuda.max_memory_allocated() / 2**30 if args.device != "cpu" else None
    seconds = in_turn({"saescope": ours.saescope, "floor": ours.floor}, args.rounds, f"{name}: ")
    found = ratios(seconds, {f"floor_bf16_{name}": ("floor", "saescope")})
    speed = {side: ours.tokens / statistics.median(values) for side, values in seconds.items()}
    found |= {
        "tokens_per_s": speed,
        "share_of_matmul_ceiling": {
            side: v * flops_per_token(shape) / peak_flops for side, v in speed.items()
        },
        "peak_gib": memory,
        **compare_forwards(ours, args.rounds),
    }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1_048_576)
    parser.add_argument("--batch-tokens", type=int, default=65_536)
    parser.add_argument("--no-q", action="store_true", help="leave out Q at 131,072 latents")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--out", type=Path, help="folder of gpu.json; default benchmarks/results")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu needs a CUDA GPU and PyTorch built for it; none is found here", file=sys.stderr)
        return 1
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet_transformers()
    if args.tiny:
        args.tokens, args.batch_tokens, args.rounds, args.shapes = 1024, 512, 2, ["410m"]
    found: dict[str, Any] = {"ratios": {}, "spreads": {}, "shapes": {}, "machine": machine()}
    peak = ceiling(args.device, torch.bfloat16, 256 if args.tiny else 8192)
    found["matmul_ceiling_tflops"] = peak / 1e12
    for name in args.shapes:
        one = measure(name, TINY if args.tiny else PYTHIA[name], args, peak)
        found["ratios"] |= one.pop("ratios")
        found["spreads"] |= one.pop("spreads")
        found["shapes"][name] = one
        print(f"{name}: {one}", flush=True)
    if not args.no_q:
        n, f, draws = ("4000", "256", "20") if args.tiny else ("1000000", "131072", "1000")
        stats = str(Path(__file__).parent / "stats.py")
        found["q_at_131072"] = alone(stats, "--draws", draws, "--cell", "ours", n, f)
        print("SI and Q at {} tokens, {} latents: {}".format(n, f, found["q_at_131072"]))
    found["sizes"] = {"expansion": EXPANSION, "k": K, "ctx_len": CTX, "tokens": args.tokens,
                      "batch_tokens": args.batch_tokens, "rounds": args.rounds}  # fmt: skip
    found["versions"] = versions()
    write("gpu", found, args.out)
    print_ratios(found, {f"floor_bf16_{name}": 0.75 for name in SHAPES})
    return 0


if __name__ == "__main__":
    sys.exit(main())
