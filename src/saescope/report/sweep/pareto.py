"""The Pareto front of reconstruction against sparsity, for each model and hookpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

from saescope.metrics import LM_CE_SCORE, SAE_FVU, SAE_L0
from saescope.report.sweep.comparable import Group
from saescope.runfolder.values import finite

QUALITIES = (SAE_FVU, LM_CE_SCORE)
"""Measures of reconstruction that are set against L0."""


def pareto(cost: Sequence[float], gain: Sequence[float]) -> list[int]:
    """Positions on the front, by rising cost: every point gains more than all that cost no more."""
    order = sorted(range(len(cost)), key=lambda at: (cost[at], -gain[at]))
    front: list[int] = []
    for at in order:
        if not front or gain[at] > gain[front[-1]]:
            front.append(at)
    return front


def fronts(rows: Sequence[Mapping[str, Any]], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """For each quality, group, model and hookpoint: `{y, name, jobs}`, the jobs on the front in order of L0.

    FVU and CE of two hookpoints cannot be compared, so each has a front of its own; one job alone has none.
    """
    pareto_fronts = []
    for quality in QUALITIES:
        sign = 1 if quality.direction == "higher" else -1
        for group in groups:
            places: dict[tuple[str, str], list[int]] = {}
            for at in group.members:
                if all(finite(rows[at].get(metric.key)) is not None for metric in (SAE_L0, quality)):
                    weights = " (random weights)" if rows[at].get("model.random_init") else ""
                    key = (f"{rows[at].get('model.name')}{weights}", str(rows[at].get("hookpoint.name")))
                    places.setdefault(key, []).append(at)
            for (model, hookpoint), members in places.items():
                front = pareto(
                    [rows[at][SAE_L0.key] for at in members], [sign * rows[at][quality.key] for at in members]
                )
                if len(members) > 1:
                    name = f"{model} {hookpoint}" + (f" ({group.name})" if len(groups) > 1 else "")
                    pareto_fronts.append(
                        {"y": quality.key, "name": name, "jobs": [members[at] for at in front]}
                    )
    return pareto_fronts
