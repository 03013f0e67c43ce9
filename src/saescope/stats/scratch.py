"""Arrays too large for memory lie in files without a name: the system removes them with the process."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

LARGE_BYTES = 2**30
"""An array of more bytes than this lies in a file."""

Item = TypeVar("Item", bound=np.generic)

_folders: list[Path] = []
"""Where files are made, the last one first; the system's folder for temporary files when empty."""


@contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Files of large arrays made in the block lie in `folder`."""
    _folders.append(folder)
    try:
        yield
    finally:
        _folders.remove(folder)


def empty(size: int, dtype: type[Item]) -> npt.NDArray[Item]:
    """An array [size] to be written to, in memory or, when large, in a file.

    Raises OSError when the disk has no room for it.
    """
    num_bytes = size * np.dtype(dtype).itemsize
    if num_bytes <= LARGE_BYTES:
        return np.empty(size, dtype=dtype)
    with _file() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and would be a crash at a write
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        return np.memmap(file, dtype=dtype, mode="r+", shape=(size,))


class Growing(Generic[Item]):
    """An array that grows at its end, in memory until it is large, then in a file."""

    def __init__(self, dtype: type[Item]) -> None:
        self.dtype = dtype
        self.parts: list[npt.NDArray[Item]] = []
        self.num_bytes = 0
        self.file: Any = None

    def append(self, values: npt.NDArray[Item]) -> None:
        """Add values. Raises OSError when the disk is full."""
        self.parts.append(values)
        self.num_bytes += values.nbytes
        if self.num_bytes > LARGE_BYTES:
            self.file = _file() if self.file is None else self.file
            self._write()

    def array(self) -> npt.NDArray[Item]:
        """All values."""
        if self.file is None:
            return np.concatenate([np.zeros(0, dtype=self.dtype), *self.parts])
        return np.memmap(self.file, dtype=self.dtype, mode="r+")

    def _write(self) -> None:
        for part in self.parts:
            self.file.write(np.ascontiguousarray(part, dtype=self.dtype))
        self.file.flush()
        self.parts = []


def _file() -> Any:
    return tempfile.TemporaryFile(dir=_folders[-1] if _folders else None)
