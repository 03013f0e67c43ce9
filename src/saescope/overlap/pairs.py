"""Which SAEs of a set of jobs can be compared, and in which pairs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from saescope.config import applicable
from saescope.files import read_json
from saescope.overlap.sae_file import find_weights

MAX_PAIRS = 36
"""Pairs compared at most (nine SAEs of one hookpoint, all with all); replicas first."""
SEEDS = ("init_seed", "data_seed", "save_every")
"""Training settings in which two SAEs may differ and still be replicas of each other."""


@dataclass(frozen=True)
class Member:
    """One SAE, and the job whose features describe it."""

    job: Path
    name: str
    weights: Path
    place: str
    """Model, revision and hookpoint, readable; SAEs of different places are not compared."""
    recipe: str
    """How it was made, seeds left out."""
    seed: str
    k: int | None
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to compare, and what not and why."""

    pairs: list[tuple[Member, Member]]
    left_out: int
    """Pairs beyond MAX_PAIRS."""
    remarks: list[str]
    """Sentences on jobs that take no part."""


def replicas(a: Member, b: Member) -> bool:
    """Whether the two were trained alike but for their seeds."""
    return a.recipe == b.recipe


def plan_pairs(job_dirs: Sequence[Path]) -> Plan:
    """Read the jobs' provenance; a job without a finished result is passed over."""
    by_weights: dict[tuple[str, str], Member] = {}
    reasons: dict[str, list[str]] = {}
    for job in job_dirs:
        provenance = read_json(job / "provenance.json")
        status = read_json(job / "status.json")
        if not isinstance(provenance, dict) or not isinstance(status, dict) or status.get("state") != "ok":
            continue
        found = find_weights(job, provenance.get("sae") or {})
        if isinstance(found, str):
            reasons.setdefault(found, []).append(job.name)
            continue
        member = _member(job, found, provenance)
        with found.open("rb") as file:
            key = (member.place, hashlib.file_digest(file, "sha256").hexdigest())
        known = by_weights.get(key)
        # the same weights read at several k are one SAE; the largest k is nearest to its training
        if known is None or (member.k or 0) > (known.k or 0):
            by_weights[key] = member
    members = list(by_weights.values())
    pairs = [(a, b) for a, b in combinations(members, 2) if a.place == b.place]
    pairs.sort(key=lambda pair: not replicas(*pair))
    remarks = [
        f"Left out of the overlap: job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}; {reason}."
        for reason, jobs in reasons.items()
    ]
    return Plan(pairs[:MAX_PAIRS], max(0, len(pairs) - MAX_PAIRS), remarks)


def _member(job: Path, weights: Path, provenance: Mapping[str, Any]) -> Member:
    import yaml

    model, at, sae = (provenance.get(part) or {} for part in ("model", "hookpoint", "sae"))
    try:
        config = yaml.safe_load((job / "config.yaml").read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError):
        config = {}
    place = f"{model.get('name')} {at.get('name')} ({at.get('kind')}, width {sae.get('d_in')})"
    if model.get("revision"):
        place += f" at revision {model['revision']}"
    place += ", random initialisation" * bool(model.get("random_init")) + ", transcoder" * bool(
        sae.get("transcoder")
    )
    config = applicable(config) if isinstance(config, Mapping) else {}
    asked = {key: value for key, value in (config.get("sae") or {}).items() if key not in SEEDS}
    recipe = repr((place, sorted(asked.items()), config.get("corpus")))
    seed = f"{sae.get('init_seed')}/{sae.get('data_seed')}" if sae.get("source") == "train" else ""
    metrics = read_json(job / "metrics.json")
    return Member(
        job,
        job.name,
        weights,
        place,
        recipe,
        seed,
        sae.get("k"),
        config,
        metrics if isinstance(metrics, dict) else {},
    )
