"""SI at matched firing counts and Q at matched latents for the comparable jobs of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saescope.files import read_json, write_json
from saescope.metrics import TASK_TOKENS, keys
from saescope.report.sweep.comparable import Group
from saescope.runfolder.job import Job
from saescope.runfolder.values import finite

SI_DRAWS = 10
Q_DRAWS = 5
LEAST_LATENTS = 50
"""A graph of fewer connected latents has no matched Q, and does not set the number for the others."""
MOST_LATENTS = 1000
"""Matched graphs are never larger: Leiden on whole graphs of a million edges takes minutes a job."""
CACHE = ".matched.json"
_VERSION = 1

COLUMNS = keys("matched")
Values = dict[str, float | int | None]


@dataclass(frozen=True)
class _Files:
    """Size and time of the tables the numbers come from: unchanged files need no new count."""

    job: Job

    def stamp(self) -> list[Any]:
        stats = [(self.job.path / name).stat() for name in ("features.parquet", "edges.parquet")]
        return [value for stat in stats for value in (stat.st_size, stat.st_mtime_ns)]


def matched(jobs: Sequence[Job], groups: Sequence[Group], out: Path) -> tuple[list[Values], list[str]]:
    """The `COLUMNS` of every job, and one line for each job whose tables could not be read.

    Results are kept in `out/.matched.json` and used again while the tables have not changed.
    """
    cache = read_json(out / CACHE)
    old = cache if isinstance(cache, dict) else {}
    kept: dict[str, Any] = {}
    rows: list[Values] = [dict.fromkeys(COLUMNS) for _ in jobs]
    wrong: list[str] = []
    for group in groups:
        found: dict[int, int] = {}
        for at in group.members:
            try:
                found[at] = _connected(jobs[at])
            except _UNREADABLE as error:
                wrong.append(f"{jobs[at].path.name}: {' '.join(str(error).split())[:200]}")
        enough = [number for number in found.values() if number >= LEAST_LATENTS]
        latents = min([*enough, MOST_LATENTS]) if enough else 0
        for at in found:
            try:
                firings = int(finite(jobs[at].section("metrics").get("min_count")) or 50)
                key = str(jobs[at].path)
                question = [_VERSION, firings, latents, SI_DRAWS, Q_DRAWS, *_Files(jobs[at]).stamp()]
                known = old.get(key)
                if isinstance(known, dict) and known.get("question") == question:
                    rows[at] = {name: known["values"].get(name) for name in COLUMNS}
                else:
                    rows[at] |= _si(jobs[at], firings) | _q(jobs[at], latents)
                kept[key] = {"question": question, "values": rows[at]}
            except _UNREADABLE as error:
                wrong.append(f"{jobs[at].path.name}: {' '.join(str(error).split())[:200]}")
    if kept and kept != old:
        write_json(out / CACHE, kept)
    return rows, wrong


_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""A table that is missing (OSError), no parquet file or impossible (pyarrow's errors are ValueError too), or
lacks a column."""


def _si(job: Job, firings: int) -> Values:
    from saescope.stats.matched import matched_specialization

    tasks = job.tasks
    columns = _columns(job, "features.parquet", ["supported", *(f"rate_{task}" for task in tasks)])
    tokens_K = np.array([int(job.metrics[TASK_TOKENS.of(task)]) for task in tasks])
    rate_FK = np.stack([columns[f"rate_{task}"] for task in tasks], axis=1)
    counts_FK = np.rint(rate_FK * tokens_K).astype(np.int64)[columns["supported"].astype(bool)]
    if len(tasks) < 2:
        return {}
    si = matched_specialization(counts_FK, tokens_K, firings=firings, draws=SI_DRAWS)
    return {"matched_si": si, "matched_si_count": None if si is None else firings}


def _q(job: Job, latents: int) -> Values:
    from saescope.stats.matched import matched_modularity

    none: Values = {"matched_q": None, "matched_q_sd": None, "matched_q_latents": None}
    if not latents:
        return none
    edges = _columns(job, "edges.parquet", ["source", "target", "pmi"])
    q = matched_modularity(
        edges["source"],
        edges["target"],
        edges["pmi"],
        latents=latents,
        draws=Q_DRAWS,
        resolution=finite(job.section("metrics").get("resolution")) or 1.0,
    )
    if q is None:
        return none
    return {"matched_q": q.mean, "matched_q_sd": q.sd, "matched_q_latents": q.latents}


def _connected(job: Job) -> int:
    """Latents with an edge."""
    return int((_columns(job, "features.parquet", ["degree"])["degree"] > 0).sum())


def _columns(job: Job, name: str, columns: list[str]) -> dict[str, Any]:
    import pyarrow.parquet

    if not (job.path / name).is_file():
        raise OSError(f"{name} is missing")
    table = pyarrow.parquet.read_table(job.path / name, columns=columns)
    absent = [column for column in columns if column not in table.column_names]
    if absent:
        raise ValueError(f"{name} lacks the columns {', '.join(absent)}")
    return {column: np.asarray(table[column].to_numpy()) for column in columns}
