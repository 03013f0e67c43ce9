"""A finished result as a W&B run, from its run folder alone: measured just now, earlier, or elsewhere.

`tracking.json` remembers under `runs` which W&B runs hold the result, so that a group gets it once, and under
`logging` the run that is being filled: what a killed process left of it is taken away, and its id used again.
"""

import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from saescope.config import TrackingConfig
from saescope.metrics import CATALOGUE
from saescope.runfolder.latents import LatentFile, read_latents
from saescope.runfolder.names import (
    CAUSAL,
    CAUSAL_LAYERS,
    CAUSAL_MODULES,
    EDGES,
    EDGES_WITHIN_TOKEN,
    EXAMPLES,
    FEATURES,
    FEATURES_PAGE,
    FEATURES_SHARDS,
    FIGURES,
    LATENTS,
    REPORT,
    SAE,
    WANDB,
)
from saescope.runfolder.run import Run, read_run
from saescope.runfolder.write import write_tracking
from saescope.tracking.wandb_run import Tracker, tracked
from saescope.tracking.wandb_start import (
    Destination,
    by_agent,
    chooses_id,
    destination,
    log_folders,
    mode_of,
)

SCALARS = tuple(
    dict.fromkeys(
        key
        for entry in CATALOGUE
        if entry.shown and not entry.between_jobs and entry.group in ("sae", "lm", "si", "q", "causal.ablate")
        for key in (entry.key, entry.null, entry.low, entry.high)
        if key
    )
)
"""Metrics that W&B's automatic workspace shows: those of our tables, with what chance gives and intervals."""
_PLACE = ("entity", "project", "group")


def log_run(run: Run, tracker: Tracker) -> None:
    """Log everything that the run folder has; what W&B refuses becomes a warning in `tracker.lost`."""
    if tracker.run is None:
        return
    from saescope.analysis.features import most_specialised
    from saescope.dynamic_k.curves import CURVE_AXIS, curves

    tracker.describe(run.config, run.provenance)
    if "history" in run.tables and not tracker.trained_live:
        tracker.attempt("training curves", lambda: tracker.training(run.rows("history")))
    tracker.histograms(run.histograms)
    if "dynamic_k" in run.tables:
        tracker.attempt("dynamic-k curves", lambda: tracker.curve(CURVE_AXIS, curves(run.dynamic_k)))

    def table() -> None:
        top = most_specialised(run.features)
        columns, rows = list(top.columns), top.astype(object).where(top.notna(), None).values.tolist()
        if (run.path / LATENTS).is_file():
            latents = read_latents(run.path / LATENTS)
            columns += ["fires_most_on", "strongest_context"]
            for row, latent in zip(rows, top["latent"], strict=True):
                row += _texts(latents, int(latent))
        tracker.table("features_top", columns, rows)

    tracker.attempt("table of latents", table)
    if run.warnings:
        tracker.table("warnings", ["warning"], [[warning] for warning in run.warnings])
    if (run.path / REPORT).is_file():
        tracker.page("report", run.path / REPORT)
    if (run.path / FEATURES_PAGE).is_file():
        tracker.page("latents", run.path / FEATURES_PAGE)
    shards = sorted((run.path / FEATURES_SHARDS).glob("*"))
    if shards:  # which the page alone would look for in vain
        pages = [run.path / FEATURES_PAGE, *shards]
        name = f"latents-{tracker.name}"
        tracker.artifact(name, "latents_page", pages, run.provenance, root=run.path, rewritten=True)
    drawing = run.path / FIGURES / "causal_matrix.svg"
    if "causal" in run.tables and drawing.is_file():
        tracker.drawing("causal_matrix", drawing)
    causal = (CAUSAL, CAUSAL_MODULES, CAUSAL_LAYERS)
    names = (FEATURES, EXAMPLES, EDGES, EDGES_WITHIN_TOKEN, *causal)
    files = [run.path / name for name in names if (run.path / name).is_file()]
    if files:
        tracker.artifact(f"features-{tracker.name}", "feature_table", files, run.provenance)
    trained = sorted(path for path in (run.path / SAE).rglob("*") if path.is_file())
    if trained:
        tracker.artifact(f"sae-{tracker.name}", "sae", trained, run.provenance)
    values = {key: run.metrics.get(key) for key in SCALARS}
    tracker.scalars({key: value for key, value in values.items() if value is not None})
    # last, so that no media key can overwrite a key of metrics.json in the summary
    tracker.summary(run.metrics)


def _texts(latents: LatentFile, latent: int) -> list[str]:
    """The last two cells of a latent's row; empty where its contexts were not kept."""
    if latent not in latents.place:
        return ["", ""]
    at = latents.place[latent]
    return [" ".join(map(repr, latents.frequent_words(at))), latents.strongest_context(at)]


