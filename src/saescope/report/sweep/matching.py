"""SI at matched firing counts and Q at matched latents for the comparable jobs of a sweep."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saescope.files import read_json, write_json
from saescope.metrics import TASK_TOKENS, keys
from saescope.report.sweep.comparable import Group
from saescope.runfolder.names import MATCHED
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite
from saescope.runtime.meter import Meter

SI_DRAWS = 10
Q_DRAWS = 5
LEAST_LATENTS = 50
"""A graph of fewer connected latents has no matched Q, and does not set the number for the others."""
MOST_LATENTS = 1000
"""Matched graphs are never larger: Leiden on whole graphs of a million edges takes minutes a job."""
_VERSION = 1
"""Goes up when the same tables would give other numbers."""

COLUMNS = keys("matched")
Values = dict[str, float | int | None]


def matched_values(jobs: Sequence[Run], groups: Sequence[Group], out: Path) -> tuple[list[Values], list[str]]:
    """The `COLUMNS` of every job, and one line for each job whose tables could not be read.

    Results are kept in `out/.matched.json` and used again while the tables have not changed.
    """
    cache = read_json(out / MATCHED)
    earlier = cache if isinstance(cache, dict) else {}
    stored: dict[str, Any] = {}
    rows: list[Values] = [dict.fromkeys(COLUMNS) for _ in jobs]
    messages: list[str] = []
    with Meter("SI and Q at equal size", sum(len(group.members) for group in groups), "jobs") as meter:
        for group in groups:
            connected: dict[int, int] = {}
            for at in group.members:
                try:
                    connected[at] = _connected(jobs[at])
                except _UNREADABLE as error:
                    messages.append(unread_message(jobs[at], error))
            large_enough = [number for number in connected.values() if number >= LEAST_LATENTS]
            latents = min([*large_enough, MOST_LATENTS]) if large_enough else 0
            for at in connected:
                try:
                    firings = int(finite(jobs[at].section("metrics").get("min_count")) or 50)
                    key = str(jobs[at].path)
                    inputs = [_VERSION, firings, latents, SI_DRAWS, Q_DRAWS, *_stamp(jobs[at])]
                    previous = earlier.get(key)
                    if isinstance(previous, dict) and previous.get("question") == inputs:
                        rows[at] = {name: previous["values"].get(name) for name in COLUMNS}
                    else:
                        rows[at] |= _si(jobs[at], firings) | _q(jobs[at], latents)
                    stored[key] = {"question": inputs, "values": rows[at]}
                except _UNREADABLE as error:
                    messages.append(unread_message(jobs[at], error))
                meter.advance(1)
    if stored and stored != earlier:
        write_json(out / MATCHED, stored)
    return rows, messages


_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""A table that is missing, unreadable, lacks a column (ReportError is a ValueError) or is impossible."""


def unread_message(job: Run, error: Exception) -> str:
    """The line of the page on a file that could not be read: job, file, reason."""
    text = " ".join(str(error).split()).replace(f"{job.path}{os.sep}", "")
    return f"{job.path.name}: {text[:200]}"


def _stamp(job: Run) -> list[int]:
    """Size and time of the tables behind the numbers: unchanged files are not counted again."""
    stats = [job.file_of(table).stat() for table in ("features", "edges")]
    return [value for stat in stats for value in (stat.st_size, stat.st_mtime_ns)]


def _si(job: Run, firings: int) -> Values:
    from saescope.stats.matched import matched_specialization

    tasks = job.tasks
    columns = job.columns("features", ["supported", *(f"rate_{task}" for task in tasks)])
    tokens_K = np.array([job.metrics[TASK_TOKENS.of(task)] for task in tasks], dtype=np.int64)
    rate_FK = np.stack([columns[f"rate_{task}"] for task in tasks], axis=1)
    counts_FK = np.rint(rate_FK * tokens_K).astype(np.int64)[columns["supported"].astype(bool)]
    if len(tasks) < 2:
        return {}
    si = matched_specialization(counts_FK, tokens_K, firings=firings, draws=SI_DRAWS)
    return {"matched_si": si, "matched_si_count": None if si is None else firings}


def _q(job: Run, latents: int) -> Values:
    from saescope.stats.matched import matched_modularity

    absent: Values = {"matched_q": None, "matched_q_sd": None, "matched_q_latents": None}
    if not latents:
        return absent
    edges = job.columns("edges", ["source", "target", "pmi"])
    q = matched_modularity(
        edges["source"],
        edges["target"],
        edges["pmi"],
        latents=latents,
        draws=Q_DRAWS,
        resolution=finite(job.section("metrics").get("resolution")) or 1.0,
    )
    if q is None:
        return absent
    return {"matched_q": q.mean, "matched_q_sd": q.sd, "matched_q_latents": q.latents}


def _connected(job: Run) -> int:
    """Latents with an edge."""
    return int((job.columns("features", ["degree"])["degree"] > 0).sum())
