"""Training beside sparsify's `Trainer`: both sides in one process, in turn, round after round, as ratios.

    make bench-train        (= python benchmarks/train.py)

Pythia-70m's shape with random weights, layers.3, k 32, contexts of 256 tokens, batches of 8,192 tokens, text
of the embedded corpus. Sides:
    sparsify    `Trainer` with an AutoModelForCausalLM, as in the Python example of its README
    headless    `Trainer` with the model without its LM head, as its command line (CUDA only) loads it;
                not with --brief, which also takes fewer steps and floors
    saescope    no cache: the language model runs up to the hookpoint for every batch
    sweep       saescope at expansion 8, 16, 32 from a cold activation cache, beside three runs of `sparsify`
    floor       the language model up to the hookpoint and the encoder product, nothing else
    saelens     sae_lens' SAETrainer with its TopK SAE, on activations in memory, beside `memory`
    memory      saescope on the same activations in memory
saescope keeps freed memory (runtime/allocator.py); sparsify and sae_lens run with the allocator's own limits.
Writes benchmarks/results/train.json.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sparsify_side
import torch
from side_by_side import as_by_default, as_saescope
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from saescope.activations import ActivationStore, LiveActivations
from saescope.config import HookpointConfig
from saescope.config.corpus import CorpusConfig
from saescope.config.model import ModelConfig
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import load_tokenizer, quiet_transformers
from saescope.runtime import hardware
from saescope.sae.coder import CoderSae, SparseCoder
from saescope.text.token_rows import token_rows
from saescope.training import MemoryBatches, Recipe, SaeTraining, fit, new_coder
from saescope.training.train import RowBatches, heldout_fvu

RESULTS = Path(__file__).parent / "results" / "train.json"
SHAPE = {
    "vocab_size": 50304, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6,
    "num_attention_heads": 8, "max_position_embeddings": 2048,
}  # fmt: skip
D, CTX, BATCH_TOKENS, K, LAYER = 512, 256, 8192, 32, 3
AT_ONCE = hardware.BATCH_TOKENS["cpu"] // CTX
"""Rows of a forward pass of the language model in saescope and the floor: its default."""
EXPANSIONS = (8, 16, 32)
TARGETS = {"vs_sparsify_x8": 3.0, "vs_sparsify_x32": 3.0, "sweep_vs_sparsify": 6.0}


class Bench:
    """The model and the text, the same for every side."""

    def __init__(self, steps: int) -> None:
        torch.manual_seed(0)
        self.model = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)).eval().requires_grad_(False)
        self.hookpoint = resolve(HookpointConfig("resid", layer=LAYER), self.model)
        self.capture = Capture(self.model, self.hookpoint)
        corpus = CorpusConfig("embedded", ctx_len=CTX, holdout_tokens=16_384)
        found = token_rows(corpus, load_tokenizer(ModelConfig("embedded")), steps * BATCH_TOKENS, None)
        self.steps, self.batch = steps, BATCH_TOKENS // CTX
        self.rows = found.train[: steps * self.batch]
        self.held = LiveActivations(self.capture, found.heldout, AT_ONCE, "cpu", D)

    def sparsify(self, expansion: int, model: Any = None) -> tuple[list[float], SparseCoder]:
        """Start times of all steps, and the SAE."""
        model = model or self.model
        marks: list[float] = []
        handle = model.register_forward_pre_hook(lambda *_: marks.append(time.perf_counter()))
        rows = self.rows if model is self.model else self.rows[: 3 * self.batch]
        train = partial(sparsify_side.train, model, rows, self.hookpoint.name, Recipe(k=K), expansion * D)
        coder = as_by_default(lambda: train(self.batch))()
        handle.remove()
        return marks[1:], coder  # the first pass is its probe of widths

    def saescope(self, expansion: int, source: Any) -> tuple[list[float], SparseCoder]:
        """End times of all steps, and the SAE."""
        recipe, marks = Recipe(k=K), []
        module = SaeTraining(new_coder(D, expansion * D, recipe), recipe, total_steps=self.steps)
        batches = RowBatches(source, np.arange(len(self.rows)), self.batch)
        with tempfile.TemporaryDirectory() as folder:
            coder = fit(
                module,
                batches,
                checkpoint_path=Path(folder) / "checkpoint.pt",
                on_step=lambda _: marks.append(time.perf_counter()),
            )
        return marks, coder

    def in_sweep(self, expansion: int, cache: str) -> SparseCoder:
        """The SAE of one job of a sweep; the first fills the activation cache."""
        store = ActivationStore(cache, 20.0, self.model, torch.float32)
        with store.opened(lambda _: self.live(), self.hookpoint, self.rows) as source:
            return self.saescope(expansion, source)[1]

    def memory(self, expansion: int, x: torch.Tensor) -> list[float]:
        """End times of all steps on activations in memory."""
        recipe, marks = Recipe(k=K), []
        module = SaeTraining(new_coder(D, expansion * D, recipe), recipe, total_steps=len(x) // BATCH_TOKENS)
        with tempfile.TemporaryDirectory() as folder:
            fit(
                module,
                MemoryBatches(x, BATCH_TOKENS),
                checkpoint_path=Path(folder) / "checkpoint.pt",
                on_step=lambda _: marks.append(time.perf_counter()),
            )
        return marks

    def saelens(self, expansion: int, x: torch.Tensor) -> list[float]:
        """Start times of all steps, and the end."""
        from sae_lens import LoggingConfig, TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        marks: list[float] = []

        def batches() -> Iterator[torch.Tensor]:
            for rows in x.split(BATCH_TOKENS):
                marks.append(time.perf_counter())
                yield rows

        cfg = SAETrainerConfig(
            total_training_samples=len(x), train_batch_size_samples=BATCH_TOKENS, device="cpu", lr_end=3e-5,
            logger=LoggingConfig(log_to_wandb=False),
        )  # fmt: skip
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D, d_sae=expansion * D, k=K, device="cpu"))
        as_by_default(SAETrainer(cfg, sae, batches()).fit)()
        return [*marks, time.perf_counter()]

    def live(self) -> LiveActivations:
        return LiveActivations(self.capture, self.rows, AT_ONCE, "cpu", D)

    def floor(self, expansion: int) -> float:
        """Seconds of one batch's language model and encoder product."""
        weight, out = torch.randn(expansion * D, D), torch.empty(2048, expansion * D)
        start = time.perf_counter()
        x = self.live().read(np.arange(self.batch))
        for rows in x.split(2048):
            torch.mm(rows, weight.T, out=out[: len(rows)])
        return time.perf_counter() - start


