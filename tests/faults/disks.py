"""Small file systems that become full or read-only; root alone can have them."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.killed_at import Job, Moment, wait_for


def mounted(place: Path, *options: str) -> None:
    """A small file system of its own; needs root."""
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no mount here: {made.stderr.decode().strip()}")


def remounted(place: Path, option: str) -> None:
    """Waits for W&B's service, which outlives a killed job for a while and holds its log open."""
    command = ["mount", "-o", f"remount,{option}", str(place)]
    deadline = time.monotonic() + 60
    while subprocess.run(command, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, f"{place} is still in use"
        time.sleep(0.5)


@contextmanager
def disk(place: Path, *options: str) -> Iterator[Path]:
    """`mounted` while the block lasts."""
    mounted(place, *options)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place: Path) -> Path:
    """Leave no room; the file that takes it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


def filled_at(folder: Path, place: Path, command: list[str], moment: Moment) -> tuple[Job, Path]:
    """A command whose disk becomes full at the moment, and the file that fills it."""
    mark = folder / f"stands-{place.name}"
    job = Job(folder, command, moment._replace(mark=mark))
    wait_for(mark.is_file, job)
    filler = fill(place)
    Path(f"{mark}.go").touch()
    return job, filler
