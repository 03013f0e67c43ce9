"""The benchmark results in Markdown; `--write` puts them into docs/benchmarks.md."""

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

from side_by_side import RESULTS

BEGIN, END = "<!-- benchmarks/table.py -->", "<!-- end -->"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN_WHOLE = "<!-- benchmarks/table.py whole -->"
BEGIN_SIZE = "<!-- benchmarks/table.py size -->"
WHOLE_WORDS = {
    "job_vs_evaluation_70m": ("a job, 70m", ""),
    "job_vs_evaluation_160m": ("a job, 160m", ""),
    "job_vs_evaluation_smollm2": ("a job, SmolLM2-135m", ""),
    "saes_vs_evaluation_70m": ("six SAEs at one hookpoint, 70m: six runs of the evaluation", "≥ 3"),
    "layers_vs_jobs_160m": ("{hookpoints} layers of 160m: one job a layer", "≥ 3"),
    "job_vs_before_smollm2": ("a job, SmolLM2-135m: the version before the shared passes", "≥ 2.5"),
    "layers_vs_before_160m": ("{hookpoints} layers of 160m: the version before", "≥ 3"),
}
SHARES = {"losses": "≤ 35 %", "statistics": "≤ 10 %"}
"""What of a job's time its parts should take."""
SHAPES = ("70m", "160m", "410m")
EXTRACTION = {
    "floor": ("the model up to the hookpoint and the encoder product, nothing else", "0.85"),
    "floor_bf16": ("the same, both in bfloat16", "0.75"),
    "recipe": ("`output_hidden_states=True`, float32, `sae.encode`, dense counts; saescope's defaults", "5"),
    "recipe_fp32": ("the same, saescope in float32", "2.3"),
    "saelens": ("TransformerLens `run_with_cache(stop_at_layer)` and sae_lens' `encode`", "1.3"),
}
TRAINING = {
    "vs_sparsify": ("sparsify's `Trainer`", "3"),
    "vs_saelens": ("sae_lens' `SAETrainer`, TopK, activations in memory", ""),
    "floor": ("the model up to the hookpoint and the encoder product", ""),
}


