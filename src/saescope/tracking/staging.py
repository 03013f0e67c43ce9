"""Offline artifacts are staged inside their sweep folder, where `sync.sh` finds them.

By default W&B stages them in the home folder, which other machines do not have.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "WANDB_DATA_DIR"


@contextmanager
def staged_in(folder: Path, *, offline: bool) -> Iterator[None]:
    """Let W&B stage artifacts under `folder` for the time of one call; online a setting of the user stays.

    wandb has no other setting for this and reads the variable at every artifact; if it stayed set, artifacts
    of the process's next sweep would land here.
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
