"""The audit: which metric may be quoted for what. Writes docs/audit.md and src/saescope/report/audit.json.

    python scripts/audit/run.py            # make audit: about 12 minutes on two cores
    python scripts/audit/run.py --tiny     # the same steps in a minute, to standard output only

SAEs are trained by the product's own training on activations made of known features (world.py), and the
metrics of `analyse` are set against what was planted. What is judged, and how: judge.py.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import saes
import world
from judge import AXIS_WORDS, CLAIMS, FOLLOWS, SPECIFIC, Measured, Verdict, judge
from scipy.stats import spearmanr

from saescope.analysis.features import FeatureResults, analyse
from saescope.config import MetricsConfig
from saescope.files import write_text
from saescope.stats.specialization import specialization, task_counts

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = MetricsConfig(permutations=100, bootstraps=20, word_draws=2, rewirings=20, null_tokens=0)
MATCHED = 0.7
"""Least decoder cosine of a latent with the feature that it is taken for."""


@dataclass(frozen=True)
class Sizes:
    """How much is trained and measured."""

    train_docs: int = 900
    probe_docs: int = 360
    doc_tokens: int = 170
    passes: int = 2
    seeds: int = 5


@dataclass(frozen=True)
class Trained:
    """One SAE on the probes."""

    metrics: Mapping[str, float]
    fvu: float
    recovered: float
    """Share of live latents that lie on a true feature."""
    latent_rank: float
    """Spearman correlation over these latents of SI and the true feature's SI."""


