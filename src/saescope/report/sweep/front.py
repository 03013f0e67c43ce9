"""The Pareto front of reconstruction against sparsity, for each model and hookpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

from saescope.report.sweep.comparable import Group
from saescope.runfolder.values import finite

QUALITIES = {"sae/fvu": -1, "lm/ce_score": 1}
"""Measures against L0; -1: smaller is better."""


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

    FVU and CE of other hookpoints are other questions, so each has a front of its own; one job is no front.
    """
    found = []
    for quality, sign in QUALITIES.items():
        for group in groups:
            places: dict[tuple[str, str], list[int]] = {}
            for at in group.members:
                if finite(rows[at].get("sae/l0")) is not None and finite(rows[at].get(quality)) is not None:
                    weights = " (random weights)" if rows[at].get("model.random_init") else ""
                    key = (f"{rows[at].get('model.name')}{weights}", str(rows[at].get("hookpoint.name")))
                    places.setdefault(key, []).append(at)
            for (model, hookpoint), members in places.items():
                front = pareto(
                    [rows[at]["sae/l0"] for at in members], [sign * rows[at][quality] for at in members]
                )
                if len(members) > 1:
                    name = f"{model} {hookpoint}" + (f" ({group.name})" if len(groups) > 1 else "")
                    found.append({"y": quality, "name": name, "jobs": [members[at] for at in front]})
    return found
