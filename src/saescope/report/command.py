"""The commands that make a job or a sweep again, ready to copy into a shell."""

import shlex
from pathlib import Path

from saescope.runfolder.run import Run
from saescope.runfolder.sweep import sweep_overrides


def command_of(run: Run) -> str:
    """`saescope sae.k=16 …`; empty where the folder has no record of what the job was given."""
    return shlex.join(["saescope", *run.overrides]) if run.overrides else ""


def command_of_sweep(folder: Path) -> str:
    """`saescope -m sae.k=16,32 …`; empty where the folder is not that of a sweep."""
    overrides = sweep_overrides(folder)
    return shlex.join(["saescope", "-m", *overrides]) if overrides else ""
