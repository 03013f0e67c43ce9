"""Reading and writing files; each is written completely or not at all."""

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

PART = ".part"
"""In the names of unfinished files."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which is renamed to `path` only when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART + path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_room(folder: Path, num_bytes: int) -> None:
    """Raise the OSError of a full disk or quota, unless `folder` can take a file of so many bytes."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(num_bytes))
        file.flush()
        os.fsync(file.fileno())


def lock(path: Path, timeout: float = -1) -> FileLock:
    """A lock that ends with its process; its file is as open to other users as the umask lets any file be.

    `timeout`: seconds to wait, then `filelock.Timeout`; -1 waits for good.
    """
    return FileLock(path, timeout=timeout, mode=0o666 & ~_umask(), thread_local=False)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the unfinished files of writers that were killed: those of the file `name`, or all in `folder`.

    Only where a lock keeps other writers away.
    """
    for leftover in folder.glob(f".{glob.escape(name)}.*" if name else f".*{PART}*"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON. Raises ValueError when `value` contains NaN or infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`, or None when the file is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
