"""One job is one W&B run: `open_tracker` starts it, `Tracker.finish` closes it, `tracked` does both.

Lightning gets `WandbLogger(experiment=run)` and starts none of its own; a failing job marks its run failed
(exit code 1), leaves its error and its log there, and the next job's run alone. W&B is a copy of the files:
whatever goes wrong with it is a warning, never the end of a measurement.
"""

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from saescope.config import TrackingConfig
from saescope.errors import line
from saescope.tracking.facts import NAME_LENGTH, config_of, display_name, facts, tags, without_null
from saescope.tracking.staging import staged_in
from saescope.tracking.wandb_start import (
    Destination,
    Start,
    beside_swept,
    by_agent,
    destination,
    mode_of,
    own_name,
    start,
    sync_command,
)

log = logging.getLogger(__name__)

PINNED = (
    "model_name",
    "hookpoint_name",
    "depth",
    "sae_source",
    "expansion_factor",
    "num_latents",
    "k",
    "seed",
)
"""Config keys shown on top of a run's page; W&B pins top-level keys only."""
CURVES = ("loss", "fvu", "auxk", "l0", "dead_frac", "lr")
"""Columns of `history.csv` that are curves over `tokens_seen`, as `train/<column>`."""
ERROR = "error"
"""Key of the summary of a failed run: why it failed, in one line."""


