"""What a user waits for, from Enter to the last report: a job, six SAEs at one hookpoint, all layers.

    python benchmarks/whole.py [--parts job-70m job-160m job-smollm2 saes layers together] [--rounds 1]
                               [--per-task 8000] [--brief] [--before SRC] [--clock wall|children]

Pythia-70m's, 160m's and SmolLM2-135m's shapes with random weights, embedded probes, expansion 8, k 32,
default metrics. Everything is a process of its own, with its imports, and every round begins with an empty
cache.
    job-…    `saescope hookpoint.layer=…` beside `evaluation`: sae_lens' `run_evals` with all its metrics,
             then the SI/Q notebook (output_hidden_states of the whole model, sparsify's encode, dense
             counts, plug-in SI, dense PMI; no null, no interval), on the same tokens. By the job's log also
             the share of its time that the losses and the statistics take. `job`: all three shapes
    saes     at 70m, one `saescope -m sae.repo=…` over six SAEs beside six runs of `evaluation`
    layers   at 160m, one `saescope -m hookpoint.layer=0,1,…` beside one job a layer
    together at 70m, without a cache, the training (by the log) of three SAEs (k 16, 32, 64) in
             `hydra/launcher=together`, and of one
    before-job, before-layers    with --before SRC, the `src/` of an earlier version: the job at SmolLM2's
             shape, the sweep of layers at 160m, by both versions in turn; both unless --parts names one
    floor    of each: the forward passes that cannot be avoided. Once to the (last) hookpoint over all tokens
             and the encoder products; for every hookpoint the blocks above it over the tokens of the
             losses, clean, with zeros, with the mean, and once for every SAE. Without start and statistics.
A ratio is the other side's time by saescope's; `floor_*` is the share of the floor in saescope's time.
--clock children counts the CPU seconds of the processes, for a busy machine (the floor stays wall time).
--brief: fewer tokens, `metrics=quick`, three of the layers of 160m.
Writes benchmarks/results/whole.json, where parts measured before stay.
"""

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from side_by_side import RESULTS, alone, in_turn, machine, print_ratios, ratios, versions, write

EXPANSION, K, CTX, SAES = 8, 32, 256, 6
PARTS = ("job-70m", "job-160m", "job-smollm2", "saes", "layers", "together")
BEFORE = ("before-job", "before-layers")
BRIEF_LAYERS = 3
"""Of the blocks of 160m, evenly spaced."""
TOGETHER_K = (16, 32, 64)
TOGETHER_TOKENS = 300_000
LAYERS = {"70m": 3, "160m": 6, "smollm2": 8}
"""Hookpoint of each shape, where it is one."""
TARGETS = {
    "saes_vs_evaluation_70m": 3.0,
    "layers_vs_jobs_160m": 3.0,
    "job_vs_before_smollm2": 2.5,
    "layers_vs_before_160m": 3.0,
}


def config(shape: str, tiny: bool) -> Any:
    from setting import PYTHIA, Shape
    from transformers import LlamaConfig

    if shape == "smollm2":
        sizes = {
            "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
            "num_attention_heads": 9, "num_key_value_heads": 3,
        }  # fmt: skip
        if tiny:
            sizes |= {
                "vocab_size": 8192, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 10,
                "num_attention_heads": 6, "num_key_value_heads": 2,
            }  # fmt: skip
        return LlamaConfig(**sizes, tie_word_embeddings=True, max_position_embeddings=2048)
    blocks = PYTHIA[shape].blocks
    return (Shape(32, blocks, 2, LAYERS[shape], 8192) if tiny else PYTHIA[shape]).config


