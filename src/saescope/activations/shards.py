"""Shards: runs of rows in one file each, with a checksum for every row.

A shard is a data file and an index beside it. The index is written last and the checksums are looked at
before a row is handed out, so a missing, truncated, half-written or altered shard is noticed and never read.
"""

import contextlib
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.activations.key import ActivationKey
from saescope.activations.source import Indices
from saescope.files import read_json, write_json

SHARD_BYTES = 64 * 2**20

# numpy has no bfloat16: its bits travel as int16
STORAGE: dict[torch.dtype, Any] = {
    torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16
}  # fmt: skip


class DamagedShardError(Exception):
    """A shard's file is not what was written; caught by the cache, which builds it again."""


class Layout:
    """Which rows lie in which shard, and where."""

    def __init__(self, key: ActivationKey, sizes_R: Indices, shard_bytes: int = SHARD_BYTES) -> None:
        self.key = key
        self.sizes_R = sizes_R
        """Tokens of each row."""
        self.bytes_R = sizes_R * (key.d_in * key.torch_dtype.itemsize)
        self.end_R = np.cumsum(self.bytes_R)
        # a shard takes the rows that begin in its span, so it may end one row later
        begun = (self.end_R - self.bytes_R) // shard_bytes
        first, self.shard_of_R = np.unique(begun, return_inverse=True, return_index=True)[1:]
        self._bounds = [*first.tolist(), len(sizes_R)]

    @property
    def num_shards(self) -> int:
        """Shards that hold all rows."""
        return len(self._bounds) - 1

    @property
    def total_bytes(self) -> int:
        """Bytes of all activations."""
        return int(self.bytes_R.sum())

    def rows(self, shard: int) -> range:
        """Row numbers of a shard."""
        return range(self._bounds[shard], self._bounds[shard + 1])

    def offset(self, row: int) -> int:
        """Byte in its shard's file where a row begins."""
        first = self._bounds[self.shard_of_R[row]]
        return int(self.end_R[row] - self.bytes_R[row] - self.end_R[first] + self.bytes_R[first])


class Shard:
    """One shard's files."""

    def __init__(self, folder: Path, number: int, layout: Layout) -> None:
        self.number = number
        self.layout = layout
        self.rows = layout.rows(number)
        self.path = folder / f"shard-{number:05d}.bin"
        self.index_path = folder / f"shard-{number:05d}.json"
        self.lock_path = folder / f"shard-{number:05d}.lock"

    @property
    def num_bytes(self) -> int:
        """Size of the data file."""
        return int(self.layout.bytes_R[self.rows.start : self.rows.stop].sum())

    def index(self) -> dict[str, Any] | None:
        """`{"crc": [one per row], "build_s": seconds}`; None when the shard is missing or not whole."""
        index = read_json(self.index_path)
        try:
            size = self.path.stat().st_size
        except OSError:
            return None
        if not isinstance(index, dict) or size != self.num_bytes:
            return None
        crc = index.get("crc")
        return index if isinstance(crc, list) and len(crc) == len(self.rows) else None

    def is_sound(self) -> bool:
        """Whether every row has its checksum: reads the whole file."""
        index = self.index()
        if index is None:
            return False
        try:
            with contextlib.closing(OpenShard(self, index)) as opened:
                opened.verify()
        except (OSError, DamagedShardError):
            return False
        return True

    def write_data(self, file: BinaryIO, values: Tensor) -> list[int]:
        """Write `values` [N, d_in], the tokens of all its rows; the checksum of each row."""
        storage = _as_storage(values.contiguous())
        ends = np.cumsum(self.layout.sizes_R[self.rows.start : self.rows.stop])
        crc = []
        for row in np.split(storage, ends[:-1]):
            data = row.data.cast("B") if row.size else b""
            file.write(data)
            crc.append(zlib.crc32(data))
        return crc

    def write_index(self, crc: Sequence[int], build_s: float) -> None:
        """Declare the data file complete; `build_s` is what a later job saves."""
        write_json(self.index_path, {"crc": list(crc), "build_s": build_s})

    def remove_remains(self) -> None:
        """Delete index, data and the temporary files of a writer that died; only the lock's holder may."""
        self.index_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        for pattern in (f".{self.path.name}.*", f".{self.index_path.name}.*"):
            for leftover in self.path.parent.glob(pattern):
                leftover.unlink(missing_ok=True)


class OpenShard:
    """A complete shard, open for reading. A row's checksum is looked at once, when it is first read.

    Read, not memory-mapped: a file cut short under a mapping kills the process (SIGBUS), while a short
    read is noticed; and it is one copy, straight into the batch.
    """

    def __init__(self, shard: Shard, index: dict[str, Any]) -> None:
        self.shard = shard
        self.crc: list[int] = index["crc"]
        self.verified = [False] * len(self.crc)
        self.file = shard.path.open("rb", buffering=0)
        self.lock = threading.Lock()  # seek and read belong together

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def take(self, rows: Indices, out: Tensor, starts: Indices) -> None:
        """Read `rows` into `out` [N, d_in], each from the token in `starts` on.

        Raises DamagedShardError for a row that is not what was written; its part of `out` is undefined then.
        """
        target = _as_storage(out)
        for row, start in zip(rows.tolist(), starts.tolist(), strict=True):
            part = target[start : start + self.shard.layout.sizes_R[row]]
            self._read(row, part.data.cast("B") if part.size else memoryview(b""))

    def verify(self) -> None:
        """Read and check every row. Raises DamagedShardError."""
        sizes = self.shard.layout.bytes_R
        for row in self.shard.rows:
            self._read(row, memoryview(bytearray(int(sizes[row]))))

    def _read(self, row: int, target: memoryview) -> None:
        name, local = f"row {row}", row - self.shard.rows.start
        try:
            with self.lock:
                self.file.seek(self.shard.layout.offset(row))
                read = 0
                while read < len(target) and (more := self.file.readinto(target[read:])):
                    read += more
        except OSError as error:
            raise DamagedShardError(f"{name}: {error.strerror or error}") from error
        if read < len(target):
            raise DamagedShardError(f"{name} is cut short")
        if not self.verified[local]:
            if zlib.crc32(target) != self.crc[local]:
                raise DamagedShardError(f"{name} has another checksum")
            self.verified[local] = True


def _as_storage(values: Tensor) -> npt.NDArray[Any]:
    """The same memory as numpy sees it."""
    if values.dtype is torch.bfloat16:
        values = values.view(torch.int16)
    array: npt.NDArray[Any] = values.numpy()
    return array
