"""A reused result as a W&B run: a sweep agent waits for the metric also when nothing was measured again."""

from pathlib import Path
from typing import Any

from saescope.config import TrackingConfig
from saescope.runfolder.run import read_run
from saescope.runfolder.write import write_tracking
from saescope.tracking.wandb_run import tracked


def log_reused(cfg: TrackingConfig, run_dir: Path, *, notes: str, config: dict[str, Any]) -> None:
    """Log the summary of the finished result in `run_dir` as a run; it has no tables or artifacts."""
    with tracked(
        cfg,
        run_dir=run_dir,
        group=None,
        job_type="measure",
        notes=notes,
        config=config,
        data_dir=run_dir,
    ) as tracker:
        run = read_run(run_dir)
        tracker.describe("reused", ["reused"], dict(run.provenance))
        tracker.summary(dict(run.metrics))
        write_tracking(run_dir, tracker.info())
