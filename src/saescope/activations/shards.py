"""Shards: runs of rows in one safetensors file each, with one checksum in its header.

A file gets its name when it is complete. Header and size are checked when a shard is opened, the checksum
before the first row is read from it (`OpenShard.verify`): a missing, truncated, half-written or altered shard
is noticed and never used.
"""

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from saescope.activations.key import ActivationKey
from saescope.activations.source import Indices

SHARD_BYTES = 64 * 2**20
CHUNK_BYTES = 4 * 2**20
"""Bytes read at a time to verify a checksum."""

TENSOR = "activations"
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


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
        span_R = (self.end_R - self.bytes_R) // shard_bytes
        first, self.shard_of_R = np.unique(span_R, return_inverse=True, return_index=True)[1:]
        self._bounds = [*first.tolist(), len(sizes_R)]

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self._bounds) - 1

    @property
    def total_bytes(self) -> int:
        """Bytes of all activations."""
        return int(self.bytes_R.sum())

    def same_rows(self, other: "Layout") -> bool:
        """Whether the shards of both are of the same rows."""
        return self._bounds == other._bounds and np.array_equal(self.sizes_R, other.sizes_R)

    def rows(self, shard: int) -> range:
        """Row numbers of a shard."""
        return range(self._bounds[shard], self._bounds[shard + 1])

    def tokens(self, shard: int) -> int:
        """Tokens of a shard's rows."""
        rows = self.rows(shard)
        return int(self.sizes_R[rows.start : rows.stop].sum())

    def num_bytes(self, shard: int) -> int:
        """Bytes of a shard's activations."""
        rows = self.rows(shard)
        return int(self.bytes_R[rows.start : rows.stop].sum())

    def offset(self, row: int) -> int:
        """Bytes of activations before a row in its shard."""
        first = self._bounds[self.shard_of_R[row]]
        return int(self.end_R[row] - self.bytes_R[row] - self.end_R[first] + self.bytes_R[first])


def write_shard(file: BinaryIO, values_ND: Tensor, build_s: float) -> None:
    """Write activations as a safetensors file; `build_s`: the seconds it took to compute them.

    By hand, because safetensors' own `save` copies the values twice.
    """
    data = as_bytes(values_ND.contiguous())
    entry = {
        "dtype": DTYPES[values_ND.dtype],
        "shape": list(values_ND.shape),
        "data_offsets": [0, len(data)],
    }
    metadata = {"crc32": str(zlib.crc32(data)), "build_s": str(build_s)}
    header = json.dumps({"__metadata__": metadata, TENSOR: entry}).encode()
    header += b" " * (-len(header) % 8)  # aligned, as safetensors asks
    file.write(len(header).to_bytes(8, "little") + header)
    file.write(data)


class OpenShard:
    """A shard that is complete by its header and size, open for reading.

    Read, not memory-mapped: when a mapped file is truncated, the process is killed (SIGBUS), while a short
    read can be noticed. Values are copied once, straight into the batch.
    """

    def __init__(self, path: Path, layout: Layout, number: int) -> None:
        """Raises OSError for a missing file, DamagedShardError for a wrong size or header."""
        self.layout = layout
        self.num_bytes = layout.num_bytes(number)
        with contextlib.ExitStack() as on_error:
            self.file = on_error.enter_context(path.open("rb", buffering=0))
            size = os.fstat(self.file.fileno()).st_size
            length = int.from_bytes(self.file.read(8), "little")
            self.start = 8 + length
            if size != self.start + self.num_bytes:
                raise DamagedShardError(f"it has {size} bytes")
            try:
                header = json.loads(self.file.read(length))
                stored = header[TENSOR]["dtype"], header[TENSOR]["shape"]
                self.crc = int(header["__metadata__"]["crc32"])
                self.build_s = float(header["__metadata__"]["build_s"])
                """Seconds of running the language model to compute it."""
            except (ValueError, LookupError, TypeError) as error:
                raise DamagedShardError("its header cannot be read") from error
            if stored != (DTYPES[layout.key.torch_dtype], [layout.tokens(number), layout.key.d_in]):
                raise DamagedShardError(f"it holds {stored}")
            on_error.pop_all()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def verify(self) -> None:
        """Read the whole file. Raises DamagedShardError for a wrong checksum."""
        buffer = memoryview(bytearray(min(CHUNK_BYTES, self.num_bytes)))
        crc = 0
        for offset in range(0, self.num_bytes, CHUNK_BYTES):
            part = buffer[: self.num_bytes - offset]
            self._read(offset, part)
            crc = zlib.crc32(part, crc)
        if crc != self.crc:
            raise DamagedShardError("it has another checksum")

    def take(self, rows: Indices, out_ND: Tensor, starts: Indices) -> None:
        """Read `rows` into `out_ND`, each from the token in `starts` on.

        Raises DamagedShardError for a row that cannot be read; its part of `out_ND` is undefined then.
        """
        target = as_bytes(out_ND)
        token_bytes = out_ND.shape[1] * out_ND.element_size()
        for row, start in zip(rows.tolist(), starts.tolist(), strict=True):
            first = start * token_bytes
            self._read(self.layout.offset(row), target[first : first + int(self.layout.bytes_R[row])])

    def _read(self, offset: int, target: memoryview) -> None:
        read = 0
        try:
            while read < len(target):
                more = os.preadv(self.file.fileno(), [target[read:]], self.start + offset + read)
                if not more:
                    raise DamagedShardError("it is cut short")
                read += more
        except OSError as error:
            raise DamagedShardError(str(error.strerror or error)) from error


def as_bytes(values: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    data: memoryview = values.view(torch.uint8).numpy().reshape(-1).data
    return data
