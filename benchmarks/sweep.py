"""A 3 × 2 sweep as one command beside six scripts that train with sparsify and measure as notebooks do.

    python benchmarks/sweep.py [--rounds 1]

Pythia-14m's shape with random weights and the embedded tokenizer's vocabulary, layers.3, expansion 8, 16, 32
and k 16, 32, embedded text and probes.
    saescope    `saescope -m sae=train sae.expansion_factor=8,16,32 sae.k=16,32 metrics=quick`: the language
                model runs once; SI and Q with nulls, losses with the SAE spliced in, a report for every job
    scripts     six processes: sparsify's Trainer, then output_hidden_states of the whole model, sparsify's
                encode, dense counts, plug-in SI, dense PMI; no null, no loss, no report
Writes benchmarks/results/sweep.json.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from side_by_side import in_turn, machine, print_ratios, ratios, versions, write

EXPANSIONS, KS, LAYER = (8, 16, 32), (16, 32), 3


def save_model(folder: Path, tiny: bool) -> None:
    """The model with random weights, and the embedded tokenizer."""
    import torch
    from setting import Shape
    from transformers import GPTNeoXForCausalLM

    from saescope.config.model import ModelConfig
    from saescope.model.load import load_tokenizer

    tokenizer = load_tokenizer(ModelConfig("embedded"))
    words = len(tokenizer)
    shape = Shape(32, 5, 2, LAYER, words) if tiny else Shape(128, 6, 4, LAYER, words)
    torch.manual_seed(0)
    GPTNeoXForCausalLM(shape.config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def script(model: str, expansion: int, k: int, tokens: int, per_task: int) -> None:
    """One of the six."""
    import numpy as np
    import sparsify_side
    import torch

    from saescope.config import ProbesConfig
    from saescope.config.corpus import CorpusConfig
    from saescope.config.model import ModelConfig
    from saescope.model.load import load_model
    from saescope.stats import naive_modularity, naive_specialization
    from saescope.text.token_rows import token_rows
    from saescope.text.windows import batches, tokenize_probes
    from saescope.training import Recipe

    lm = load_model(ModelConfig(model), torch.float32, seed=0)
    latents = expansion * lm.model.config.hidden_size
    rows = token_rows(CorpusConfig("embedded"), lm.tokenizer, tokens, None).train[: tokens // 256]
    coder = sparsify_side.train(lm.model, rows, f"layers.{LAYER}", Recipe(k=k), latents, 32)
    windows = tokenize_probes(ProbesConfig("embedded", max_tokens_per_task=per_task), lm.tokenizer)
    counts = np.zeros((len(windows.tasks), latents))
    active = []
    with torch.no_grad():
        for batch in batches(windows, np.arange(len(windows.ids)), 4096):
            hidden = lm.model(batch.input_ids_BT, output_hidden_states=True).hidden_states[LAYER + 1]
            found = coder.encode(hidden[batch.counted_BT])
            dense = torch.zeros(len(found.top_acts), latents).scatter_(1, found.top_indices, found.top_acts)
            task_B = torch.from_numpy(windows.task_W[batch.window_B.numpy()])
            task_N = task_B.repeat_interleave(batch.counted_BT.sum(1))
            for task in range(len(windows.tasks)):
                counts[task] += (dense[task_N == task] > 0).sum(0).numpy()
            active.append((dense > 0).numpy())
    from scipy import sparse

    q = naive_modularity(sparse.csr_matrix(np.concatenate(active).astype(np.int32)))
    print(f"SI {np.nanmean(naive_specialization(counts.T)):.3f}, Q {q:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=16_384, help="training tokens of each SAE")
    parser.add_argument("--per-task", type=int, default=3000, help="probe tokens of each task")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--out", type=Path, help="folder of sweep.json; default benchmarks/results")
    parser.add_argument("--script", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.script:
        script(args.script[0], *map(int, args.script[1:]))
        return
    if args.tiny:
        args.per_task = 1500
    environment = machine()
    here = Path(__file__).absolute()
    paths = [str(Path(p).absolute()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    inherited = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    number = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        save_model(Path(model), args.tiny)

        def run(*command: str, cwd: str = folder) -> None:
            subprocess.run(
                [sys.executable, *command], cwd=cwd, env=inherited, check=True, stdout=subprocess.DEVNULL
            )

        def saescope() -> None:
            fresh = Path(folder) / f"round{next(number)}"  # no cache and no finished job to be found
            fresh.mkdir()
            run(
                "-m", "saescope", "-m", "sae=train", "model=local", f"model.name={model}",
                f"hookpoint.layer={LAYER}",
                f"sae.expansion_factor={','.join(map(str, EXPANSIONS))}", f"sae.k={','.join(map(str, KS))}",
                f"sae.tokens={args.tokens}", f"probes.max_tokens_per_task={args.per_task}", "metrics=quick",
                "tracking=disabled", "runtime.device=cpu", "runtime.dtype=float32",
                f"runtime.cache={fresh}/cache",
                cwd=str(fresh),
            )  # fmt: skip

        def scripts() -> None:
            for expansion, k in itertools.product(EXPANSIONS, KS):
                run(
                    str(here), "--script", model, str(expansion), str(k), str(args.tokens), str(args.per_task)
                )

        seconds = in_turn({"scripts": scripts, "saescope": saescope}, args.rounds)
    found: dict[str, Any] = ratios(seconds, {"sweep_vs_scripts": ("scripts", "saescope")})
    found |= {
        "seconds": seconds,
        "sizes": {
            "shape": "pythia-14m, embedded vocabulary", "hookpoint": f"layers.{LAYER}",
            "expansion": EXPANSIONS, "k": KS, "train_tokens": args.tokens,
            "probe_tokens_per_task": args.per_task, "rounds": args.rounds,
        },
        "machine": environment,
        "versions": versions(),
    }  # fmt: skip
    write("sweep", found, args.out)
    print_ratios(found, {})
    for side, values in seconds.items():
        print(f"{side}: {', '.join(f'{s:.1f}' for s in values)} s")


if __name__ == "__main__":
    main()
