"""Which jobs may be compared: the same texts, tokens, tasks and definitions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saescope.metrics import TASK_DOCS, TASK_TOKENS
from saescope.report.numbers import DASH
from saescope.runfolder.run import Run

_SHOWN_ONLY = {"example_latents", "example_contexts", "document_groups", "matched_draws"}
"""Metrics settings that decide what is shown and how sure it is, not what is counted."""


@dataclass(frozen=True)
class Group:
    """Finished jobs that measure the same thing on the same text."""

    name: str
    """`A`, `B`, …, the largest first."""
    members: tuple[int, ...]
    """Positions among all jobs."""
    differs: tuple[str, ...]
    """How it differs from group A, one phrase a setting; empty for A."""


def groups(jobs: Sequence[Run]) -> list[Group]:
    """The finished jobs in groups of equal texts and definitions, largest first."""
    by_basis: dict[tuple[tuple[str, str], ...], list[int]] = {}
    bases: list[dict[str, Any]] = []
    places: dict[str, dict[str, Any]] = {}  # the same text may lie in several: the first stands for all
    for at, job in enumerate(jobs):
        own_basis = basis(job) if job.ok else {}
        if job.ok and (digest := job.resolved("probes").get("digest")):
            place = {key: value for key, value in own_basis.items() if _is_place(key)}
            own_basis = {key: value for key, value in own_basis.items() if key not in place}
            own_basis |= places.setdefault(str(digest), place)
        bases.append(own_basis)
        if job.ok:
            by_basis.setdefault(tuple((key, str(value)) for key, value in own_basis.items()), []).append(at)
    ordered = sorted(by_basis.values(), key=len, reverse=True)
    return [
        Group(_letter(n), tuple(members), tuple(_differences(bases[ordered[0][0]], bases[members[0]])))
        for n, members in enumerate(ordered)
    ]


def basis(job: Run) -> dict[str, Any]:
    """The values that must be equal in two jobs for a comparison, by name."""
    probes, origins = job.section("probes"), job.resolved("probes").get("origins")
    values: dict[str, Any] = {
        "tasks": ", ".join(sorted(job.tasks)),
        **{f"{task} tokens": job.metrics.get(TASK_TOKENS.of(task)) for task in sorted(job.tasks)},
        **{f"{task} documents": job.metrics.get(TASK_DOCS.of(task)) for task in sorted(job.tasks)},
        **{f"probes.{key}": probes[key] for key in sorted(probes)},
        **{f"metrics.{key}": value for key, value in sorted(job.section("metrics").items())},
        "schema": job.status.get("schema"),
    }
    if isinstance(origins, Mapping):  # folders and dataset commits
        values |= {f"origin of {key}": value for key, value in sorted(origins.items())}
    return {key: value for key, value in values.items() if key.removeprefix("metrics.") not in _SHOWN_ONLY}


def _is_place(name: str) -> bool:
    return name == "probes.path" or name.startswith("origin of ")


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    keys = dict.fromkeys([*first, *other])
    if first.get("tasks") != other.get("tasks"):  # then the counts differ too: not worth a phrase
        keys = {key: None for key in keys if not key.endswith((" tokens", " documents"))}
    return [
        f"{key} {_shown(other.get(key))} instead of {_shown(first.get(key))}"
        for key in keys
        if str(first.get(key)) != str(other.get(key))
    ]


def _shown(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return DASH if value is None else str(value)


def _letter(n: int) -> str:
    return chr(ord("A") + n) if n < 26 else f"{_letter(n // 26 - 1)}{_letter(n % 26)}"
