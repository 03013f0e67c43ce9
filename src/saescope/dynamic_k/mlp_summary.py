"""The MLP curves as scalars `dynk/*`, which a sweep can compare."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.part import Part, middle_k
from saescope.dynamic_k.timing import CONTROL
from saescope.dynamic_k.variants import Variant, variants


class Pooled(NamedTuple):
    """One variant over all evaluation documents; nats per token."""

    dense_ce: float
    ce: float
    kl: float
    total_flops_frac: float
    """Of the implementation that leaves the products out."""

    def within(self, percent: float) -> bool:
        """Whether the perplexity is at most `percent` % above the dense one."""
        return self.ce <= self.dense_ce + math.log1p(percent / 100)


def summarise(part: Part, cfg: DynamicKConfig, pooled: Mapping[Variant, Pooled]) -> None:
    """`dynk/*` of target `mlp`, and a reason for each null one.

    Headline: the first selector, score and granularity of the config. Scalars are at the middle k of the
    grid.
    """
    curve = {v.k: value for v, value in pooled.items() if v.family() == headline(cfg)}
    for percent in (1, 5):
        _put(
            part,
            f"dynk/k_at_ppl_{percent}pct",
            smallest_within(curve, percent),
            f"no k of the grid keeps the perplexity within {percent} %",
        )
    middle = middle_k(cfg.k)
    dense, ce, kl, _ = curve[middle]
    part.metrics |= {"dynk/k": middle, "dynk/ce_delta": ce - dense, "dynk/kl": kl}
    for name, (score, granularity) in {
        "random": ("random", "token"),
        "static": ("abs_act", "static"),
        "task": ("abs_act", "task"),
    }.items():
        control = pooled.get(Variant("topk", score, granularity, middle))
        key = f"dynk/{name}_ce_delta"
        _put(
            part,
            key,
            None if control is None else control.ce - control.dense_ce,
            f"topk by {score} per {granularity} is not in the grid",
        )
    k_1pct = part.metrics["dynk/k_at_ppl_1pct"]
    saved = None if k_1pct is None else 1 - curve[k_1pct].total_flops_frac
    _put(part, "dynk/flops_saved_at_ppl_1pct", saved, "no k of the grid keeps the perplexity within 1 %")
    _put(part, "dynk/speedup_at_ppl_1pct", *_speedup(part, pooled, cfg))


def headline(cfg: DynamicKConfig) -> tuple[str, str, str]:
    """Selector, score and granularity of the headline curve.

    The first of each in the config that can be combined: masks shared by tokens are topk, and so is chance.
    """
    return variants(cfg)[0].family()


def smallest_within(curve: Mapping[float, Pooled], percent: float) -> float | None:
    """The smallest k that keeps the perplexity within `percent` % of the dense one, and all larger k too."""
    best = None
    for k in sorted(curve, reverse=True):
        if not curve[k].within(percent):
            break
        best = k
    return best


def _speedup(part: Part, pooled: Mapping[Variant, Pooled], cfg: DynamicKConfig) -> tuple[float | None, str]:
    """Largest measured decoding speed-up at batch 1 among masks that keep the perplexity within 1 %.

    A speed-up no larger than the deviation of the dense control from 1 is noise and counts as 1.
    """
    if not cfg.rounds or 1 not in cfg.batch_sizes:
        return None, "decoding at batch 1 was not timed (dynamic_k.rounds, dynamic_k.batch_sizes)"
    timing_rows = {(row["impl"], row["k"]): row for row in part.rows if row["phase"] == "decode_b1"}
    if not timing_rows:
        return None, "neither gather nor sliced is among dynamic_k.impls"
    control = timing_rows.pop((CONTROL, 1.0))["speedup"]
    noise = max(control, 1 / control)
    fastest = None
    for row in timing_rows.values():
        measured = pooled.get(
            Variant(row["selector"], row.get("score", ""), row.get("granularity", ""), row["k"])
        )
        if measured is not None and measured.within(1):
            speedup = row["speedup"] if row["k"] < 1 and row["speedup"] > noise else 1.0
            fastest = max(fastest or 0.0, speedup)
    return fastest, "no timed mask keeps the perplexity within 1 %"


def _put(part: Part, key: str, value: float | None, why: str) -> None:
    part.metrics[key] = value
    if value is None:
        part.notes[key] = why
