"""One job is one W&B run, and we own it: `wandb.init` as a context manager around the whole job.

Lightning gets `WandbLogger(experiment=run)` and starts none of its own; a failing job marks its run failed
(exit code 1) and leaves the next job's run alone. W&B is a copy of the files: whatever goes wrong with it is
a warning, never the end of a measurement.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saescope.config import TrackingConfig

log = logging.getLogger(__name__)


@dataclass
class Tracker:
    """The W&B side of a job; every method is safe to call with tracking disabled."""

    run: Any = None
    mode: str = "disabled"
    lost: list[str] = field(default_factory=list)
    """What could not be handed to W&B, for status.json."""
    defined: bool = False
    """The training curves have their x-axis."""

    def logger(self) -> Any:
        """Lightning logger that writes into our run, or None."""
        if self.run is None:
            return None
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(experiment=self.run)

    def describe(self, name: str, tags: list[str], resolved: dict[str, Any]) -> None:
        """Name, tags and resolved facts, known once model and SAE are loaded."""

        def send() -> None:
            self.run.name = name
            self.run.tags = tuple(dict.fromkeys((*(self.run.tags or ()), *(t[:64] for t in tags if t))))
            self.run.config.update({"resolved": resolved})

        self._try("run description", send)

    def curves(self, values: dict[str, float], tokens_seen: int) -> None:
        """One point of the training curves, over `tokens_seen`; they stay out of the summary."""

        def send() -> None:
            if not self.defined:
                self.run.define_metric("tokens_seen", summary="none")
                for key in values:
                    self.run.define_metric(key, step_metric="tokens_seen", summary="none")
                self.defined = True
            self.run.log({**values, "tokens_seen": tokens_seen})

        self._try("training curves", send)

    def curve(self, axis: str, points: list[dict[str, float]]) -> None:
        """Points over their own x-axis, a key of every point; they stay out of the summary."""

        def send() -> None:
            self.run.define_metric(axis, summary="none")
            for key in dict.fromkeys(key for point in points for key in point if key != axis):
                self.run.define_metric(key, step_metric=axis, summary="none")
            for point in points:
                self.run.log(point)

        self._try(f"curves over {axis}", send)

    def summary(self, metrics: dict[str, Any]) -> None:
        """Metrics under the keys of `metrics.json`."""
        self._try("summary", lambda: self.run.summary.update(metrics))

    def histograms(self, histograms: dict[str, Any]) -> None:
        """Histograms whose bin edges are the same in every run."""

        def send() -> None:
            import wandb

            self.run.log(
                {
                    f"hist/{name}": wandb.Histogram(np_histogram=(h["counts"], h["edges"]))
                    for name, h in histograms.items()
                }
            )

        self._try("histograms", send)

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """A table to browse; keep it below 2,000 rows."""

        def send() -> None:
            import wandb

            self.run.log({f"tables/{name}": wandb.Table(columns=columns, data=rows)})

        self._try("table", send)

    def artifact(self, name: str, kind: str, files: list[Path], metadata: dict[str, Any]) -> None:
        """Files as an artifact, by absolute path and without a second copy on disk."""

        def send() -> None:
            import wandb

            safe = "".join(c if c.isalnum() or c in "_.-" else "-" for c in name)[:128]
            artifact = wandb.Artifact(safe, type=kind, metadata=metadata)
            for path in files:
                artifact.add_file(str(path.resolve()), policy="immutable")
            self.run.log_artifact(artifact)

        self._try("artifact", send)

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
            "url": None if offline else self.run.url,
            "sync": f"wandb sync --yes '{self.run.sync_dir}'" if offline else None,
        }

    def _try(self, what: str, send: Any) -> None:
        if self.run is None:
            return
        try:
            send()
        except Exception as error:
            self.lost.append(f"W&B {what}: {error}")
            log.warning("W&B did not take the %s (%s); the local files have it", what, error)


@contextmanager
def tracked(
    cfg: TrackingConfig,
    *,
    run_dir: Path,
    group: str | None,
    job_type: str,
    notes: str,
    config: dict[str, Any],
    data_dir: Path,
) -> Iterator[Tracker]:
    """A tracker for one job; `data_dir` is where offline artifacts are staged, inside the sweep folder."""
    mode = _mode(cfg)
    if mode == "disabled":
        yield Tracker()
        return
    run = _start(cfg, mode, run_dir, group, job_type, notes, config, data_dir)
    if run is None:
        yield Tracker(lost=["W&B: the run could not be started"])
        return
    # Not `with run:`, which prints a traceback for every user error; never a bare finish() in `finally`,
    # which would mark a failed run as finished.
    tracker = Tracker(run, mode)
    try:
        yield tracker
    except BaseException:
        _finish(run, 1)
        raise
    _finish(run, 0)


def _finish(run: Any, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        log.warning("W&B run %s was not closed properly (%s); the local files are complete", run.id, error)


def _mode(cfg: TrackingConfig) -> str:
    """online, offline or disabled. `WANDB_MODE` is respected, an empty one is not passed on."""
    if not os.environ.get("WANDB_MODE", "x"):
        del os.environ["WANDB_MODE"]
    if cfg.mode != "wandb":
        return cfg.mode
    asked = os.environ.get("WANDB_MODE")
    if asked in ("offline", "dryrun"):
        return "offline"
    if asked == "disabled":
        return "disabled"
    import wandb

    try:
        logged_in = bool(wandb.login(prompt=False))  # type: ignore[call-arg]
    except Exception as error:
        log.warning("W&B login could not be checked (%s); tracking offline", error)
        logged_in = False
    return "online" if logged_in else "offline"


def _start(
    cfg: TrackingConfig,
    mode: str,
    run_dir: Path,
    group: str | None,
    job_type: str,
    notes: str,
    config: dict[str, Any],
    data_dir: Path,
) -> Any:
    import wandb

    os.environ.setdefault("WANDB_DATA_DIR", str(data_dir.resolve()))
    try:
        run = wandb.init(
            project=cfg.project,
            entity=cfg.entity,
            group=cfg.group or group,
            job_type=job_type,
            tags=list(cfg.tags),
            notes=notes,
            config=config,
            dir=str(run_dir),
            mode="online" if mode == "online" else "offline",
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off", init_timeout=60),
        )
    except Exception as error:
        log.warning("W&B could not start (%s); the local files are written all the same", error)
        return None
    try:
        run.pin_config_keys(
            ["model.name", "hookpoint.kind", "hookpoint.layer", "sae.source", "sae.k", "sae.expansion_factor"]
        )
    except Exception as error:  # a convenience of recent servers
        log.debug("config keys not pinned: %s", error)
    return run