def per_step(marks: list[float]) -> float:
    return (marks[-1] - marks[0]) / (len(marks) - 1)


def compare(rounds: int, steps: int, brief: bool) -> dict[str, Any]:
    bench = Bench(steps)
    seconds: dict[str, list[float]] = defaultdict(list)
    fvu: dict[str, float] = {}

    def validate(name: str, coder: SparseCoder) -> None:
        if name not in fvu:
            fvu[name] = heldout_fvu(CoderSae(coder, torch.float32, {}), bench.held)

    for number in range(rounds):
        whole = {"sparsify": 0.0, "saescope": 0.0}
        with tempfile.TemporaryDirectory() as folder:
            for expansion in EXPANSIONS:
                x = f"x{expansion}"
                start = time.perf_counter()
                marks, coder = bench.sparsify(expansion)
                whole["sparsify"] += time.perf_counter() - start
                seconds[f"sparsify_{x}"].append(per_step(marks))
                validate(f"sparsify_{x}", coder)
                start = time.perf_counter()
                coder = as_saescope(partial(bench.in_sweep, expansion, folder))()
                whole["saescope"] += time.perf_counter() - start
                validate(f"sweep_{x}", coder)
                if expansion != 16:
                    marks, coder = bench.saescope(expansion, bench.live())
                    seconds[f"saescope_{x}"].append(per_step(marks))
                    validate(f"saescope_{x}", coder)
                    floor = as_saescope(partial(bench.floor, expansion))
                    seconds[f"floor_{x}"].append(min(floor() for _ in range(1 if brief else 2)))
                    if not brief:
                        marks, _ = bench.sparsify(expansion, bench.model.gpt_neox)
                        seconds[f"headless_{x}"].append(per_step(marks))
                    some = np.arange((2 if brief else 3) * bench.batch)
                    few = bench.live().read(some).clone()
                    seconds[f"saelens_{x}"].append(per_step(bench.saelens(expansion, few)))
                    seconds[f"memory_{x}"].append(per_step(bench.memory(expansion, few)))
                print(f"round {number + 1} of {rounds}, expansion {expansion} done", flush=True)
        for side, value in whole.items():
            seconds[f"sweep_{side}"].append(value)
    pairs = {"sweep_vs_sparsify": ("sweep_sparsify", "sweep_saescope")}
    for x in ("x8", "x32"):
        pairs[f"vs_sparsify_{x}"] = (f"sparsify_{x}", f"saescope_{x}")
        if not brief:
            pairs[f"vs_headless_{x}"] = (f"headless_{x}", f"saescope_{x}")
        pairs[f"vs_saelens_{x}"] = (f"saelens_{x}", f"memory_{x}")
        pairs[f"floor_{x}"] = (f"floor_{x}", f"saescope_{x}")
    ratios = {name: [a / b for a, b in zip(seconds[one], seconds[two], strict=True)]
              for name, (one, two) in pairs.items()}  # fmt: skip
    gaps = {n: v / fvu[f"sparsify_{n.rpartition('_')[2]}"] - 1 for n, v in fvu.items() if "sparsify" not in n}
    tokens_per_s = {n: BATCH_TOKENS / statistics.median(v) for n, v in seconds.items() if "sweep" not in n}
    return {
        "ratios": {name: statistics.median(values) for name, values in ratios.items()},
        "spreads": {name: [min(values), max(values)] for name, values in ratios.items()},
        "tokens_per_s": tokens_per_s,
        "sweep_seconds": {n: v for n, v in seconds.items() if "sweep" in n},
        "validation_fvu": fvu,
        "fvu_gap": gaps,
    }


