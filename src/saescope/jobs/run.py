"""A job from Python: the same as the command, with the run folder as the result."""

from datetime import datetime
from pathlib import Path

from saescope.config.compose import compose
from saescope.errors import SaescopeError
from saescope.jobs.job import Context, run_job
from saescope.runfolder.run import Run, open_run


def run(*overrides: str, folder: str | Path | None = None) -> Run:
    """Run one job as `saescope OVERRIDES…` does, or reuse its finished result.

    Args:
        overrides: as on the command line: `"model=pythia-70m"`, `"sae.k=16"`.
        folder: run folder; None: `outputs/<date>/<time>` below the working directory.

    Returns:
        The `Run`: `.metrics`, `.features`, `.edges`, `.examples`, `.path`. A finished result of the very same
        config is returned without measuring again (`"force=true"` measures).

    Raises:
        SaescopeError: what the user has to correct, in one line; also in `status.json` in the folder.

    Example:
        >>> quick = ("metrics=quick", "metrics.document_groups=0")
        >>> job = saescope.run("sae=random", *quick, "tracking=disabled")
        >>> job.ok, job.metrics["features/num_latents"]
        (True, 1024)
    """
    cfg = compose(*overrides)
    run_dir = (
        Path(folder) if folder is not None else Path("outputs") / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}"
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    outcome = run_job(cfg, Context(run_dir, run_dir, None, tuple(overrides)))
    if outcome.state != "ok":
        raise SaescopeError(outcome.error or "the job failed")
    return open_run(outcome.run_dir)
