"""One more W&B run at the end of a sweep: its table, its page, its files, in the group of its jobs."""

import logging
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from saescope.config import TrackingConfig
from saescope.runfolder.names import DIFFERENCES, OVERLAP_CSV, SWEEP_CSV, SWEEP_HTML, SWEEP_PARQUET, WORKSPACE
from saescope.tracking.wandb_run import CURVES, Tracker, tracked
from saescope.tracking.wandb_start import own_name
from saescope.tracking.workspace import Axis, write_workspace

log = logging.getLogger(__name__)

JOB_TYPE = "sweep_report"
FILES = (SWEEP_CSV, SWEEP_PARQUET, DIFFERENCES, SWEEP_HTML, OVERLAP_CSV, WORKSPACE)
MAX_ROWS = 1999
"""Rows of the table to browse; the files have all."""
LOG_FROM = 4
"""Largest by smallest value from which an axis is logarithmic."""


def log_sweep(
    sweep_dir: Path, cfg: TrackingConfig, group: str, axes: Sequence[str] = (), seeds: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Log the finished report in `sweep_dir`.

    Returns what a job writes to `tracking.json`, and what W&B did not take, one line each. Writes the
    workspace too, over the settings `axes` and `seeds` that the sweep varies (columns of `sweep.csv`). Does
    nothing with tracking disabled.
    """
    with tracked(
        cfg,
        run_dir=sweep_dir,
        group=group,
        job_type=JOB_TYPE,
        notes=f"report of {sweep_dir.name}",
        config={},
        data_dir=sweep_dir,
    ) as tracker:
        if tracker.run is None:
            return tracker.info(), tracker.lost
        group = tracker.run.group or group
        if not own_name():
            tracker.attempt(
                "name of the sweep report", lambda: setattr(tracker.run, "name", f"report {group}")
            )
        table = _table(sweep_dir / SWEEP_CSV)
        if table is not None:
            varied = [_axis(table, key, key in seeds) for key in (*axes, *seeds)]
            tracker.attempt(
                "workspace", lambda: _workspace(sweep_dir, tracker, group, varied, _logged(table))
            )
            tracker.table("sweep", *_rows(table.head(MAX_ROWS)))
        if (sweep_dir / SWEEP_HTML).is_file():
            tracker.page("sweep_report", sweep_dir / SWEEP_HTML)
        files = [sweep_dir / name for name in FILES if (sweep_dir / name).is_file()]
        if files:
            facts = {"group": group, "jobs": 0 if table is None else len(table)}
            tracker.artifact(f"report-{group}", "report", files, facts, rewritten=True)
        return tracker.info(), tracker.lost


def _workspace(
    sweep_dir: Path, tracker: Tracker, group: str, axes: Sequence[Axis], logged: Container[str]
) -> None:
    run = tracker.run
    url = write_workspace(
        sweep_dir,
        entity=run.entity or "",
        project=run.project or "",
        group=group,
        online=tracker.mode == "online",
        axes=axes,
        logged=logged,
    )
    if url:
        log.info("W&B workspace of this sweep: %s", url)


def _logged(table: pd.DataFrame) -> set[str]:
    """Keys of metrics and training curves that some run has."""
    metrics = {str(key) for key in table.columns if "/" in str(key) and table[key].notna().any()}
    trained = "sae.source" in table and (table["sae.source"] == "train").any()
    return metrics | ({f"train/{key}" for key in CURVES} if trained else set())


def _axis(table: pd.DataFrame, setting: str, is_seed: bool) -> Axis:
    values = table[setting].dropna()
    numeric = is_numeric_dtype(values) and not is_bool_dtype(values)
    # places are steps through the model; of sizes and rates the factors count
    factors = numeric and not is_seed and not setting.startswith("hookpoint.") and values.min() > 0
    log_axis = bool(factors and values.max() >= LOG_FROM * values.min())
    return Axis(setting, bool(numeric), log_axis, is_seed)


def _table(path: Path) -> pd.DataFrame | None:
    """`sweep.csv`; None when it is missing, empty or no table."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        log.warning("no sweep table for W&B: %s (%s)", path, error)
        return None
    if len(table) > MAX_ROWS:
        log.info("W&B shows the first %d of %d jobs; the artifact has all", MAX_ROWS, len(table))
    return table


def _rows(table: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows; empty cells are None, and a column of mixed kinds is text, as W&B asks."""
    plain = table.astype(object).where(table.notna(), None)
    for name in plain.columns:
        kinds = {type(value) for value in plain[name] if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            plain[name] = [None if value is None else str(value) for value in plain[name]]
    return [str(name) for name in plain.columns], plain.values.tolist()