def peak_mb(side: str) -> float:
    """Peak resident memory (Linux) of a process that trains two steps at expansion 32."""
    command = [sys.executable, __file__, "--alone", side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def alone(side: str) -> None:
    bench = Bench(2)
    sides: dict[str, Callable[[], Any]] = {
        "sparsify": lambda: bench.sparsify(32),
        "saescope": lambda: bench.saescope(32, bench.live()),
    }
    sides[side]()
    # not getrusage: its maximum is inherited from the process that started this one
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(peak) / 1024)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16, help="steps of a run")
    parser.add_argument("--brief", action="store_true", help="no headless, fewer steps and floors")
    parser.add_argument("--alone", choices=["sparsify", "saescope"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet_transformers()
    if args.alone:
        alone(args.alone)
        return 0
    found = compare(args.rounds, args.steps, args.brief)
    found["peak_mb_x32"] = {side: peak_mb(side) for side in ("sparsify", "saescope")}
    packages = ("saescope", "torch", "transformers", "eai-sparsify", "sae-lens", "lightning", "numpy")
    found |= {
        "sizes": {**SHAPE, "hookpoint": f"layers.{LAYER}", "k": K, "ctx_len": CTX,
                  "batch_tokens": BATCH_TOKENS, "steps": args.steps, "rounds": args.rounds},
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "dtype": "float32",
                    "capability": torch.backends.cpu.get_cpu_capability(), "system": platform.machine()},
        "versions": {"python": platform.python_version(),
                     **{name: importlib.metadata.version(name) for name in packages}},
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\n{'ratio':<20}{'median':>8}   spread          target")
    for name, value in sorted(found["ratios"].items()):
        low, high = found["spreads"][name]
        target = f"≥ {TARGETS[name]:g}" if name in TARGETS else ""
        print(f"{name:<20}{value:>8.2f}   {low:.2f} – {high:.2f}     {target}")
    for name, gap in found["fvu_gap"].items():
        print(f"validation FVU, {name}: {found['validation_fvu'][name]:.5f}, {gap:+.3%} of sparsify's")
    for side, value in found["peak_mb_x32"].items():
        print(f"peak memory, expansion 32, {side}: {value:.0f} MB")
    print(f"written: {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
