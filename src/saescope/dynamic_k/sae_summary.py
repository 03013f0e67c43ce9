"""The SAE's curve as scalars `dynk/sae_*`, and warnings for its reader."""

import math

from saescope.dynamic_k.part import Part, middle_k
from saescope.dynamic_k.reads import Point
from saescope.sae.base import Sae


def summarise(part: Part, base: float, points: list[Point]) -> None:
    """`dynk/sae_*`: the read in full, how few latents keep the perplexity, and what adaptive counts gain."""
    rows = dict(zip(points, part.rows, strict=True))
    first = points[0].selector
    full = rows[
        next(p for p in points if p.selector == first and p.k == max(q.k for q in points if q.k <= 1))
    ]
    part.metrics |= {
        "dynk/sae_k": base,
        "dynk/sae_fvu": full["fvu"],
        "dynk/sae_ce_delta": full["ce_delta"],
        "dynk/sae_kl": full["kl"],
    }
    for percent in (1, 5):
        # relative to the full read; the loss of the SAE itself is sae_ce_delta
        limit = full["ce"] + math.log1p(percent / 100)
        within = [p.k for p in points if p.selector == first and p.k <= 1 and rows[p]["ce"] <= limit]
        part.metrics[f"dynk/sae_k_at_ppl_{percent}pct"] = min(within)
    middle = middle_k(tuple(p.k for p in points if p.selector == "topk"))
    for selector in ("threshold", "top_p", "rel_max"):
        key = f"dynk/sae_{selector}_gain"
        pair = [rows.get(p) for p in points if p.k == middle and p.selector in ("topk", selector)]
        if len(pair) == 2 and pair[0] and pair[1]:
            part.metrics[key] = pair[0]["ce"] - pair[1]["ce"]
        else:
            part.metrics[key] = None
            part.notes[key] = f"{selector} or topk is not among dynamic_k.selectors"


def warnings(sae: Sae) -> list[str]:
    """Warnings about k for readers of the curve, in sentences."""
    messages = []
    trained = sae.provenance().get("trained_k")
    if trained is not None and sae.k is not None and sae.k > trained and not multi_topk(sae):
        messages.append(
            f"dynamic_k=sae: reads above k={trained} are outside this SAE's training, "
            "which only Multi-TopK SAEs bear."
        )
    if sae.provenance().get("activation") == "groupmax":
        messages.append(
            "dynamic_k=sae: a GroupMax SAE keeps one latent per group; smaller reads leave groups empty."
        )
    return messages


def multi_topk(sae: Sae) -> bool:
    """Whether it was trained with the Multi-TopK loss, so that k to 4k are within its training."""
    return bool(getattr(getattr(getattr(sae, "coder", None), "cfg", None), "multi_topk", False))
