"""What each job of one command did, in a file a job: jobs may run in other processes and on other machines.

A run folder says what its result is, not which command left it there: in a sweep folder that is used twice
the folder of a refused job holds the result of an earlier one.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from saescope.files import lock, read_json, write_json
from saescope.runfolder.run import Run, read_run
from saescope.runfolder.sweep import find_runs, natural

INTERRUPTED = "did not finish: interrupted, killed, or still running"


@dataclass(frozen=True)
class JobOutcome:
    """What a job of a sweep did."""

    number: int
    """Hydra's number of the job in its command."""
    folder: str
    """Absolute path of its run folder."""
    overrides: tuple[str, ...]
    config: str
    """The composed configuration, as YAML."""
    state: str = "running"
    """`running`, `ok` or `failed`."""
    error: str = ""
    untouched: bool = False
    """The folder belongs to another job, and nothing in it was changed."""
    refused: bool = False
    """What the user has to correct ended it before it measured anything."""


def begin(command: Path) -> FileLock:
    """The lock of a command, which ends with its process; what killed commands left beside it is removed.

    `command`: the folder of its outcomes. Raises OSError where it cannot be created.
    """
    running = _lock(command, timeout=-1)
    command.parent.mkdir(parents=True, exist_ok=True)
    running.acquire()
    while not Path(running.lock_file).exists():  # another command has just taken it for that of a dead one
        running.release()
        running.acquire()
    for name in {path.stem for path in command.parent.iterdir()} - {command.name}:
        other = command.with_name(name)
        with suppress(Timeout, OSError), _lock(other):
            end(other)
    return running


def end(command: Path) -> None:
    """Remove the outcomes of a command, and the file of its lock."""
    shutil.rmtree(command, ignore_errors=True)
    with suppress(OSError):  # a folder that is only read; another command's are there
        Path(_lock(command).lock_file).unlink(missing_ok=True)
        command.parent.rmdir()


def _lock(command: Path, timeout: float = 0) -> FileLock:
    return lock(command.with_name(f"{command.name}.lock"), timeout)


def write_outcome(command: Path, outcome: JobOutcome) -> None:
    """Write or replace the job's file in `command`, the folder of one command."""
    write_json(command / f"{outcome.number}.json", asdict(outcome))


def read_outcomes(command: Path) -> list[JobOutcome]:
    """The jobs that have started, by number."""
    contents = [read_json(path) for path in command.glob("[0-9]*.json")]
    outcomes = [
        JobOutcome(**content | {"overrides": tuple(content["overrides"])}) for content in contents if content
    ]
    return sorted(outcomes, key=lambda outcome: outcome.number)


def runs_of(sweep_dir: Path, outcomes: Sequence[JobOutcome]) -> tuple[list[Run], set[Path]]:
    """Every run in or below `sweep_dir` and every job in `outcomes`, and the paths of the latter.

    State, error, overrides and settings of a job are those of its outcome. A job that was refused because its
    folder belongs to another one is a run of its own, with a path that does not exist: `<number> (refused)`.
    """
    in_folder = {Path(outcome.folder).resolve(): outcome for outcome in outcomes if not outcome.untouched}
    paths = {path.resolve(): None for path in (find_runs([sweep_dir]) if sweep_dir.is_dir() else ())}
    if extra := in_folder.keys() - paths.keys():  # folders that are not searched, such as hidden ones
        paths = dict.fromkeys(sorted([*paths, *extra], key=natural))
    runs = [_run(path, in_folder.get(path)) for path in paths]
    refused = [_refused(sweep_dir.resolve(), outcome) for outcome in outcomes if outcome.untouched]
    return runs + refused, in_folder.keys() | {run.path for run in refused}


def _run(path: Path, outcome: JobOutcome | None) -> Run:
    run = read_run(path)
    if outcome is None:
        return run
    if outcome.state == "ok":
        return replace(run, overrides=outcome.overrides)
    failed = outcome.state == "failed"
    return replace(
        run,
        state="failed" if failed else "unfinished",
        error=outcome.error if failed else INTERRUPTED,
        overrides=outcome.overrides,
        config=_config(outcome) or run.config,
        provenance={},  # written at the end of a job: what is there is of an earlier one
        metrics={},
    )


def _refused(sweep_dir: Path, outcome: JobOutcome) -> Run:
    return Run(
        path=sweep_dir / f"{outcome.number} (refused)",
        state="failed",
        error=outcome.error,
        metrics={},
        status={},
        overrides=outcome.overrides,
        config=_config(outcome),
        provenance={},
        tracking={},
        histograms={},
    )


def _config(outcome: JobOutcome) -> Mapping[str, Any]:
    import yaml

    content = yaml.safe_load(outcome.config)
    return content if isinstance(content, dict) else {}
