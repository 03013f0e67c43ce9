"""Shards: runs of rows in one file each, with a checksum for every row.

A shard is a data file and an index beside it. The index is written last and the checksums are looked at
before a row is handed out, so a missing, truncated, half-written or altered shard is noticed and never read.
"""

import contextlib
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Layout:
    """Which rows lie in which shard."""

    key: ActivationKey
    shard_bytes: int = SHARD_BYTES

    @property
    def row_bytes(self) -> int:
        """Bytes of one row [ctx_len, d_in]."""
        return self.key.ctx_len * self.key.d_in * self.key.torch_dtype.itemsize

    @property
    def rows_per_shard(self) -> int:
        """Rows of every shard but the last."""
        return max(1, self.shard_bytes // self.row_bytes)

    @property
    def num_shards(self) -> int:
        """Shards that hold all rows."""
        return -(-self.key.num_rows // self.rows_per_shard)

    @property
    def total_bytes(self) -> int:
        """Bytes of all activations."""
        return self.key.num_rows * self.row_bytes

    def rows(self, shard: int) -> range:
        """Row numbers of a shard."""
        start = shard * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.key.num_rows))


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
        return len(self.rows) * self.layout.row_bytes

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
        """Write `values` [rows, ctx_len, d_in]; the checksum of each row."""
        storage = _as_storage(values.contiguous())
        crc = []
        for row in storage:
            file.write(row.data)
            crc.append(zlib.crc32(row.data))
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

    def take(self, local: Indices, out: Tensor, positions: Indices) -> None:
        """Read rows `local` of the shard into `out[positions]`.

        Raises DamagedShardError for a row that is not what was written; `out[positions]` is undefined then.
        """
        target = _as_storage(out)
        for row, position in zip(local.tolist(), positions.tolist(), strict=True):
            self._read(row, memoryview(target[position]).cast("B"))

    def verify(self) -> None:
        """Read and check every row. Raises DamagedShardError."""
        buffer = memoryview(bytearray(self.shard.layout.row_bytes))
        for row in range(len(self.crc)):
            self._read(row, buffer)

    def _read(self, row: int, target: memoryview) -> None:
        name = f"row {self.shard.rows[row]}"
        try:
            with self.lock:
                self.file.seek(row * len(target))
                read = 0
                while read < len(target) and (more := self.file.readinto(target[read:])):
                    read += more
        except OSError as error:
            raise DamagedShardError(f"{name}: {error.strerror or error}") from error
        if read < len(target):
            raise DamagedShardError(f"{name} is cut short")
        if not self.verified[row]:
            if zlib.crc32(target) != self.crc[row]:
                raise DamagedShardError(f"{name} has another checksum")
            self.verified[row] = True


def _as_storage(values: Tensor) -> npt.NDArray[Any]:
    """The same memory as numpy sees it."""
    if values.dtype is torch.bfloat16:
        values = values.view(torch.int16)
    array: npt.NDArray[Any] = values.numpy()
    return array