class Audit:
    """Trainings and their metrics, by setting."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.started = sizes, time.perf_counter()
        self.final: dict[str, list[Trained]] = {}
        self.stages: dict[float, list[Trained]] = {stage: [] for stage in saes.STAGES}
        self.truth: dict[str, Mapping[str, float]] = {}

    def follow(self) -> None:
        """Train and measure everything."""
        for name, strengths in world.settings().items():
            truth = world.features(strengths, seed=0)
            sizes = self.sizes
            text = world.text(truth, strengths, sizes.train_docs, sizes.doc_tokens, seed=1)
            probes = world.text(truth, strengths, sizes.probe_docs, sizes.doc_tokens, seed=2)
            self.truth[name] = self._of_truth(probes)
            self.final[name] = []
            for seed in range(sizes.seeds if name == "base" else 1):
                coders = saes.trained(text, truth, seed=seed, passes=sizes.passes)
                measured = {
                    stage: self._of(coder, probes, truth)
                    for stage, coder in coders.items()
                    if stage == 1.0 or name == "base"
                }
                self.final[name].append(measured[1.0])
                if name == "base":
                    for stage, trained in measured.items():
                        self.stages[stage].append(trained)
                self.say(f"{name}, seed {seed}: FVU {measured[1.0].fvu:.3f}")

    def say(self, what: str) -> None:
        """One line to standard error."""
        print(f"{time.perf_counter() - self.started:6.0f} s  {what}", file=sys.stderr, flush=True)

    def _of_truth(self, probes: world.Text) -> Mapping[str, float]:
        """Metrics of an SAE whose latents are the most frequent features themselves."""
        count_F = np.asarray((probes.active_NF > 0).sum(axis=0)).ravel()
        codes = saes.true_codes(probes, np.sort(np.argsort(-count_F)[: saes.NUM_LATENTS]))
        return values_of(analyse(codes, SETTINGS, seed=0))

    def _of(self, coder: saes.SparseCoder, probes: world.Text, truth: world.Features) -> Trained:
        codes, fvu = saes.codes_of(coder, probes, truth)
        results = analyse(codes, SETTINGS, seed=0)
        cosine_LF = coder.W_dec.detach().numpy() @ truth.directions_FD.T
        feature_L, best_L = cosine_LF.argmax(axis=1), cosine_LF.max(axis=1)
        true_si_F = np.nan_to_num(_true_si(probes))
        si = results.features
        matched = (si.supported & (best_L >= MATCHED)).to_numpy()
        rank = 0.0
        if matched.sum() > 2:
            rank = float(spearmanr(si.si[matched], true_si_F[feature_L[matched]]).statistic)
        recovered = float((best_L[si.alive] >= MATCHED).mean())
        return Trained(values_of(results), fvu, recovered, rank)


def _true_si(probes: world.Text) -> np.ndarray:
    """SI of the true features on the probes."""
    active = probes.active_NF.copy()
    active.data[:] = 1
    task_N = probes.task_D[probes.doc_N]
    return specialization(
        task_counts(active, task_N, world.NUM_TASKS), np.bincount(task_N, minlength=world.NUM_TASKS)
    )


def values_of(results: FeatureResults) -> dict[str, float]:
    """The metrics that are numbers, those for sweeps with the level that they are matched at."""
    values = {key: float(value) for key, value in results.metrics.items() if isinstance(value, float)}
    matched = getattr(results, "matched", None) or {}
    if matched.get("si") is not None:
        values["matched_si"] = matched["si"]
    for level in matched.get("q", ()):
        values[f"matched_q {level['latents']} {level['firings']}"] = level["q"]
    return values


def one_level(values: list[Mapping[str, float]]) -> None:
    """`matched_q` of every SAE at the largest graph, and most firings, that all of them have."""
    levels = set.intersection(*({key for key in each if key.startswith("matched_q ")} for each in values))
    if levels:
        chosen = max(levels, key=lambda key: [int(number) for number in key.split()[1:]])
        for each in values:
            each["matched_q"] = each[chosen]


def measured(audit: Audit, key: str) -> Measured | None:
    """Values of a metric in all settings; None where this version does not have it, or it was null."""
    claim, nan = CLAIMS[key], float("nan")
    base = [trained.metrics.get(key, nan) for trained in audit.final["base"]]
    if not np.isfinite(base).all():
        return None
    values = {name: float(np.mean([t.metrics.get(key, nan) for t in ts])) for name, ts in audit.final.items()}
    axes, truth = {}, []
    for axis, strengths in world.AXES.items():
        names = ["base" if s == getattr(world.BASE, axis) else f"{axis} {s:g}" for s in strengths]
        points = [(s, values[name]) for s, name in zip(strengths, names, strict=True)]
        axes[axis] = [point for point in points if np.isfinite(point[1])]
        if axis == claim:
            truth = [(audit.truth[name].get(key, nan), values[name]) for name in names]
    stages = {stage: [t.metrics.get(key, nan) for t in ts] for stage, ts in audit.stages.items()}
    return Measured(axes, [pair for pair in truth if np.isfinite(pair).all()], base, stages)


HEAD = """# Audit: which metric may be quoted for what

{made} It takes about {minutes:.0f} minutes on two cores.

SAEs of {latents:,} latents (k {k}) are trained by `saescope.training` on activations of {width}
dimensions made from {features:,} known features: half fire on words, half by context, with Zipf rates,
in bursts; each of these belongs to one of {modules} planted modules and prefers one of {tasks} tasks.
Three strengths are turned, one at a time:

{axes}

Trained SAEs have FVU {fvu:.2f} (untrained {fvu_untrained:.2f}); {recovered:.0f} % of their live latents
have a decoder cosine of {matched} or more with a true feature. Over these latents, SI and the SI of the
feature have a Spearman correlation of {rank:.2f}.

## What may be quoted

| metric | may be quoted for | fails | detectable, 1 seed | 5 seeds |
|---|---|---|---|---|
{quoted}

*Detectable*: the smallest difference between two settings that is significant at 5 % with a chance of
80 %, with one training each or five; data and model stay the same.{absent}

## Numbers

- *noise*: standard deviation over {seeds} trainings that differ in their seed alone.
- *effect*: change along the axis that the metric claims to measure, weakest to strongest; *rank*:
  Spearman correlation with the strength; *slope*: of the value for trained latents on that for the true
  features.
