"""Offline artifacts travel with their sweep: staged inside its folder and logged by paths relative to it.

By default W&B stages artifacts in the home folder and writes absolute paths into the offline log. Once a
folder was moved, `wandb sync` then uploads the run without artifacts, says nothing, and marks it as synced.
Relative paths are resolved against the folder in which `wandb sync` is called, see `sync_script`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "WANDB_DATA_DIR"


@contextmanager
def staged_in(folder: Path, *, offline: bool) -> Iterator[None]:
    """Let W&B stage artifacts under `folder` for the time of one call; online the user's own setting holds.

    wandb takes no setting for this and reads the variable at every artifact; left behind, it would send the
    artifacts of the process's next sweep here.
    """
    before = os.environ.get(VARIABLE)
    if before is None or offline:
        os.environ[VARIABLE] = str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def log_relative_artifacts(run: Any, folder: Path) -> None:
    """From now on `run` writes the local paths of its artifacts relative to `folder`, tables' included.

    `Run.log_artifact` is replaced because `Run.log` calls it for the artifact behind a table, which is seen
    nowhere else. Paths outside `folder` stay as they are.
    """
    root, log_artifact = folder.resolve(), run.log_artifact

    def log_relative(artifact: Any, *args: Any, **kwargs: Any) -> Any:
        for entry in artifact.manifest.entries.values():
            if entry.local_path and Path(entry.local_path).is_relative_to(root):
                entry.local_path = str(Path(entry.local_path).relative_to(root))
        return log_artifact(artifact, *args, **kwargs)

    run.log_artifact = log_relative
