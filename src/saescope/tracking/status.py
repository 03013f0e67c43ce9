"""`status.json`: how far a run folder got.

`running` while a job works on it (and after a kill), then `ok` or `failed`. Written last, so `ok` says that
every other file is there and whole.
"""

from pathlib import Path
from typing import Any

from saescope.files import read_json, write_json

SCHEMA = 1


def write_status(run_dir: Path, state: str, **more: Any) -> None:
    """Write the state with the schema version and details such as `error`, `notes`, `warnings`."""
    write_json(run_dir / "status.json", {"schema": SCHEMA, "state": state, **more})


def status_of(run_dir: Path) -> dict[str, Any]:
    """The run's status, or an empty dictionary."""
    status = read_json(run_dir / "status.json")
    return status if isinstance(status, dict) else {}
