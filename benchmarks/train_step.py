"""One SAE training step: ours against sparsify's SparseCoder + SignSGD, interleaved, and peak memory of both.

    python benchmarks/train_step.py [--latents 4096 16384] [--rounds 7]

A step is what both trainers do per batch of activations: unit-norm decoder, forward, backward, parallel
gradients removed, optimiser, dead-latent counts.
`product` is the encoder product alone: no step can be faster. All sides keep freed memory
(saescope.runtime.allocator).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from schedulefree import ScheduleFreeWrapper
from sparsify.sign_sgd import SignSGD

from saescope.runtime.allocator import keep_freed_memory
from saescope.training import Recipe, SaeTraining, new_coder
from saescope.training.recipe import learning_rate

D, K, N = 512, 32, 8192


def data() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(N, 64) @ torch.randn(64, D) + 0.3 * torch.randn(N, D)


def ours(latents: int, x: torch.Tensor) -> Callable[[], float]:
    recipe = Recipe(k=K)
    module = SaeTraining(new_coder(D, latents, recipe), recipe, total_steps=1000)
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    module.configure_optimizers()

    def step() -> float:
        module.training_step(x, 0)
        return module.last_metrics["fvu"]

    return step


def sparsify(latents: int, x: torch.Tensor) -> Callable[[], float]:
    coder = new_coder(D, latents, Recipe(k=K))
    optimizer = ScheduleFreeWrapper(
        SignSGD(coder.parameters(), lr=learning_rate(Recipe(k=K), latents)), momentum=0.95
    )
    optimizer.train()
    since_fired = torch.zeros(latents, dtype=torch.long)
    did_fire = torch.zeros(latents, dtype=torch.bool)
    coder.b_dec.data = x.mean(0)

    def step() -> float:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, x, total_variance=(x - x.mean(0)).pow(2).sum())
        did_fire[out.latent_indices.flatten()] = True
        out.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        since_fired.add_(N)
        since_fired[did_fire] = 0
        did_fire.zero_()
        return float(out.fvu.detach())

    return step


def product(latents: int, x: torch.Tensor) -> Callable[[], float]:
    weight, out = torch.randn(latents, D), torch.empty(N, latents)
    return lambda: float(torch.mm(x, weight.T, out=out)[0, 0])


SIDES = {"saescope": ours, "sparsify": sparsify, "product": product}


def timed(step: Callable[[], float]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def high_water() -> int:
    """KiB. Not `getrusage`: its value survives exec, so a child starts with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak(side: str, latents: int) -> int:
    """MiB above what the imports and the data take, in a process of its own."""
    args = [sys.executable, __file__, "--peak", side, "--latents", str(latents)]
    return int(subprocess.run(args, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", choices=SIDES)
    args = parser.parse_args()
    keep_freed_memory()
    x = data()
    if args.peak:
        before = high_water()
        step = SIDES[args.peak](args.latents[0], x)
        for _ in range(3):
            step()
        print((high_water() - before) // 1024)
        return
    print(f"d={D} k={K} N={N} fp32, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for latents in args.latents:
        steps = {name: make(latents, x) for name, make in SIDES.items()}
        for step in steps.values():
            step()
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(args.rounds):
            for name, step in steps.items():
                seconds[name].append(timed(step))
        ratios = sorted(b / a for a, b in zip(seconds["saescope"], seconds["sparsify"], strict=True))
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        best = {name: min(values) for name, values in seconds.items()}
        for name in SIDES:
            print(f"F={latents} {name:9s} {N / middle[name]:9.0f} tokens/s, fastest {N / best[name]:9.0f}")
        print(
            f"F={latents} ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}), "
            f"of the fastest rounds {best['sparsify'] / best['saescope']:.2f}; "
            f"share of the product alone {best['product'] / best['saescope']:.2f}"
        )
        del steps
        print(
            f"F={latents} peak MiB: " + ", ".join(f"{s} {peak(s, latents)}" for s in ("saescope", "sparsify"))
        )


if __name__ == "__main__":
    main()
