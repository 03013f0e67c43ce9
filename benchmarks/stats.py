"""SI and Q with their nulls over tokens and latents: seconds, peak memory, growth, share of a job.

    python benchmarks/stats.py [--full] [--tokens 100000 1000000] [--latents 8192 32768]

SI with 1,000 permutations and 1,000 bootstraps, Q with 20 rewirings and both edge nulls, on codes with Zipf
rates of which half prefer a task (zipf.py), k 32; every cell in a process of its own. On 100,000 tokens and
32,768 latents all statistics of a job as well: p of the edges, SI and Q beyond words, matched evidence,
document groups; the token ids are drawn by Zipf's law whatever fires, so that every edge is one within tokens
too. Beside it the dense definition that notebooks use (all activations and all pairs as dense matrices; no
null) on the smallest cell, and what it would hold on the others.
`--full` adds the cells that make the table of 0.1M, 0.3M, 1M tokens by 8k, 32k, 131k latents complete, and
all statistics of a job on 1M tokens, which take ten minutes and more (size.py: growth, and k 64).
Writes benchmarks/results/statistics.json, with --full statistics_full.json.
(Not named statistics.py: that is a module of Python's own.)
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import CLOCKS, alone, high_water_mb, machine, versions, write
from size import job_codes
from zipf import TASKS, zipf_codes

from saescope.analysis.features import analyse
from saescope.config import MetricsConfig
from saescope.stats import (
    ModularitySettings,
    SpecializationSettings,
    naive_specialization,
    summarise_modularity,
    summarise_specialization,
    supported,
)

GIB = 2**30
SHORT = (20_000, 8192)
"""The cell on which the dense definition is timed; at 100,000 tokens it takes minutes."""
CELLS = [(100_000, 8192), (100_000, 32_768), (1_000_000, 32_768), (100_000, 131_072)]
FULL = [(300_000, 8192), (1_000_000, 8192), (300_000, 32_768), (300_000, 131_072), (1_000_000, 131_072)]
JOB = (1_000_000, 32_768)
"""SI and Q beside the extraction."""
WHOLE = [(100_000, 32_768)]
"""All statistics of a job."""
WHOLE_FULL = [(1_000_000, 32_768), (1_000_000, 131_072)]
"""The same with --full."""
K = 32
SHAPES = ("410m", "70m")
"""32,768 latents are expansion 32 of the one and 64 of the other, whose job is the shorter."""
TARGETS = {"share": 0.10, "peak_gib": 4.0}


def ours(tokens: int, latents: int, draws: int, now: Callable[[], float]) -> dict[str, Any]:
    """One cell. Peak memory holds the codes too."""
    codes = zipf_codes(tokens, latents)
    counts, tokens_D, task_D = codes.documents
    live = supported(np.asarray(counts.sum(0)).ravel(), np.bincount(counts.indices, minlength=latents))
    start = now()
    settings = SpecializationSettings(permutations=draws, bootstraps=draws)
    si = summarise_specialization(counts, tokens_D, task_D, TASKS, live, settings)
    middle = now()
    no_naive = ModularitySettings(naive=False)
    q = summarise_modularity(codes.active_NF, codes.task_N, TASKS, live, si.top_task, no_naive)
    return {
        "si_s": middle - start,
        "q_s": now() - middle,
        "peak_mb": high_water_mb(),
        "supported": int(live.sum()),
        "edges": len(q.edges),
        "si": si.metrics["si/mean"],
        "q": q.metrics["q/modularity"],
    }


def whole(tokens: int, latents: int, draws: int, now: Callable[[], float]) -> dict[str, Any]:
    """All statistics of a job at its defaults."""
    codes = job_codes(tokens, latents, K)
    start = now()
    results = analyse(codes, MetricsConfig(permutations=draws, bootstraps=draws), seed=0)
    return {
        "whole_s": now() - start,
        "whole_peak_mb": high_water_mb(),
        "edges_within_token": len(results.edges_within_token),
    }


def dense(tokens: int, latents: int) -> dict[str, Any]:
    """SI from a dense matrix and Q of the 200 largest entries of the dense PMI matrix."""
    import networkx as nx

    codes = zipf_codes(tokens, latents)
    start = time.perf_counter()
    active_NF = codes.active_NF.toarray().astype(np.float32)
    counts_FK = np.stack([(active_NF[codes.task_N == task] > 0).sum(0) for task in range(TASKS)], axis=1)
    si = naive_specialization(counts_FK)
    rate_F = active_NF.mean(0)
    pmi_FF = np.log((active_NF.T @ active_NF / tokens + 1e-9) / (np.outer(rate_F, rate_F) + 1e-9))
    np.fill_diagonal(pmi_FF, 0)
    top = np.argpartition(pmi_FF.ravel(), -200)[-200:]
    graph = nx.Graph([(int(at // latents), int(at % latents)) for at in top])
    parts = nx.community.greedy_modularity_communities(graph)
    q = nx.community.modularity(graph, parts)
    return {"s": time.perf_counter() - start, "peak_mb": high_water_mb(), "si": float(np.nanmean(si)), "q": q}


def dense_gib(tokens: int, latents: int) -> float:
    """What the dense definition holds: activations, and three matrices of all pairs, in float32."""
    return (4 * tokens * latents + 12 * latents**2) / GIB


def tokens_per_s(name: str, latents: int, tokens: int, tiny: bool) -> float:
    """Extraction with that many latents."""
    import torch
    from setting import PYTHIA, TINY, Setting

    from saescope.runtime.hardware import BATCH_TOKENS

    shape = TINY if tiny else PYTHIA[name]
    setting = Setting(shape, max(1, latents // shape.width), torch.float32, tokens, BATCH_TOKENS["cpu"])
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        setting.saescope()
        seconds.append(time.perf_counter() - start)
    return setting.tokens / min(seconds)


def growth(cells: list[dict[str, Any]]) -> dict[str, float]:
    """Exponents a, b of seconds ~ tokens^a × latents^b, least squares over all cells."""
    design = np.log([[np.e, c["tokens"], c["latents"]] for c in cells])
    answer = np.linalg.lstsq(design, np.log([c["si_s"] + c["q_s"] for c in cells]), rcond=None)[0]
    return {"tokens": float(answer[1]), "latents": float(answer[2])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the largest cells too")
    parser.add_argument("--tokens", type=int, nargs="+", help="only cells with so many tokens")
    parser.add_argument("--latents", type=int, nargs="+", help="only cells with so many latents")
    parser.add_argument("--draws", type=int, default=1000, help="permutations and bootstraps")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: CPU time, for busy machines")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--out", type=Path, help="folder of statistics.json; default benchmarks/results")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if args.cell:
        side, size = args.cell[0], (int(args.cell[1]), int(args.cell[2]))
        clock = CLOCKS[args.clock]
        sides = {
            "dense": lambda: dense(*size),
            "ours": lambda: ours(*size, args.draws, clock),
            "whole": lambda: whole(*size, args.draws, clock),
        }
        print(json.dumps(sides[side]()))
        return
    from setting import PYTHIA  # not in a cell: it brings torch, whose memory is not the statistics'

    environment = machine()
    wanted, job, short = CELLS + (FULL if args.full else []), JOB, SHORT
    of_job = WHOLE + (WHOLE_FULL if args.full else [])
    if args.tiny:
        wanted, job, short, args.draws = [(4000, 256), (8000, 256), (4000, 512)], (8000, 256), (2000, 256), 50
        of_job = [(4000, 256)]
    wanted = [
        (n, f)
        for n, f in [short, *wanted]
        if (not args.tokens or n in args.tokens) and (not args.latents or f in args.latents)
    ]
    cells = []
    print(f"{'tokens':>9} {'latents':>8} {'SI, s':>8} {'Q, s':>8} {'peak, MB':>9} {'edges':>9}   dense")
    how = ("--draws", str(args.draws), "--clock", args.clock)
    for n, f in wanted:
        found = alone(__file__, *how, "--cell", "ours", str(n), str(f))
        found |= {"tokens": n, "latents": f, "dense_gib": dense_gib(n, f)}
        said = f"would hold {found['dense_gib']:.1f} GiB"
        if (n, f) == short:
            found["dense"] = alone(__file__, "--cell", "dense", str(n), str(f))
            said = f"{found['dense']['s']:.1f} s, {found['dense']['peak_mb']:,.0f} MB, without any null"
        if (n, f) in of_job:
            found |= alone(__file__, *how, "--cell", "whole", str(n), str(f))
            said = f"all statistics {found['whole_s']:.0f} s, {found['whole_peak_mb']:,.0f} MB"
        cells.append(found)
        print(
            f"{n:>9,} {f:>8,} {found['si_s']:>8.1f} {found['q_s']:>8.1f} {found['peak_mb']:>9,.0f} "
            f"{found['edges']:>9,}   {said}",
            flush=True,
        )
    result: dict[str, Any] = {"cells": cells}
    grid = [c for c in cells if (c["tokens"], c["latents"]) != short]
    if len(grid) >= 3:
        result["growth_exponents"] = growth(grid)
        print(
            "seconds grow as tokens^{tokens:.2f} × latents^{latents:.2f}".format(**result["growth_exponents"])
        )
    speeds: dict[tuple[str, int], float] = {}
    for cell in cells:
        size = cell["tokens"], cell["latents"]
        seconds = {"SI and Q with nulls": cell["si_s"] + cell["q_s"]} if size == job else {}
        seconds |= {"all statistics": cell["whole_s"]} if "whole_s" in cell else {}
        for words, spent in seconds.items():
            for name in SHAPES:
                if (name, size[1]) not in speeds:
                    some = 512 if args.tiny else 4096
                    speeds[name, size[1]] = tokens_per_s(name, size[1], some, args.tiny)
                share = spent / (spent + size[0] / speeds[name, size[1]])
                cell.setdefault("shares", {}).setdefault(words, {})[name] = share
                print(
                    f"{words}: {share:.1%} of extraction and statistics, {size[0]:,} tokens, {size[1]:,} "
                    f"latents (Pythia-{name}'s shape, layers.{PYTHIA[name].layer}, "
                    f"{speeds[name, size[1]]:,.0f} tokens/s); target ≤ {TARGETS['share']:.0%}"
                )
    peak = max(max(c["peak_mb"], c.get("whole_peak_mb", 0.0)) for c in cells) / 1024
    result["peak_gib"] = peak
    print(
        f"largest peak {peak:.2f} GiB; target ≤ {TARGETS['peak_gib']:g} GiB at 1M tokens and 131,072 latents"
    )
    result |= {
        "draws": args.draws,
        "clock": args.clock,
        "targets": TARGETS,
        "machine": environment,
        "versions": versions(),
    }
    write("statistics_full" if args.full else "statistics", result, args.out)


if __name__ == "__main__":
    main()
