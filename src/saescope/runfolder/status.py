"""`status.json`: how far a run folder got.

`running` while a job works on it (and after a kill), then `ok` or `failed`. Written last, so `ok` says that
every other file is there and whole.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saescope.files import read_json, write_json
from saescope.runfolder.names import METRICS, STATUS
from saescope.runfolder.partial import remove_partials

SCHEMA = 1
"""Version of the result files of a run folder; goes up when older readers would misread them."""

PARTIAL_SUMS_OF = "partial_sums_of"
"""Key of an unfinished job's status: the identity of the job whose partial sums may lie in the folder."""


def write_status(run_dir: Path, state: str, **more: Any) -> None:
    """Write the state with the schema version and details such as `error`, `notes`, `warnings`."""
    write_json(run_dir / STATUS, {"schema": SCHEMA, "state": state, **more})


def write_running(run_dir: Path, identity: str, **more: Any) -> None:
    """Write that the job of this identity is at work; first remove the sums that another one left halfway."""
    if status_of(run_dir).get(PARTIAL_SUMS_OF) != identity:
        remove_partials(run_dir)
    write_status(run_dir, "running", **{PARTIAL_SUMS_OF: identity}, **more)


def write_measured(run_dir: Path, identity: str, **more: Any) -> None:
    """Write that every data file of this identity is there: only its pages are missing."""
    write_status(run_dir, "running", measured=identity, **more)


def measured(run_dir: Path, identity: str) -> dict[str, Any]:
    """What `write_measured` wrote for this identity, if that is how far the job got; else empty."""
    status = status_of(run_dir)
    if status.get("measured") != identity or unreadable(status) or not read_json(run_dir / METRICS):
        return {}
    return _of_the_result(status)


def write_failed(run_dir: Path, error: str, **more: Any) -> None:
    """Write the failure; data files that are complete stay so, and sums that are half done whose they are."""
    before = status_of(run_dir)
    sums = {key: before[key] for key in (PARTIAL_SUMS_OF,) if key in before}
    write_status(run_dir, "failed", error=error, **_of_the_result(before), **sums, **more)


def _of_the_result(status: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("measured", "notes", "warnings", "left_out") if "measured" in status else ()
    return {key: status[key] for key in keys if key in status}


def unreadable(status: Mapping[str, Any]) -> str | None:
    """Why a run folder with this status must not be read by this version; None where it can be.

    Folders without a schema, such as those with a `metrics.json` alone, are read as version 1.
    """
    schema = status.get("schema", SCHEMA)
    if isinstance(schema, int) and not isinstance(schema, bool) and 1 <= schema <= SCHEMA:
        return None
    return (
        f"status.json has schema {schema!r}, this saescope reads 1 to {SCHEMA}; "
        "read it with the saescope that wrote it or a newer one, or measure again"
    )


def is_refused(run_dir: Path) -> bool:
    """Whether a command was refused there before it measured anything: a mistyped command is no result.

    Of a sweep, only where every job was; else the refused ones are rows like other failed jobs.
    """
    status = status_of(run_dir)
    return status.get("state") == "failed" and status.get("refused") is True


def mark_refused(run_dir: Path) -> None:
    """Have reports of the folders above leave out the failed job in `run_dir`."""
    status = status_of(run_dir)
    if status.get("state") == "failed":
        write_json(run_dir / STATUS, status | {"refused": True})


def status_of(run_dir: Path) -> dict[str, Any]:
    """The run's status, or an empty dictionary."""
    status = read_json(run_dir / STATUS)
    return status if isinstance(status, dict) else {}
