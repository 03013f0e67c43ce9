"""A sweep folder, read: every run folder in or below, however deep, and the tables of the sweep."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saescope.errors import ReportError
from saescope.runfolder.names import (
    ARTIFACTS,
    METRICS,
    MULTIRUN,
    OVERLAP_CSV,
    OVERRIDES,
    STATUS,
    SWEEP_CSV,
    WANDB,
)
from saescope.runfolder.run import Run, read_run
from saescope.runfolder.status import is_refused

if TYPE_CHECKING:
    import pandas as pd

_NO_RUNS = {WANDB, ARTIFACTS}
"""Folders of a sweep that are not searched for run folders; hidden folders are not either."""
_OF_THE_FOLDER = ("hydra.mode=", "hydra.sweep.dir=", "hydra.sweep.subdir=")
"""Overrides that say where a sweep stands, not what it is."""
_RUN_FILES = (STATUS, METRICS, OVERRIDES)
"""A folder with any of these files is a run folder."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Run folders side by side: finished, failed, still running, taken from an earlier result.

    Example:
        >>> sweep = saescope.open_sweep(folder)
        >>> len(sweep.runs), sweep.metrics.state.tolist(), sweep.overlap is None
        (1, ['ok'], True)
    """

    paths: tuple[Path, ...]
    """The folders that were given."""
    runs: tuple[Run, ...] = field(repr=False)
    """Every run folder in or below `paths`, each once; 10 comes after 9."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the jobs: their folders seen from the given one (from above, where there are several)."""
        top = Path(os.path.commonpath([path.resolve() for path in self.paths]))
        return tuple(job_name(run.path, top) for run in self.runs)

    @cached_property
    def metrics(self) -> "pd.DataFrame":
        """One row a run: `job`, `state`, `error`, `overrides`, then every metric (float64; NaN for null).

        Metrics of a run that is not `ok` are NaN.
        """
        import pandas as pd

        keys = list(dict.fromkeys(key for run in self.runs if run.ok for key in run.metrics))
        outcomes = pd.DataFrame(
            {
                "job": self.names,
                "state": [run.state for run in self.runs],
                "error": [run.error for run in self.runs],
                "overrides": [" ".join(run.overrides) for run in self.runs],
            }
        )
        rows = [[run.metrics.get(key) if run.ok else None for key in keys] for run in self.runs]
        return pd.concat([outcomes, pd.DataFrame(rows, columns=keys, dtype="float64")], axis=1)

    @cached_property
    def overlap(self) -> "pd.DataFrame | None":
        """`overlap.csv`: one row a pair of SAEs, shares of 1. None where no pair was compared.

        Raises ReportError for a file that cannot be read.
        """
        return self._csv(OVERLAP_CSV)

    @cached_property
    def table(self) -> "pd.DataFrame | None":
        """`sweep.csv`: one row a job, its settings, matched SI and Q, every metric. None where not written.

        Raises ReportError for a file that cannot be read.
        """
        return self._csv(SWEEP_CSV)

    def _csv(self, name: str) -> "pd.DataFrame | None":
        import pandas as pd

        path = next((folder / name for folder in self.paths if (folder / name).is_file()), None)
        if path is None or not path.stat().st_size:
            return None
        try:
            return pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise ReportError(f"{path} cannot be read: {error}; saescope-report writes it again") from error


def open_sweep(paths: Path | str | Sequence[Path | str]) -> Sweep:
    """Read the runs in and below a folder or several, damaged and unfinished runs too.

    Raises ReportError for a folder that is not there, or when there is no run in any of them.

    Example, with `folder` such as `multirun/2026-01-31/12-00-00`:
        >>> sweep = saescope.open_sweep(folder)
        >>> [run.error for run in sweep.runs if not run.ok]
        []
        >>> sweep.metrics[["features/num_latents", "sae/l0"]].values.tolist()
        [[1024.0, 16.0]]
    """
    folders = tuple(map(Path, [paths] if isinstance(paths, Path | str) else paths))
    runs = tuple(map(read_run, find_runs(folders)))
    if not runs:
        raise ReportError(
            f"no job in {', '.join(map(str, folders))}: no folder below has status.json, metrics.json or "
            ".hydra/overrides.yaml; give run folders, sweep folders, or any folder above them"
        )
    return Sweep(folders, runs)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Every run folder in or below the given folders, resolved, each once, in natural order.

    A folder given twice, or reached by a link too, counts once. A single job that was refused before it
    measured anything counts only when its own folder is given. Raises ReportError for a folder that is not
    there.
    """
    paths: dict[Path, None] = {}
    for top in folders:
        if not top.is_dir():
            raise ReportError(f"no folder {top}; give run folders, sweep folders, or any folder above them")
        top = top.resolve()
        below = [path for path in _run_folders(top) if path == top or not is_refused(path)]
        paths |= dict.fromkeys(sorted(below, key=natural))
    return list(paths)


def job_name(folder: Path, top: Path) -> str:
    """Name of a run folder in the sweep at `top`: its path relative to `top`, with forward slashes."""
    return Path(os.path.relpath(folder, top.resolve())).as_posix()


def sweep_overrides(folder: Path) -> tuple[str, ...]:
    """What the command of a sweep was given, such as `sae.k=16,32`; () where no record of it can be read.

    Where Hydra put the folders of the jobs is left out.
    """
    import yaml

    try:
        given = yaml.safe_load((folder / MULTIRUN).read_text(encoding="utf-8"))["hydra"]["overrides"]
        words = [*given["task"], *given["hydra"]]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return ()
    return tuple(str(word) for word in words if not str(word).startswith(_OF_THE_FOLDER))


def _run_folders(top: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for name, below, _ in os.walk(top, followlinks=True):
        path = Path(name).resolve()
        if path in seen:
            below.clear()
            continue
        seen.add(path)
        if any((path / file).is_file() for file in _RUN_FILES):
            below.clear()  # there are no run folders in a run folder
            yield path
        below[:] = sorted(it for it in below if it not in _NO_RUNS and not it.startswith("."))


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key of run folders: job 10 comes after job 9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.parts]