def make(shape: str, folder: Path, tiny: bool) -> None:
    """The model with random weights and the embedded tokenizer; six SAEs at its hookpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    from saescope.config.model import ModelConfig
    from saescope.model.load import load_tokenizer
    from saescope.sae.coder import SparseCoder, SparseCoderConfig
    from saescope.training import save_coder

    torch.manual_seed(0)
    cfg = config(shape, tiny)
    AutoModelForCausalLM.from_config(cfg).save_pretrained(folder / "model")
    load_tokenizer(ModelConfig("embedded")).save_pretrained(folder / "model")
    width = cfg.hidden_size
    for number in range(SAES):
        torch.manual_seed(1 + number)
        coder = SparseCoder(width, SparseCoderConfig(num_latents=EXPANSION * width, k=K))
        save_coder(coder, folder / f"sae{number}" / f"layers.{LAYERS[shape]}")


@dataclass(frozen=True)
class Material:
    """What the other sides read: the same model, windows and tokens of the losses."""

    model: Any
    windows: Any
    lm_windows: Any

    @classmethod
    def load(cls, folder: Path, per_task: int, lm_tokens: int) -> "Material":
        import torch

        from saescope.config import ProbesConfig
        from saescope.config.model import ModelConfig
        from saescope.extraction.engine import splice_windows
        from saescope.model.load import load_model, quiet_transformers
        from saescope.text.windows import tokenize_probes

        quiet_transformers()
        lm = load_model(ModelConfig(str(folder / "model")), torch.float32, seed=0)
        windows = tokenize_probes(ProbesConfig("embedded", max_tokens_per_task=per_task), lm.tokenizer)
        return cls(lm.model, windows, splice_windows(windows, lm_tokens))


def evaluation(folder: Path, sae: str, layer: int, per_task: int, lm_tokens: int) -> None:
    """sae_lens' `run_evals` and the notebook, each of which reads the tokens in its own way."""
    import warnings

    import numpy as np
    import torch
    from datasets import Dataset
    from sae_lens import TopKSAE, TopKSAEConfig
    from sae_lens.evals import get_eval_everything_config, run_evals
    from sae_lens.load_model import HookedProxyLM
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.activation_scaler import ActivationScaler
    from sae_lens.training.activations_store import ActivationsStore

    from saescope.config.model import ModelConfig
    from saescope.model.load import load_tokenizer
    from saescope.sae.coder import SparseCoder

    warnings.simplefilter("ignore")  # sae_lens' advice for training
    material = Material.load(folder, per_task, lm_tokens)
    coder = SparseCoder.load_from_disk(str(folder / sae / f"layers.{layer}"))
    name = next(
        name for name, _ in material.model.named_modules() if name.endswith(f".layers.{layer}")
    )  # the base model's own name stands before it
    metadata = SAEMetadata(hook_name=name, context_size=CTX, prepend_bos=False, hook_head_index=None)
    lens = TopKSAE(TopKSAEConfig(d_in=coder.d_in, d_sae=coder.num_latents, k=K, metadata=metadata))
    with torch.no_grad():
        lens.W_enc.copy_(coder.encoder.weight.T)
        lens.b_enc.copy_(coder.encoder.bias)
        lens.W_dec.copy_(coder.W_dec)
        lens.b_dec.copy_(coder.b_dec)
    flat = np.concatenate(material.windows.ids)
    rows = flat[: len(flat) // CTX * CTX].reshape(-1, CTX)
    batch = 8
    proxy = HookedProxyLM(material.model, load_tokenizer(ModelConfig("embedded")), [name])
    data = Dataset.from_dict({"input_ids": rows.tolist()})
    store = ActivationsStore.from_sae(
        proxy, lens, data, context_size=CTX, streaming=False, store_batch_size_prompts=batch
    )
    lm_rows = sum(len(material.windows.ids[w]) for w in material.lm_windows) // CTX
    settings = get_eval_everything_config(batch, max(1, lm_rows // batch), max(1, len(rows) // batch))
    metrics, _ = run_evals(lens, store, proxy, ActivationScaler(), settings)
    print(metrics["reconstruction_quality"])
    notebook(material, coder, layer)


def notebook(material: Material, coder: Any, layer: int) -> None:
    """SI and Q as notebooks compute them."""
    import numpy as np
    import torch
    from scipy import sparse

    from saescope.stats import naive_modularity, naive_specialization
    from saescope.text.windows import batches

    windows, latents = material.windows, coder.num_latents
    counts, active = np.zeros((len(windows.tasks), latents)), []
    with torch.no_grad():
        for batch in batches(windows, np.arange(len(windows.ids)), 4096):
            hidden = material.model(batch.input_ids_BT, output_hidden_states=True).hidden_states[layer + 1]
            top = coder.encode(hidden[batch.counted_BT])
            dense = torch.zeros(len(top.top_acts), latents).scatter_(1, top.top_indices, top.top_acts)
            task_N = torch.from_numpy(windows.task_W[batch.window_B.numpy()]).repeat_interleave(
                batch.counted_BT.sum(1)
            )
            for task in range(len(windows.tasks)):
                counts[task] += (dense[task_N == task] > 0).sum(0).numpy()
            active.append(sparse.csr_matrix((dense > 0).numpy().astype(np.int32)))
    q = naive_modularity(sparse.vstack(active).tocsr())
    print(f"SI {np.nanmean(naive_specialization(counts.T)):.3f}, Q {q}")


def floor(folder: Path, layers: list[int], saes: int, per_task: int, lm_tokens: int) -> None:
    """Prints the seconds of the passes that cannot be avoided."""
    import numpy as np
    import torch

    from saescope.config import HookpointConfig
    from saescope.model.capture import Capture
    from saescope.model.hookpoints import resolve
    from saescope.model.losses import clean_pass, scored_logits, scored_positions
    from saescope.model.upper_blocks import upper_blocks
    from saescope.runtime.allocator import keep_freed_memory
    from saescope.runtime.hardware import BATCH_TOKENS
    from saescope.text.windows import batches

    keep_freed_memory()
    material = Material.load(folder, per_task, lm_tokens)
    model, windows, size = material.model, material.windows, BATCH_TOKENS["cpu"]
    points = [resolve(HookpointConfig("resid", layer=layer), model) for layer in layers]
    every, some = (
        batches(windows, numbers, size) for numbers in (np.arange(len(windows.ids)), material.lm_windows)
    )
    weight = torch.randn(EXPANSION * model.config.hidden_size, model.config.hidden_size)
    out = torch.empty(size, len(weight))
    start = time.perf_counter()
    with torch.inference_mode():
        last = Capture(model, points[-1])
        for batch in every:
            x_ND = last(batch.input_ids_BT)[batch.counted_BT]
            for _ in range(len(points) * saes):
                torch.mm(x_ND, weight.T, out=out[: len(x_ND)])
        for point in points:
            upper = upper_blocks(model, point, some[0].input_ids_BT[:1])
            for batch in some:
                scored_BT = scored_positions(batch.counted_BT, batch.real_BT)
                ids_BT = batch.input_ids_BT
                if upper is None:
                    for _ in range(3 + saes):
                        scored_logits(model, ids_BT, scored_BT)
                    continue
                stream = torch.randn(*ids_BT.shape, model.config.hidden_size)
                with upper.entered(stream):
                    clean_pass(model, ids_BT, scored_BT)
                    for _ in range(2 + saes):
                        scored_logits(model, ids_BT, scored_BT)
    print(json.dumps({"seconds": time.perf_counter() - start}))


class Bench:
    """Processes on one shape; every command of saescope begins with an empty cache in an empty folder."""

    def __init__(self, shape: str, folder: Path, args: argparse.Namespace) -> None:
        self.shape, self.folder, self.args = shape, folder / shape, args
        self.number = itertools.count()
        make(shape, self.folder, args.tiny)
        blocks = config(shape, args.tiny).num_hidden_layers
        self.layers = range(0, blocks, max(1, blocks // (args.layers or blocks)))
        self.shares: dict[str, list[float]] = {"losses": [], "statistics": []}
        """Of the whole time of every job, from Enter."""
        paths = [str(Path(p).absolute()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    @property
    def sizes(self) -> list[str]:
        return [str(self.args.per_task), str(self.args.lm_tokens)]

    def run(self, *command: str, cwd: Path, environment: dict[str, str] | None = None) -> None:
        subprocess.run(
            [sys.executable, *command], cwd=cwd, env=environment or self.environment, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def saescope(self, *overrides: str, src: Path | None = None) -> Path:
        """Run by this version, or by the one in `src`; returns the folder it ran in."""
        fresh = self.folder / f"round{next(self.number)}"
        fresh.mkdir()
        environment = self.environment | ({"PYTHONPATH": str(src.absolute())} if src else {})
        many = [word for word in overrides if word == "-m"]
        self.run(
            "-m", "saescope", *many, "model=local", f"model.name={self.folder / 'model'}",
            f"probes.max_tokens_per_task={self.args.per_task}", f"metrics.lm_tokens={self.args.lm_tokens}",
            f"metrics={'quick' if self.args.brief else 'default'}", "tracking=disabled",
            "runtime.device=cpu", "runtime.dtype=float32", f"runtime.cache={fresh / 'cache'}",
            *(word for word in overrides if word != "-m"), cwd=fresh, environment=environment,
        )  # fmt: skip
        return fresh

    def repo(self, number: int) -> str:
        return str(self.folder / f"sae{number}")

    def job(self) -> None:
        start = time.perf_counter()
        fresh = self.saescope(f"hookpoint.layer={LAYERS[self.shape]}", f"sae.repo={self.repo(0)}")
        whole = time.perf_counter() - start
        (log,) = fresh.rglob("saescope.log")
        for part, seconds in stage_seconds(log.read_text()).items():
            self.shares[part].append(seconds / whole)

    def saes(self) -> None:
        repos = ",".join(self.repo(number) for number in range(SAES))
        self.saescope("-m", f"hookpoint.layer={LAYERS[self.shape]}", f"sae.repo={repos}")

    def evaluation(self, number: int = 0) -> None:
        layer = str(LAYERS[self.shape])
        script = [str(Path(__file__).absolute()), "--evaluation", str(self.folder), f"sae{number}", layer]
        self.run(*script, *self.sizes, cwd=self.folder)

    def evaluations(self) -> None:
        for number in range(SAES):
            self.evaluation(number)

    def sweep_of_layers(self) -> None:
        layers = ",".join(map(str, self.layers))
        self.saescope("-m", f"hookpoint.layer={layers}", *self.untrained)

    def job_a_layer(self) -> None:
        for layer in self.layers:
            self.saescope(f"hookpoint.layer={layer}", *self.untrained)

    def job_before(self) -> None:
        words = (f"hookpoint.layer={LAYERS[self.shape]}", f"sae.repo={self.repo(0)}")
        self.saescope(*words, src=self.args.before)

    def layers_before(self) -> None:
        layers = ",".join(map(str, self.layers))
        self.saescope("-m", f"hookpoint.layer={layers}", *self.untrained, src=self.args.before)

    def training(self, ks: Sequence[int]) -> float:
        """Seconds of the first job's training: all SAEs train in it."""
        many = ["-m", "hydra/launcher=together"] if len(ks) > 1 else []
        fresh = self.saescope(
            *many, f"hookpoint.layer={LAYERS[self.shape]}", "sae=train", f"sae.expansion_factor={EXPANSION}",
            f"sae.k={','.join(map(str, ks))}", f"sae.tokens={self.args.training_tokens}",
            "probes.max_tokens_per_task=700", "metrics.lm_tokens=0", "runtime.cache=off",
        )  # fmt: skip
        logs = sorted(fresh.rglob("saescope.log"), key=lambda path: path.parent.name)
        return training_seconds(logs[0].read_text())

    @property
    def untrained(self) -> list[str]:
        return ["sae=random", f"sae.expansion_factor={EXPANSION}", f"sae.k={K}"]

    def floor(self, layers: list[int], saes: int) -> float:
        words = ["--floor", str(self.folder), ",".join(map(str, layers)), str(saes), *self.sizes]
        return float(alone(str(Path(__file__).absolute()), *words)["seconds"])


def stage_seconds(log: str) -> dict[str, float]:
    """Seconds of a job's losses and statistics, in its log."""
    lines = {"losses": r"losses with the SAE spliced in: \d+ predictions in ([\d.]+) s", "statistics":
             r"statistics in ([\d.]+) s"}  # fmt: skip
    return {part: float(re.findall(line, log)[-1]) for part, line in lines.items()}


def training_seconds(log: str) -> float:
    """From the line that announces the training to that of its held-out FVU, in a job's log."""
    clock = re.compile(r"(\d\d):(\d\d):(\d\d)")
    first, last = (
        next(line for line in log.splitlines() if words in line) for words in ("training: ", "held-out FVU")
    )
    seconds = []
    for line in (first, last):
        moment = clock.search(line)
        assert moment is not None
        hours, minutes, rest = map(int, moment.groups())
        seconds.append(hours * 3600 + minutes * 60 + rest)
    return float((seconds[1] - seconds[0]) % 86400)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    benches: dict[str, Bench] = {}

    def bench(shape: str) -> Bench:
        if shape not in benches:
            benches[shape] = Bench(shape, folder, args)
        return benches[shape]

    sides: dict[str, dict[str, Any]] = {}
    floors: dict[str, float] = {}
    for shape in LAYERS:
        if f"job-{shape}" in args.parts:
            own = bench(shape)
            sides[f"job_vs_evaluation_{shape}"] = {"evaluation": own.evaluation, "saescope": own.job}
            floors[f"job_vs_evaluation_{shape}"] = own.floor([LAYERS[shape]], 1)
    if "saes" in args.parts:
        own = bench("70m")
        sides["saes_vs_evaluation_70m"] = {"evaluation": own.evaluations, "saescope": own.saes}
        floors["saes_vs_evaluation_70m"] = own.floor([LAYERS["70m"]], SAES)
    if "layers" in args.parts:
        own = bench("160m")
        sides["layers_vs_jobs_160m"] = {"jobs": own.job_a_layer, "saescope": own.sweep_of_layers}
        floors["layers_vs_jobs_160m"] = own.floor(list(own.layers), 1)
    if "before-job" in args.parts:
        own = bench("smollm2")
        sides["job_vs_before_smollm2"] = {"before": own.job_before, "saescope": own.job}
    if "before-layers" in args.parts:
        own = bench("160m")
        sides["layers_vs_before_160m"] = {"before": own.layers_before, "saescope": own.sweep_of_layers}
    result: dict[str, Any] = {"ratios": {}, "spreads": {}, "seconds": {}, "shares": {}, "hookpoints": {}}
    if "together" in args.parts:
        own = bench("70m")
        seconds = {"three": [], "one": []}
        for _ in range(args.rounds):
            seconds["three"].append(own.training(TOGETHER_K))
            seconds["one"].append(own.training(TOGETHER_K[1:2]))
        one = ratios(seconds, {"together_three_by_one_70m": ("three", "one")})
        result["ratios"] |= one["ratios"]
        result["spreads"] |= one["spreads"]
        result["seconds"]["together_70m"] = seconds
    for name, pair in sides.items():
        seconds = in_turn(pair, args.rounds, f"{name}: ", args.clock)
        pairs = {name: (next(iter(pair)), "saescope")}
        if name in floors:
            seconds["floor"] = [floors[name]] * args.rounds
            pairs[f"floor_{name}"] = ("floor", "saescope")
        one = ratios(seconds, pairs)
        result["ratios"] |= one["ratios"]
        result["spreads"] |= one["spreads"]
        result["seconds"][name] = seconds
        own = benches[name.rpartition("_")[2]]
        if name.startswith("job_"):
            result["shares"][name] = own.shares
            own.shares = {part: [] for part in own.shares}
        if name.startswith("layers_"):
            result["hookpoints"][name] = len(own.layers)
    return result


def earlier(out: Path | None) -> dict[str, Any]:
    """The results that are there already: parts may be measured one by one."""
    path = (out or RESULTS) / "whole.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content


def together_with(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """`now`, and of `before` the parts that were not measured now."""
    parts = ("ratios", "spreads", "seconds", "sizes", "shares", "hookpoints")
    return now | {part: before.get(part, {}) | now[part] for part in parts}


def chosen_parts(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """The parts to be measured; the command line's error where one needs an earlier version."""
    parts = args.parts or [*PARTS, *(BEFORE if args.before else ())]
    if "job" in parts:
        parts = [*parts, *(part for part in PARTS if part.startswith("job-"))]
    if not args.before and set(parts) & set(BEFORE):
        parser.error("before-job and before-layers need --before SRC")
    if args.before and not (args.before / "saescope").is_dir():
        parser.error(f"--before {args.before}: no folder saescope/ in it")
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, *BEFORE, "job"), help="default: all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--per-task", type=int, default=8000, help="probe tokens of each of the six tasks")
    parser.add_argument("--lm-tokens", type=int, default=10_000, help="tokens of the losses")
    parser.add_argument("--training-tokens", type=int, default=TOGETHER_TOKENS)
    parser.add_argument("--layers", type=int, help="evenly spaced, of 160m; default all, four with --brief")
    parser.add_argument("--before", type=Path, help="`src/` of an earlier version, timed in turn")
    parser.add_argument("--clock", choices=("wall", "children"), default="wall", help="children: CPU seconds")
    parser.add_argument("--brief", action="store_true", help="for `make bench`")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--out", type=Path, help="folder of whole.json; default benchmarks/results")
    parser.add_argument("--evaluation", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--floor", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.evaluation:
        folder, sae, *numbers = args.evaluation
        evaluation(Path(folder), sae, *map(int, numbers))
        return
    if args.floor:
        folder, layers, *numbers = args.floor
        floor(Path(folder), [int(layer) for layer in layers.split(",")], *map(int, numbers))
        return
    if args.brief:
        args.per_task, args.lm_tokens, args.training_tokens = 1000, 1500, 100_000
    if args.tiny:
        args.per_task, args.lm_tokens, args.brief, args.training_tokens = 700, 1000, True, 20_000
    args.parts = chosen_parts(parser, args)
    if args.brief:
        args.layers = args.layers or BRIEF_LAYERS
    environment = machine()
    with tempfile.TemporaryDirectory() as name:
        result = measure(args, Path(name))
    sizes = {
        "probe_tokens_per_task": args.per_task, "lm_tokens": args.lm_tokens, "rounds": args.rounds,
        "training_tokens": args.training_tokens, "metrics": "quick" if args.brief else "default",
        "clock": args.clock, "load_before": environment["load_before"],
    }  # fmt: skip
    result["sizes"] = dict.fromkeys(result["seconds"], sizes)
    result["setting"] = {
        "hookpoints": {shape: f"layers.{layer}" for shape, layer in LAYERS.items()},
        "expansion": EXPANSION, "k": K, "saes": SAES,
    }  # fmt: skip
    result |= {"machine": environment, "versions": versions("sae-lens", "transformer-lens")}
    write("whole", together_with(earlier(args.out), result), args.out)
    print_ratios(result, TARGETS)
    for name, shares in result["shares"].items():
        said = ", ".join(f"{part} {statistics.median(values):.0%}" for part, values in shares.items())
        print(f"{name}: share of saescope's time: {said}")
    for name, sides in result["seconds"].items():
        print(f"{name}: " + ", ".join(f"{side} {min(values):.1f} s" for side, values in sides.items()))


if __name__ == "__main__":
    main()
