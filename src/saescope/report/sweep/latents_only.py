"""The matched Q of saescope 0.1, at equal latents only, kept for one release."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saescope.files import read_json, write_json
from saescope.metrics import MATCHED_Q_LATENTS_ONLY
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.matching import UNREADABLE, Values, unread_message
from saescope.runfolder.names import MATCHED_LATENTS_ONLY
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite
from saescope.runtime.meter import Meter

DRAWS = 5
LEAST_LATENTS = 50
"""A graph of fewer connected latents has no matched Q, and does not set the number for the others."""
MOST_LATENTS = 1000
"""Matched graphs are never larger: Leiden on whole graphs of a million edges takes minutes a job."""
_VERSION = 2
"""Goes up when the same tables would give other numbers."""


def latents_only_values(
    jobs: Sequence[Run], groups: Sequence[Group], out: Path
) -> tuple[list[Values], list[str]]:
    """`matched_q_latents_only` of every job, and one line for each job whose tables could not be read.

    Results are kept in `out/.matched.json` and used again while the tables have not changed.
    """
    column = MATCHED_Q_LATENTS_ONLY.key
    cache = read_json(out / MATCHED_LATENTS_ONLY)
    earlier = cache if isinstance(cache, dict) else {}
    stored: dict[str, Any] = {}
    rows: list[Values] = [{column: None} for _ in jobs]
    messages: list[str] = []
    with Meter("Q at equal size", sum(len(group.members) for group in groups), "jobs") as meter:
        for group in groups:
            connected: dict[int, int] = {}
            for at in group.members:
                try:
                    connected[at] = _connected(jobs[at])
                except UNREADABLE as error:
                    messages.append(unread_message(jobs[at], error))
            large_enough = [number for number in connected.values() if number >= LEAST_LATENTS]
            latents = min([*large_enough, MOST_LATENTS]) if large_enough else 0
            for at in connected:
                try:
                    key = str(jobs[at].path)
                    inputs = [_VERSION, latents, DRAWS, *_stamp(jobs[at])]
                    previous = earlier.get(key)
                    if isinstance(previous, dict) and previous.get("question") == inputs:
                        rows[at] = {column: previous["value"]}
                    else:
                        rows[at] = {column: _q(jobs[at], latents)}
                    stored[key] = {"question": inputs, "value": rows[at][column]}
                except UNREADABLE as error:
                    messages.append(unread_message(jobs[at], error))
                meter.advance(1)
    if stored and stored != earlier:
        write_json(out / MATCHED_LATENTS_ONLY, stored)
    return rows, messages


def _stamp(job: Run) -> list[int]:
    """Size and time of the tables behind the numbers: unchanged files are not counted again."""
    stats = [job.existing(table).stat() for table in ("features", "edges")]
    return [value for stat in stats for value in (stat.st_size, stat.st_mtime_ns)]


def _q(job: Run, latents: int) -> float | None:
    from saescope.stats.matched_latents_only import latents_only_modularity

    if not latents:
        return None
    edges = job.columns("edges", ["source", "target", "pmi"])
    q = latents_only_modularity(
        edges["source"],
        edges["target"],
        edges["pmi"],
        latents=latents,
        draws=DRAWS,
        resolution=finite(job.section("metrics").get("resolution")) or 1.0,
    )
    return None if q is None else q.mean


def _connected(job: Run) -> int:
    """Latents with an edge."""
    return int((job.columns("features", ["degree"])["degree"] > 0).sum())
