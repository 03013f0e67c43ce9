"""SI and Q at equal evidence: of the levels each job measured, those that all comparable jobs have."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from saescope.metrics import keys
from saescope.report.sweep.comparable import Group
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

COLUMNS = keys("matched")
LACKS = "matched_lacks"
"""Column of what a job lacks for the numbers it does not have."""
Values = dict[str, float | int | str | None]

UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""A file that is missing, unreadable, lacks a part (ReportError is a ValueError) or is impossible."""


def matched_values(jobs: Sequence[Run], groups: Sequence[Group]) -> tuple[list[Values], list[str]]:
    """The `COLUMNS` of every job and `LACKS`, and one line for each job whose file could not be read.

    Of the levels (latents of a graph, firings a latent) that all jobs of a group measured, the one with the
    most latents is taken, and of those the one with the most firings. A job without any level does not
    set the level of the others.
    """
    rows: list[Values] = [dict.fromkeys(COLUMNS) | {LACKS: ""} for _ in jobs]
    messages: list[str] = []
    for group in groups:
        levels: dict[int, dict[tuple[int, int], Mapping[str, Any]]] = {}
        for at in group.members:
            try:
                rows[at] |= _si(jobs[at].matched)
                levels[at] = {(one["latents"], one["firings"]): one for one in jobs[at].matched["q"]}
                lacks = [
                    f"matched {name}: {reason}"
                    for name, reason in (
                        ("SI", jobs[at].matched["si_lacks"]),
                        ("Q", jobs[at].matched["q_lacks"]),
                    )
                    if reason
                ]
                rows[at][LACKS] = "; ".join(lacks)
            except UNREADABLE as error:
                messages.append(unread_message(jobs[at], error))
        measured = [set(own) for own in levels.values() if own]
        common = set.intersection(*measured) if measured else set()
        for at, own in levels.items():
            if common and own:
                rows[at] |= _q(own[max(common)])
            elif own:
                rows[at][LACKS] = "matched Q: no level that all comparable jobs have"
    return rows, messages


def _si(matched: Mapping[str, Any]) -> Values:
    si = finite(matched["si"])
    return {"matched_si": si, "matched_si_count": None if si is None else int(matched["si_firings"])}


def _q(level: Mapping[str, Any]) -> Values:
    q, null = float(level["q"]), float(level["q_null_mean"])
    return {
        "matched_q": q,
        "matched_q_sd": float(level["q_se"]),
        "matched_q_null_mean": null,
        "matched_q_excess": q - null,
        "matched_q_latents": int(level["latents"]),
        "matched_q_firings": int(level["firings"]),
    }


def lacking_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which jobs have no matched SI or Q and what they lack, one sentence a reason."""
    jobs: dict[str, list[str]] = {}
    for row in rows:
        if row[LACKS]:
            jobs.setdefault(str(row[LACKS]), []).append(str(row["job"]))
    return [
        f"Job{'s' if len(names) > 1 else ''} {', '.join(names[:8])}{', …' if len(names) > 8 else ''} "
        f"without {reason}."
        for reason, names in jobs.items()
    ]


def unread_message(job: Run, error: Exception) -> str:
    """The line of the page on a file that could not be read: job, file, reason."""
    text = " ".join(str(error).split()).replace(f"{job.path}{os.sep}", "")
    return f"{job.path.name}: {text[:200]}"
