"""All statistics of a job as its tokens grow: seconds and memory of every step.

    python benchmarks/size.py [--tokens 200000 1000000] [--latents 131072] [--k 64] [--clock cpu]

Codes with Zipf rates of which half prefer a task (zipf.py), documents of 128 tokens, token ids by Zipf's law;
statistics at the defaults of a job (`analyse`): SI and Q with their nulls, SI and Q beyond words, matched
evidence, document groups, p of the edges. No language model and no SAE: at 20M tokens and 131,072 latents the
codes alone are 10 GB and come from a pass that keeps nothing else.
Every size is a process of its own. Memory is what cannot be given back (anonymous pages), and beside it the
peak that also counts the pages of files that happen to be in memory; disk is the files of large arrays.
The last line extrapolates the growth between the two largest sizes to `--to` tokens.
Writes benchmarks/results/size.json.
"""

import argparse
import json
import re
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import CLOCKS, alone, high_water_mb, machine, versions, write
from zipf import TASKS, zipf_codes

from saescope.analysis.features import analyse
from saescope.config import MetricsConfig
from saescope.extraction.codes import Codes
from saescope.stats import scratch

WORDS = 50_000
"""Token ids at most."""
LOOK_EVERY_S = 0.2
GIB = 2**30
TARGETS = {"tokens": 20_000_000, "latents": 131_072, "k": 64, "memory_gib": 24.0}


