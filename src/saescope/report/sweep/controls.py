"""Results beside their controls: a random SAE, random weights, … that are alike otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saescope.report.controls import RANDOM_WEIGHTS, control_labels
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.comparisons import Settings
from saescope.report.sweep.lines import Point, point
from saescope.report.sweep.settings import Value, conditions
from saescope.report.sweep.uncertainty import Uncertainty, distinct
from saescope.runfolder.run import Run

Row = Mapping[str, Any]
Kind = tuple[str, ...]
"""What makes a job a control: `("random SAE",)`, `("random SAE", "random weights")`, …"""

_SET_BY_USER = ("sae.k", "sae.num_latents")
"""Settings of an untrained SAE; all others of `sae.` belong to a training or a repository."""
_SIZE_OF_MODEL = ("neurons", "pca")
"""SAE sources whose number of latents is the model's width."""


@dataclass(frozen=True)
class BesideControls:
    """A result, and the control of each kind that is alike otherwise."""

    group: str
    at: tuple[tuple[str, Value], ...]
    """The settings that vary between the results, and their values here."""
    result: Point
    controls: Mapping[Kind, Point | None]
    """Those that differ in one thing first; None where the sweep has that kind, but not alike: another k,
    number of latents, layer, model."""


def labels_of(jobs: Sequence[Run]) -> list[Kind]:
    """What makes each job a control; empty for a result."""
    return [control_labels(job.config, job.resolved("sae")) for job in jobs]


def beside_controls(
    rows: Sequence[Row],
    groups: Sequence[Group],
    labels: Sequence[Kind],
    axes: Sequence[str],
    uncertainty: Uncertainty,
) -> list[BesideControls]:
    """Every result of a group that has a control; jobs that differ in seeds only are one result.

    `axes`: the settings that vary between the results.
    """
    beside = []
    for group in groups:
        members = distinct(rows, group.members)
        controls: dict[Kind, list[int]] = {}
        results: dict[tuple[tuple[str, Value], ...], list[int]] = {}
        for at in members:
            if labels[at]:
                controls.setdefault(labels[at], []).append(at)
            else:
                results.setdefault(tuple(conditions(rows[at]).items()), []).append(at)
        if not controls:
            continue
        for jobs in results.values():
            alike = {
                kind: [at for at in candidates if _alike(rows[jobs[0]], rows[at], kind)]
                for kind, candidates in sorted(controls.items(), key=lambda item: len(item[0]))
            }
            where = tuple((axis, rows[jobs[0]].get(axis)) for axis in axes)
            beside.append(
                BesideControls(
                    group.name,
                    where,
                    point(rows, None, jobs, uncertainty),
                    {
                        kind: point(rows, None, same, uncertainty) if same else None
                        for kind, same in alike.items()
                    },
                )
            )
    return beside


def control_pairs(beside: Sequence[BesideControls]) -> list[Settings]:
    """The jobs of every control and of the result it stands beside."""
    return [
        ((control.jobs, entry.result.jobs),)
        for entry in beside
        for control in entry.controls.values()
        if control
    ]


def _alike(result: Row, control: Row, kind: Kind) -> bool:
    """Whether two jobs differ in nothing but what makes the second a control."""
    ignored = {"model.random_init"} if RANDOM_WEIGHTS in kind else set()
    source = control.get("sae.source")
    if set(kind) != {RANDOM_WEIGHTS}:
        if source == result.get("sae.source"):
            ignored |= {"sae.freeze"}
        else:
            kept = _SET_BY_USER[:1] if source in _SIZE_OF_MODEL else _SET_BY_USER
            ignored |= {key for key in result if key.startswith(("sae.", "corpus.")) and key not in kept}
    first, second = conditions(result), conditions(control)
    return all(first.get(key) == second.get(key) for key in {*first, *second} - ignored)