@dataclass
class Tracker:
    """The W&B side of a job; every method is safe to call with tracking disabled."""

    run: Any = None
    mode: str = "disabled"
    data_dir: Path = Path()
    """Where artifacts are staged: the sweep folder, or the run folder of a single job."""
    identity: str = ""
    """Identity of the result, for names that tell results apart."""
    destination: Destination | None = None
    reason: str = ""
    """Why it is offline, though it should be online."""
    name: str = ""
    """Of the result: display name, and part of the names of its artifacts."""
    lost: list[str] = field(default_factory=list)
    """What W&B did not accept, one line each, for `status.json`."""
    trained_live: bool = False
    """Whether training curves were logged while the SAE was trained."""
    finished: bool = False
    """Whether the run is closed; nothing is sent then."""

    def logger(self) -> Any:
        """Lightning logger that writes into our run, or None."""
        if self.run is None:
            return None
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(experiment=self.run)

    def describe(self, config: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
        """Set name, tags and config, once model and SAE are loaded; `resolved` is the provenance.

        The facts that sweeps group and filter by (`facts`) become config keys of their own.
        """

        def send() -> None:
            self.name = display_name(config, resolved, self.identity)
            if not (by_agent() or own_name()):
                self.run.name = self.name
            self.run.tags = tuple(
                dict.fromkeys((*(self.run.tags or ()), *(t[:64] for t in tags(config, resolved) if t)))
            )
            flat = facts(config, resolved)
            values = beside_swept(config_of(config, resolved)) | {"resolved": without_null(resolved)} | flat
            self.run.config.update(values, allow_val_change=True)
            # last: an update of the config removes the pins
            self.run.pin_config_keys([key for key in PINNED if key in flat])

        self.attempt("run description", send)

    def training(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Points of the training curves over `tokens_seen`, from rows of `history.csv`.

        They stay out of the summary.
        """

        def send() -> None:
            if not self.trained_live:
                self.run.define_metric("tokens_seen", summary="none")
                for key in CURVES:
                    self.run.define_metric(f"train/{key}", step_metric="tokens_seen", summary="none")
                self.trained_live = True
            for row in rows:
                values = {f"train/{key}": float(row[key]) for key in CURVES}
                self.run.log({**values, "tokens_seen": int(row["tokens_seen"])})

        self.attempt("training curves", send)

    def curve(self, axis: str, points: list[dict[str, float]]) -> None:
        """Points over their own x-axis, a key of every point; they stay out of the summary."""

        def send() -> None:
            self.run.define_metric(axis, summary="none")
            for key in dict.fromkeys(key for point in points for key in point if key != axis):
                self.run.define_metric(key, step_metric=axis, summary="none")
            for point in points:
                self.run.log(point)

        self.attempt(f"curves over {axis}", send)

    def scalars(self, values: Mapping[str, float]) -> None:
        """Single values as a point of the history, which W&B's automatic workspace shows as bars."""
        if values:
            self.attempt("scalars", lambda: self.run.log(dict(values)))

    def summary(self, metrics: Mapping[str, Any]) -> None:
        """Metrics under the keys of `metrics.json`, without those that are null."""
        self.attempt("summary", lambda: self.run.summary.update(without_null(metrics)))

    def histograms(self, histograms: Mapping[str, Any]) -> None:
        """Histograms whose bin edges are the same in every run."""

        def send() -> None:
            import wandb

            self.run.log(
                {
                    f"hist/{name}": wandb.Histogram(np_histogram=(h["counts"], h["edges"]))
                    for name, h in histograms.items()
                }
            )

        self.attempt("histograms", send)

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """A table to browse; keep it below 2,000 rows."""

        def send() -> None:
            import wandb

            self.run.log({f"tables/{name}": wandb.Table(columns=columns, data=rows)})

        self.attempt("table", send)

    def page(self, name: str, path: Path) -> None:
        """A self-contained HTML page, unchanged."""

        def send() -> None:
            import wandb

            # inject=True would add a style sheet from W&B's site
            self.run.log({f"pages/{name}": wandb.Html(str(path), inject=False)})

        self.attempt(f"page {name}", send)

    def drawing(self, name: str, path: Path) -> None:
        """An SVG figure."""

        def send() -> None:
            import wandb

            svg = path.read_text(encoding="utf-8")
            self.run.log({f"figures/{name}": wandb.Html(svg[svg.index("<svg") :], inject=False)})

        self.attempt("figure", send)

    def artifact(
        self,
        name: str,
        kind: str,
        files: list[Path],
        metadata: Mapping[str, Any],
        *,
        root: Path | None = None,
        rewritten: bool = False,
    ) -> None:
        """Files as an artifact, under their names or, below `root`, their paths; read in place, not copied.

        `rewritten`: later commands write such files anew, so W&B gets a copy as they are now. It has noted
        their digests and refuses to upload other bytes under them.
        """

        def send() -> None:
            import wandb

            safe = re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)[:128]
            artifact = wandb.Artifact(safe, type=kind, metadata=dict(metadata))
            policy: Literal["mutable", "immutable"] = "mutable" if rewritten else "immutable"
            for path in files:
                inside = path.relative_to(root).as_posix() if root else path.name
                artifact.add_file(str(path.resolve()), inside, policy=policy, skip_cache=True)
            self.run.log_artifact(artifact)

        self.attempt(f"artifact {name}", send)

    def info(self) -> dict[str, Any]:
        """Contents of `tracking.json`."""
        if self.run is None:
            return {"mode": self.mode, "id": None, "group": None, "url": None, "sync": None}
        offline = self.mode == "offline"
        return {
            "mode": self.mode,
            "id": self.run.id,
            "name": self.run.name,
            "group": self.run.group or None,
            "project": self.run.project,
            "entity": self.destination.entity if self.destination else None,
            "url": None if offline else self.run.url,
            "sync": sync_command(self.run) if offline else None,
            "log": self.run.sync_dir if offline else None,
            "reason": self.reason or None,
        }

    def finish(self, error: str | None = None, job_log: Path | None = None) -> None:
        """Close the run, as failed where there is an `error`; the run then holds it and the file `job_log`.

        Later calls do nothing.
        """
        if self.run is None or self.finished:
            return
        if error is not None:
            self.attempt("error", lambda: self._fail(error, job_log))
        self.finished = True
        try:
            self.run.finish(exit_code=0 if error is None else 1)
        except Exception as problem:
            self.lost.append(f"W&B end of the run: {problem}")
            log.warning(
                "W&B run %s was not closed properly (%s); the local files are complete", self.run.id, problem
            )

    def discard(self) -> None:
        """Remove the log of a closed offline run for which there was no room: W&B cannot read it."""
        if self.mode == "offline":
            shutil.rmtree(self.run.sync_dir, ignore_errors=True)

    def _fail(self, error: str, job_log: Path | None) -> None:
        if not (self.name or by_agent() or own_name()):  # no model was loaded that could name it
            what = self.run.notes or "the default job"  # of overrides the last ones are swept
            self.run.name = f"failed: {what if len(what) < NAME_LENGTH else '… ' + what[-NAME_LENGTH:]}"
        self.run.summary[ERROR] = error
        if job_log is not None and job_log.is_file():
            # a copy: a link would upload what a later attempt in the same folder writes
            copy = Path(self.run.dir) / job_log.name
            shutil.copyfile(job_log, copy)
            self.run.save(str(copy), base_path=self.run.dir, policy="now", glob=False)

    def attempt(self, what: str, send: Callable[[], object]) -> None:
        """Call `send`; when it fails, a warning with `what` is logged and added to `lost`."""
        if self.run is None or self.finished:
            return
        try:
            with staged_in(self.data_dir, offline=self.mode == "offline"):
                send()
        except Exception as error:
            self.lost.append(f"W&B {what}: {error}")
            log.warning("W&B did not take the %s (%s); the local files have it", what, error)


def open_tracker(
    cfg: TrackingConfig,
    *,
    run_dir: Path,
    group: str | None,
    job_type: str,
    notes: str,
    config: Mapping[str, Any],
    data_dir: Path,
    identity: str = "",
    run_id: str | None = None,
) -> Tracker:
    """Start a run, unless tracking is disabled. The caller calls `finish`, whatever happens.

    `data_dir` is where offline artifacts are staged, inside the sweep folder; `run_id` is W&B's id of the run
    (None: a new one).
    """
    mode = mode_of(cfg)
    if mode == "disabled":
        return Tracker()
    started = start(cfg, mode, Start(run_dir, group, job_type, notes, config_of(config), run_id))
    if started.run is None:
        return Tracker(lost=[f"W&B run: it could not be started ({started.reason})"])
    return Tracker(started.run, started.mode, data_dir, identity, destination(cfg, group), started.reason)


@contextmanager
def tracked(cfg: TrackingConfig, **settings: Any) -> Iterator[Tracker]:
    """`open_tracker` with its arguments as a context manager; an exception marks the run failed."""
    tracker = open_tracker(cfg, **settings)
    # Not `with run:`, which prints a traceback for every user error; never a bare finish() in `finally`,
    # which would mark a failed run as finished.
    try:
        yield tracker
    except BaseException as error:
        tracker.finish(line(str(error)) or type(error).__name__)
        raise
    tracker.finish()