class Watch:
    """Peaks of this process's memory and files, and the seconds between the steps it is told."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self.folder, self.now = str(folder), now
        self.step, self.since = "draw the codes", now()
        self.memory: dict[str, float] = defaultdict(float)
        self.seconds: dict[str, float] = defaultdict(float)
        self.disk = 0.0
        self.ended = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Progress of the statistics."""
        if step != self.step:
            self.next(step)

    def next(self, step: str) -> None:
        """Another step begins."""
        self._note()
        now = self.now()
        self.seconds[self.step] += now - self.since
        print(f"{self.step}: {now - self.since:.1f} s, {self.memory[self.step]:.2f} GiB", file=sys.stderr)
        self.step, self.since = step, now

    def _look(self) -> None:
        while not self.ended.wait(LOOK_EVERY_S):
            self._note()

    def _note(self) -> None:
        (held,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        self.memory[self.step] = max(self.memory[self.step], int(held) / 2**20)
        mapped = re.findall(
            rf"^(\w+)-(\w+) .*{re.escape(self.folder)}", Path("/proc/self/maps").read_text(), re.M
        )
        self.disk = max(self.disk, sum(int(end, 16) - int(start, 16) for start, end in mapped) / GIB)


def job_codes(tokens: int, latents: int, k: int) -> Codes:
    """The codes of a job."""
    drawn = zipf_codes(tokens, latents, k)
    rng = np.random.default_rng(1)
    word_N = np.minimum(rng.zipf(1.2, tokens), WORDS).astype(np.int32)
    starts = np.flatnonzero(np.diff(drawn.doc_N, prepend=-1))
    first = np.zeros(tokens, dtype=bool)
    first[starts] = True
    doc_N = drawn.doc_N.astype(np.int32)
    acts = scratch.empty(drawn.active_NF.nnz, np.float32)
    acts[:] = 1.0
    return Codes(
        indptr=drawn.active_NF.indptr.astype(np.int64),
        latents=drawn.active_NF.indices,
        acts=acts,
        window_N=doc_N,
        position_N=(np.arange(tokens) - starts[doc_N]).astype(np.int32),
        doc_N=doc_N,
        task_D=drawn.task_N[starts],
        tasks=tuple(f"task {number}" for number in range(TASKS)),
        num_latents=latents,
        token_N=word_N,
        previous_N=np.where(first, -1, np.roll(word_N, 1)).astype(np.int32),
    )


def all_statistics(
    tokens: int, latents: int, k: int, settings: MetricsConfig, folder: Path, now: Callable[[], float]
) -> dict[str, Any]:
    """All statistics of one job, measured."""
    watch = Watch(folder, now)
    with scratch.scratch_in(folder):
        codes = job_codes(tokens, latents, k)
        watch.next("codes by document")
        results = analyse(codes, settings, seed=0, progress=watch)
        watch.next("end")
    watch.ended.set()
    drawn = watch.seconds.pop("draw the codes")
    return {
        "seconds": sum(watch.seconds.values()),
        "seconds_of_steps": dict(watch.seconds),
        "draw_s": drawn,
        "memory_gib": max(gib for step, gib in watch.memory.items() if step != "draw the codes"),
        "memory_gib_of_steps": dict(watch.memory),
        "peak_with_files_gib": high_water_mb() / 1024,
        "disk_gib": watch.disk,
        "supported": int(results.features["supported"].sum()),
        "edges": len(results.edges),
        "edges_within_token": len(results.edges_within_token),
        "si": results.metrics["si/mean"],
        "q": results.metrics["q/modularity"],
    }


def exponent(cells: list[dict[str, Any]], what: str) -> float:
    """b of `what` ~ tokens^b, between the two largest sizes."""
    one, other = sorted(cells, key=lambda cell: cell["tokens"])[-2:]
    return float(np.log(other[what] / one[what]) / np.log(other["tokens"] / one["tokens"]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--latents", type=int, default=TARGETS["latents"])
    parser.add_argument("--k", type=int, default=TARGETS["k"])
    parser.add_argument("--draws", type=int, default=1000, help="permutations and bootstraps")
    parser.add_argument("--to", type=int, default=TARGETS["tokens"], help="tokens of the extrapolation")
    parser.add_argument("--folder", type=Path, help="for the files of large arrays; default a temporary one")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: CPU time of all threads"
    )
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--out", type=Path, help="folder of size.json; default benchmarks/results")
    parser.add_argument("--cell", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tiny:
        args.tokens, args.latents, args.k, args.draws = [4000, 8000], 256, 16, 50
    if args.cell:
        settings = MetricsConfig(permutations=args.draws, bootstraps=args.draws)
        size = args.cell, args.latents, args.k
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            print(json.dumps(all_statistics(*size, settings, Path(name), CLOCKS[args.clock])))
        return
    environment = machine()
    words = ["--latents", str(args.latents), "--k", str(args.k), "--draws", str(args.draws)]
    words += ["--clock", args.clock]
    words += ["--folder", str(args.folder)] if args.folder else []
    cells = []
    print(
        f"{'tokens':>11} {'seconds':>8} {'memory, GiB':>12} {'with files':>11} {'disk, GiB':>10} {'edges':>9}"
    )
    for tokens in args.tokens:
        cell = {"tokens": tokens, **alone(__file__, *words, "--cell", str(tokens))}
        cells.append(cell)
        print(
            f"{tokens:>11,} {cell['seconds']:>8.0f} {cell['memory_gib']:>12.2f} "
            f"{cell['peak_with_files_gib']:>11.2f} {cell['disk_gib']:>10.1f} {cell['edges']:>10,}",
            flush=True,
        )
    result: dict[str, Any] = {"cells": cells, "latents": args.latents, "k": args.k, "draws": args.draws}
    result["clock"] = args.clock
    if len(cells) > 1:
        last, grown = cells[-1], {what: exponent(cells, what) for what in ("seconds", "memory_gib")}
        ahead = {what: last[what] * (args.to / last["tokens"]) ** power for what, power in grown.items()}
        result |= {"growth_exponents": grown, "extrapolated": {"tokens": args.to, **ahead}}
        print(
            f"from the growth between the two largest (seconds as tokens^{grown['seconds']:.2f}, memory as "
            f"tokens^{grown['memory_gib']:.2f}), {args.to:,} tokens: {ahead['seconds'] / 3600:.1f} h, "
            f"{ahead['memory_gib']:.1f} GiB"
        )
    result |= {"targets": TARGETS, "machine": environment, "versions": versions()}
    write("size", result, args.out)


if __name__ == "__main__":
    main()
