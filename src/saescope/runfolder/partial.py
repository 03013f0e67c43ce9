"""Sums of a long pass that a killed job leaves in its run folder, so that the next one goes on from there."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saescope.files import whole
from saescope.runfolder.names import PARTIAL

Arrays = dict[str, npt.NDArray[np.generic]]


def read_partial(run_dir: Path, name: str, identity: str) -> Arrays | None:
    """What was saved under this name by a job of the same identity; None where there is nothing usable."""
    try:
        with np.load(_path(run_dir, name), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return arrays if str(arrays.pop("identity", "")) == identity else None


def save_partial(run_dir: Path, name: str, identity: str, arrays: Arrays) -> None:
    """Save arrays, whole or not at all. Raises OSError when the folder cannot be written."""
    with whole(_path(run_dir, name)) as temporary, temporary.open("wb") as file:
        np.savez(file, identity=np.array(identity), **arrays)  # type: ignore[arg-type]


def remove_partials(run_dir: Path) -> None:
    """Remove all of them: the results they led to are written."""
    for path in run_dir.glob(PARTIAL.format(name="*")):
        path.unlink(missing_ok=True)


def _path(run_dir: Path, name: str) -> Path:
    return run_dir / PARTIAL.format(name=name)
