"""Small file systems that become full or read-only; root alone can have them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


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
