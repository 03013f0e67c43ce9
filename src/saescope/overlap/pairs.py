"""Which SAEs of a set of jobs can be compared, and in which pairs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from saescope.config import applicable
from saescope.overlap.sae_file import find_weights
from saescope.runfolder.run import Run, read_run
from saescope.runfolder.sweep import job_name

MAX_PAIRS = 36
"""Pairs compared at most (nine SAEs of one hookpoint, all with all); replicas first."""
SEEDS = ("init_seed", "data_seed", "save_every")
"""Training settings in which two SAEs may differ and still be replicas of each other."""


@dataclass(frozen=True)
class Member:
    """One SAE, and the job whose features describe it."""

    run: Run
    name: str
    """As in the column `job` of `sweep.csv`."""
    weights: Path
    place: str
    """Model, revision and hookpoint, readable; SAEs of different places are not compared."""
    recipe: str
    """Its training settings, seeds left out; equal for replicas."""
    seed: str
    """`init_seed/data_seed` of a trained SAE, else empty."""
    k: int | None


@dataclass(frozen=True)
class Plan:
    """Which pairs to compare, and why some jobs take no part."""

    pairs: list[tuple[Member, Member]]
    left_out: int
    """Pairs beyond MAX_PAIRS."""
    remarks: list[str]
    """Sentences on jobs that take no part."""


def replicas(a: Member, b: Member) -> bool:
    """Whether the two were trained alike but for their seeds."""
    return a.recipe == b.recipe


def plan_pairs(job_dirs: Sequence[Path], top: Path) -> Plan:
    """Read the jobs; a job without a finished result is skipped. Names are relative to `top`."""
    by_weights: dict[tuple[str, str], Member] = {}
    reasons: dict[str, list[str]] = {}
    for run in map(read_run, job_dirs):
        if not run.ok or not run.provenance:
            continue
        name = job_name(run.path, top)
        weights = find_weights(run.path, run.resolved("sae"))
        if isinstance(weights, str):
            reasons.setdefault(weights, []).append(name)
            continue
        member = _member(run, name, weights)
        with weights.open("rb") as file:
            key = (member.place, hashlib.file_digest(file, "sha256").hexdigest())
        other = by_weights.get(key)
        # the same weights read at several k are one SAE; the largest k is nearest to its training
        if other is None or (member.k or 0) > (other.k or 0):
            by_weights[key] = member
    members = list(by_weights.values())
    pairs = [(a, b) for a, b in combinations(members, 2) if a.place == b.place]
    pairs.sort(key=lambda pair: not replicas(*pair))
    remarks = [
        f"Left out of the overlap: job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}; {reason}."
        for reason, jobs in reasons.items()
    ]
    return Plan(pairs[:MAX_PAIRS], max(0, len(pairs) - MAX_PAIRS), remarks)


def _member(run: Run, name: str, weights: Path) -> Member:
    model, hookpoint, sae = (run.resolved(part) for part in ("model", "hookpoint", "sae"))
    place = f"{model.get('name')} {hookpoint.get('name')} ({hookpoint.get('kind')}, width {sae.get('d_in')})"
    if model.get("revision"):
        place += f" at revision {model['revision']}"
    place += ", random initialisation" * bool(model.get("random_init")) + ", transcoder" * bool(
        sae.get("transcoder")
    )
    config = applicable(run.config)
    settings = {key: value for key, value in (config.get("sae") or {}).items() if key not in SEEDS}
    seed = f"{sae.get('init_seed')}/{sae.get('data_seed')}" if sae.get("source") == "train" else ""
    return Member(
        run=run,
        name=name,
        weights=weights,
        place=place,
        recipe=repr((place, settings, config.get("corpus"))),
        seed=seed,
        k=sae.get("k"),
    )