- *other*: the largest change along another axis. *training*: trained less untrained; *stages*: changes
  from 0 to 1, 10 and 100 % of the training, in standard deviations between seeds.

A metric follows its claim with a rank of {follows} or more and an effect above the detectable
difference, is specific when no other axis moves it by more than {specific} of that (or by more than the
detectable difference), and rises with training by more than the detectable difference.

| metric | claims | noise | effect | rank | slope | other | training | stages |
|---|---|---|---|---|---|---|---|---|
{numbers}
"""


def page(audit: Audit, verdicts: Mapping[str, Verdict], made: str) -> str:
    """docs/audit.md."""
    base, untrained = audit.final["base"], audit.stages[0.0]
    five = 1 / np.sqrt(5)
    quoted = [
        row(
            f"`{key}`",
            v.quotable or "nothing",
            "; ".join(v.failures),
            f"{v.detectable:.4f}",
            f"{v.detectable * five:.4f}",
        )
        for key, v in verdicts.items()
    ]
    numbers = [
        row(
            f"`{key}`",
            v.claim,
            f"{v.noise:.4f}",
            f"{v.effect:+.3f}",
            f"{v.rank:.2f}",
            f"{v.slope:.2f}",
            f"{v.other[1]:.3f} ({v.other[0]})",
            f"{v.training:+.3f}",
            ", ".join(f"{step:+.0f}" for step in v.stages),
        )
        for key, v in verdicts.items()
    ]
    absent = ", ".join(f"`{key}`" for key in CLAIMS if key not in verdicts)
    axes = (
        f"- *{axis}*: {AXIS_WORDS[axis]}, {', '.join(f'{value:g}' for value in values)}"
        for axis, values in world.AXES.items()
    )
    return HEAD.format(
        made=made,
        minutes=(time.perf_counter() - audit.started) / 60,
        latents=saes.NUM_LATENTS,
        k=saes.K,
        width=world.WIDTH,
        features=world.NUM_FEATURES,
        modules=world.MODULES,
        tasks=world.NUM_TASKS,
        axes="\n".join(axes),
        fvu=np.mean([trained.fvu for trained in base]),
        fvu_untrained=np.mean([trained.fvu for trained in untrained]),
        recovered=100 * np.mean([trained.recovered for trained in base]),
        matched=MATCHED,
        rank=np.mean([trained.latent_rank for trained in base]),
        quoted="\n".join(quoted),
        absent=f"\n\nNot judged, since `analyse` does not give them here: {absent}." if absent else "",
        seeds=audit.sizes.seeds,
        follows=FOLLOWS,
        specific=SPECIFIC,
        numbers="\n".join(numbers),
    )


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def record(verdicts: Mapping[str, Verdict], made: str) -> str:
    """The table that pages read."""
    metrics = {
        key: {"quotable": v.quotable, "failures": v.failures, "detectable": round(v.detectable, 6)}
        for key, v in verdicts.items()
    }
    return json.dumps({"made": made, "metrics": metrics}, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a minute's worth, printed and not written")
    tiny = parser.parse_args().tiny
    audit = Audit(Sizes(60, 60, 100, 1, 2) if tiny else Sizes())
    audit.follow()
    everything = [t.metrics for ts in [*audit.final.values(), *audit.stages.values()] for t in ts]
    one_level([*everything, *audit.truth.values()])
    values = {key: measured(audit, key) for key in CLAIMS}
    verdicts = {key: judge(CLAIMS[key], value) for key, value in values.items() if value is not None}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    made = f"Made by `make audit` on {datetime.now(UTC):%d %B %Y} at commit {commit or 'unknown'}."
    text = page(audit, verdicts, made)
    if tiny:
        print(text)
        return
    write_text(ROOT / "docs" / "audit.md", text)
    write_text(ROOT / "src" / "saescope" / "report" / "audit.json", record(verdicts, made))


if __name__ == "__main__":
    main()