def load(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def ratio(found: dict[str, Any], name: str) -> str:
    if name not in found.get("ratios", {}):
        return "–"
    low, high = found["spreads"][name]
    return f"{found['ratios'][name]:.2f} ({low:.2f}–{high:.2f})"


def rows() -> list[str]:
    extract, train, stats, sweep, startup = map(load, ("extract", "train", "statistics", "sweep", "startup"))
    out = ["| extraction, tokens/s beside | 70m | 160m | 410m | wanted |", "|---|---|---|---|---|"]
    for key, (words, wanted) in EXTRACTION.items():
        cells = " | ".join(ratio(extract, f"{key}_{shape}") for shape in SHAPES)
        out.append(f"| {words} | {cells} | ≥ {wanted} |")
    out += ["", "| other, beside | ratio or value | wanted |", "|---|---|---|"]
    for key, (words, wanted) in TRAINING.items():
        for x in ("x8", "x32"):
            said = f"≥ {wanted}" if wanted else ""
            out.append(f"| training, expansion {x[1:]}: {words} | {ratio(train, f'{key}_{x}')} | {said} |")
    out.append(f"| 1 × 3 sweep at 70m: three `Trainer` runs | {ratio(train, 'sweep_vs_sparsify')} | ≥ 6 |")
    out.append(
        "| 3 × 2 sweep at 14m with nulls and reports: six sparsify and notebook scripts without | "
        f"{ratio(sweep, 'sweep_vs_scripts')} | |"
    )
    full = load("statistics_full")
    cells = {(c["tokens"], c["latents"]): c for c in [*full.get("cells", []), *stats.get("cells", [])]}
    for (tokens, latents), cell in sorted(cells.items()):
        size = f"{tokens:,} tokens, {latents:,} latents"
        for words, shares in cell.get("shares", {}).items():
            for name, share in shares.items():
                said = f"{share:.1%} of extraction and statistics"
                out.append(f"| {words}, {size}, extraction at {name} | {said} | ≤ 10 % |")
        if "whole_s" in cell:
            parts, peak = cell["si_s"] + cell["q_s"], cell["whole_peak_mb"] / 1024
            said = f"{cell['whole_s']:.0f} s, {peak:.1f} GiB, of these SI and Q with nulls {parts:.0f} s"
            out.append(f"| all statistics of a job, {size} | {said} | ≤ 4 GiB |")
    largest = [c for c in full.get("cells", []) if (c["tokens"], c["latents"]) == (1_000_000, 131_072)]
    for cell in [*stats.get("cells", []), *largest]:
        if cell["tokens"] == 1_000_000:
            words = f"peak memory, 1M tokens, {cell['latents']:,} latents"
            out.append(f"| {words} | {cell['peak_mb'] / 1024:.1f} GiB | ≤ 4 GiB |")
    grown = full if "growth_exponents" in full else stats
    if "growth_exponents" in grown:
        growth = "tokens^{tokens:.2f} × latents^{latents:.2f}".format(**grown["growth_exponents"])
        out.append(f"| growth of SI and Q | {growth} | near linear |")
    words_of = {"help": "`--help`", "cfg_job": "`--cfg job`", "finished_job": "a finished job again"}
    for key, seconds in startup.get("seconds", {}).items():
        out.append(f"| {words_of[key]} | {seconds:.2f} s | < {startup['targets'][key]:g} s |")
    machine = extract.get("machine", {})
    units = "with" if machine.get("bfloat16_units") else "without"
    where = f"{machine.get('cpus')} CPU cores ({machine.get('capability')}, {units} bfloat16 units)"
    load_before = machine.get("load_before", 0.0)
    busy = f"; measured on a busy machine, load {load_before:.0f}" if load_before > 1.5 else ""
    if extract.get("sizes", {}).get("clock") == "cpu":
        busy += (
            ", extraction in CPU seconds of one thread" if machine.get("threads") == 1 else ", CPU seconds"
        )
    return [f"On {where}{busy}; medians and ranges over rounds:", "", *out, *_grid(full)]


def _grid(full: dict[str, Any]) -> list[str]:
    """Seconds and memory over tokens and latents, from `stats.py --full`."""
    cells = {(c["tokens"], c["latents"]): c for c in full.get("cells", [])}
    if not cells:
        return []
    tokens = [n for n in sorted({n for n, _ in cells}) if n >= 100_000]
    head = " | ".join(f"{n:,}" for n in tokens)
    out = ["", f"| SI + Q with nulls, seconds (peak memory), by tokens | {head} |"]
    out.append("|---" * (len(tokens) + 1) + "|")
    for latents in sorted({f for _, f in cells}):
        found = [cells.get((n, latents)) for n in tokens]
        said = [f"{c['si_s'] + c['q_s']:.0f} ({c['peak_mb'] / 1024:.1f} GiB)" if c else "–" for c in found]
        out.append(f"| {latents:,} latents | " + " | ".join(said) + " |")
    for cell in (c for c in full["cells"] if "dense" in c):
        ours, dense = cell["si_s"] + cell["q_s"], cell["dense"]
        out += [
            "",
            f"At {cell['tokens']:,} tokens and {cell['latents']:,} latents these take {ours:.1f} s; the "
            f"dense definition without any null {dense['s']:.1f} s and {dense['peak_mb'] / 1024:.1f} GiB. It "
            f"would hold {cells[1_000_000, 131_072]['dense_gib']:,.0f} GiB at 1M tokens and 131,072 latents "
            "(`python benchmarks/stats.py --full`).",
        ]
    return out


def whole() -> list[str]:
    """The table of docs/benchmarks.md."""
    result = load("whole")
    if not result:
        return ["Not yet measured on a quiet machine."]
    where = result["machine"]
    out = [
        f"On {where['cpus']} CPU cores ({where['capability']}). Tokens: of probes a task, and of the losses. "
        "CPU: seconds of the processes' processor time, one thread each, on a busy machine.",
        "",
        "| beside | tokens | clock | saescope, s | other, s | ratio | wanted | share of the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (words, wanted) in WHOLE_WORDS.items():
        if name in result["seconds"]:
            seconds = result["seconds"][name]
            other = next(side for side in seconds if side not in ("saescope", "floor"))
            ours, theirs = (statistics.median(seconds[side]) for side in ("saescope", other))
            floor, sizes = ratio(result, f"floor_{name}"), result["sizes"][name]
            tokens = f"{sizes['probe_tokens_per_task']:,}, {sizes['lm_tokens']:,}"
            clock = "wall" if sizes["clock"] == "wall" else "CPU"
            words = words.format(hookpoints=result.get("hookpoints", {}).get(name, "all"))
            out.append(
                f"| {words} | {tokens} | {clock} | {ours:.0f} | {theirs:.0f} | {ratio(result, name)} "
                f"| {wanted} | {floor} |"
            )
    if result.get("shares"):
        out += [
            "",
            "| share of a job's time, from Enter | tokens | losses | statistics |",
            "|---|---|---|---|",
        ]
        for name in (name for name in WHOLE_WORDS if name in result["shares"]):
            cells = " | ".join(
                f"{statistics.median(values):.0%} ({min(values):.0%}–{max(values):.0%})"
                for values in (result["shares"][name][part] for part in SHARES)
            )
            sizes = result["sizes"][name]
            tokens = f"{sizes['probe_tokens_per_task']:,}, {sizes['lm_tokens']:,}"
            out.append(f"| {WHOLE_WORDS[name][0].partition(':')[0]} | {tokens} | {cells} |")
        out.append(f"| wanted | | {' | '.join(SHARES.values())} |")
    if (name := "together_three_by_one_70m") in result["ratios"]:
        trained = result["seconds"]["together_70m"]
        three, one = (statistics.median(trained[side]) for side in ("three", "one"))
        out += [
            "",
            f"Three SAEs trained together take {ratio(result, name)} of the time of one (wanted: "
            "at most 1.5): "
            f"{three:.0f} and {one:.0f} s of training at 70m, without a cache, "
            f"{result['sizes']['together_70m']['training_tokens']:,} tokens.",
        ]
    return out


def size() -> list[str]:
    """The growth of all statistics of a job, from size.py."""
    result = load("size")
    if not result:
        return ["Not yet measured on a quiet machine."]
    clock = "CPU seconds" if result["clock"] == "cpu" else "seconds"
    out = [
        f"{result['latents']:,} latents, k {result['k']}:",
        "",
        f"| tokens | {clock} | memory, GiB | with pages of files | files, GiB | edges |",
        "|---|---|---|---|---|---|",
    ]
    for cell in result["cells"]:
        out.append(
            f"| {cell['tokens']:,} | {cell['seconds']:,.0f} | {cell['memory_gib']:.1f} "
            f"| {cell['peak_with_files_gib']:.1f} | {cell['disk_gib']:.1f} | {cell['edges']:,} |"
        )
    if "extrapolated" in result:
        ahead, grown = result["extrapolated"], result["growth_exponents"]
        out += [
            "",
            f"From the growth between the two largest (tokens^{grown['seconds']:.2f}, memory "
            f"tokens^{grown['memory_gib']:.2f}) {ahead['tokens']:,} tokens would take "
            f"{ahead['seconds'] / 3600:.0f} h and {ahead['memory_gib']:.0f} GiB.",
        ]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/benchmarks.md")
    args = parser.parse_args()
    table = "\n".join(rows())
    whole_table, size_table = "\n".join(whole()), "\n".join(size())
    print(table, whole_table, size_table, sep="\n\n")
    if args.write:
        for begin, new in ((BEGIN, table), (BEGIN_WHOLE, whole_table), (BEGIN_SIZE, size_table)):
            text = PAGE.read_text()
            assert begin in text, f"{PAGE.name} has no {begin}"
            between = re.compile(f"{re.escape(begin)}.*?{re.escape(END)}", re.DOTALL)
            PAGE.write_text(between.sub(lambda _, b=begin, n=new: f"{b}\n{n}\n{END}", text))


if __name__ == "__main__":
    main()