def log_reused(
    cfg: TrackingConfig, run_dir: Path, finished: Path, *, group: str | None, notes: str, data_dir: Path
) -> Tracker | None:
    """Log the finished result in `run_dir`, taken from `finished`.

    Returns the closed tracker; None where tracking is disabled or the group has the result already.
    """
    mode = mode_of(cfg)
    if mode == "disabled":
        return None
    run, source = read_run(run_dir), read_run(finished)
    # an agent waits for the metric of its own run
    earlier = None if by_agent() else run_at(source, destination(cfg, group), mode)
    if earlier is not None:
        with suppress(OSError):  # no reason to call a finished result failed
            write_tracking(run_dir, {**earlier, "runs": _runs(source)})
        return None
    run_id = _next_id(run, destination(cfg, group))
    with tracked(
        cfg,
        run_dir=run_dir,
        group=group,
        job_type="measure",
        notes=notes,
        config=run.config,
        data_dir=data_dir,
        identity=run.identity,
        run_id=run_id,
    ) as tracker:
        begin_logging(run_dir, tracker)  # a run that was refused online has another id offline
        log_run(run, tracker)
        info = tracker.info()
    if not tracker.lost:
        remember_run(info, run_dir, finished)
    elif tracker.run is not None:  # it lacks something: the next one who asks gets the result again
        with suppress(OSError):
            logging = read_run(run_dir).tracking.get("logging")
            write_tracking(run_dir, info | {"runs": _runs(run)} | ({"logging": logging} if logging else {}))
    return tracker


def begin_logging(run_dir: Path, tracker: Tracker) -> None:
    """Write to `tracking.json` that the tracker's run is about to get the result.

    `remember_run` takes it back; where a killed process could not, the next one to log begins this run anew.
    """
    if tracker.run is not None and tracker.destination is not None:
        _write_logging(run_dir, read_run(run_dir), tracker.run.id, tracker.destination)


def _next_id(run: Run, place: Destination) -> str | None:
    """W&B's id for the run that is to hold the result of `run`, after `begin_logging` with it.

    What is left of a run that a killed process did not fill is removed; at the same place its id is used
    again, so that nothing has two runs. None where an agent or the user chooses the id.
    """
    half = run.tracking.get("logging")
    if not isinstance(half, Mapping) or half.get("folder") != str(run.path.resolve()):
        half = {}  # none, or of the folder that the result was taken from
    half_id = str(half.get("id") or "")
    if half_id.isalnum():
        for folder in log_folders(run.path):
            for log in folder.glob(f"offline-run-*-{half_id}"):
                if not _uploaded(log):
                    shutil.rmtree(log, ignore_errors=True)
    if chooses_id():
        return None
    same = half_id.isalnum() and [half.get(key) for key in _PLACE] == [getattr(place, key) for key in _PLACE]
    run_id = half_id if same else secrets.token_hex(4)
    _write_logging(run.path, run, run_id, place)
    return run_id


def _write_logging(run_dir: Path, run: Run, run_id: str, place: Destination) -> None:
    entry = {"id": run_id, "folder": str(run_dir.resolve())} | {key: getattr(place, key) for key in _PLACE}
    with suppress(OSError):  # then a kill may leave two runs
        write_tracking(run_dir, {**(dict(run.tracking) or Tracker().info()), "logging": entry})


def run_at(run: Run, place: Destination, mode: str) -> Mapping[str, Any] | None:
    """The W&B run at `place` that holds the result, as `tracking.json` has it; None where there is none.

    An offline run counts while its log is there, and online once it is uploaded.
    """
    wanted = (place.entity, place.project, place.group)

    def counts(entry: Mapping[str, Any]) -> bool:
        if (entry.get("entity"), entry.get("project"), entry.get("group")) != wanted:
            return False
        log = _log_of(entry, run.path)
        return entry.get("mode") == "online" or (log is not None and (mode == "offline" or _uploaded(log)))

    return next(filter(counts, reversed(_runs(run))), None)


def remember_run(info: Mapping[str, Any], *folders: Path) -> None:
    """Write to `tracking.json` that the W&B run `info` holds the result: in its own folder first.

    The other folders, from which the result was taken, keep what their own run was.
    """
    for folder in dict.fromkeys(path.resolve() for path in folders):
        run = read_run(folder)
        first = folder == folders[0].resolve()
        content = dict(info) if first else dict(run.tracking) or Tracker().info()
        try:
            write_tracking(folder, content | {"runs": [*_runs(run), dict(info)]})
        except OSError:  # a folder of someone else: the group gets the result again
            continue


def _runs(run: Run) -> list[Mapping[str, Any]]:
    entries = run.tracking.get("runs")
    entries = entries if isinstance(entries, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _log_of(entry: Mapping[str, Any], run_dir: Path) -> Path | None:
    """Folder of the offline log, also where the run folder was moved; None where it is gone."""
    if not isinstance(entry.get("log"), str):
        return None
    recorded = Path(entry["log"])
    return next((log for log in (recorded, run_dir / WANDB / recorded.name) if log.is_dir()), None)


def _uploaded(log: Path) -> bool:
    """Whether `wandb sync` marked the offline log as uploaded."""
    return any(log.glob("run-*.wandb.synced"))
