"""Activations from disk; shards that are missing or damaged are built through the language model."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from saescope.activations.builder import ShardBuilder
from saescope.activations.cache import ActivationCache
from saescope.activations.errors import CacheError
from saescope.activations.key import ActivationKey
from saescope.activations.shards import SHARD_BYTES, DamagedShardError, Layout, OpenShard, Shard
from saescope.activations.source import ActivationSource, Indices

log = logging.getLogger(__name__)

OPEN_SHARDS = 256
"""Shards open at a time: each holds a file descriptor."""

TOUCH_S = 60.0
ATTEMPTS = 3


class CachedActivations:
    """`live` with a memory on disk, shared with every process that reads the same key.

    Two processes on a cold cache share the work: one writer for each shard, the other takes the next one.
    Rows that do not fit under the cap come from `live` every time. Raises CacheError when the disk is full;
    with `fall_back` that is a warning, and what is not on disk comes from `live`.
    """

    def __init__(
        self,
        cache: ActivationCache,
        key: ActivationKey,
        live: ActivationSource,
        *,
        fall_back: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.cache = cache
        self.key = key
        self.live = live
        self.fall_back = fall_back
        self.layout = Layout(key, shard_bytes)
        self.saved_s = 0.0
        """Seconds of language model that the shards found on disk have cost their writers."""
        self._touched = time.monotonic()
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._entry = cache.enter(key)
        self._shards = [Shard(self._entry, n, self.layout) for n in range(self.layout.num_shards)]
        self.builder = ShardBuilder(cache, self._entry, self.layout, live, fall_back)
        self._log_state()

    @property
    def num_rows(self) -> int:
        """R."""
        return self.key.num_rows

    @property
    def d_in(self) -> int:
        """Width of the hookpoint."""
        return self.key.d_in

    @property
    def built(self) -> int:
        """Shards this object has written."""
        return self.builder.built

    def read(self, rows: Indices) -> Tensor:
        """Activations [len(rows), ctx_len, d_in] on the CPU, in the key's dtype; every row checked.

        Raises IndexError for a row that is not there, CacheError when the disk is full or does not keep data.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.num_rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.num_rows}")
        if time.monotonic() - self._touched > TOUCH_S:
            self._touched = time.monotonic()
            self.cache.touch(self._entry)
        out = torch.empty((len(rows), self.key.ctx_len, self.d_in), dtype=self.key.torch_dtype)
        shard_of = rows // self.layout.rows_per_shard
        touched = [int(n) for n in np.unique(shard_of)]
        self._ensure(touched)
        absent = []
        for number in touched:
            positions = np.flatnonzero(shard_of == number)
            if not self._copy(number, rows, positions, out):
                absent.append(positions)
        if absent:  # in one call: the language model likes large batches
            positions = np.concatenate(absent)
            out[positions] = self.live.read(rows[positions]).to("cpu", self.key.torch_dtype)
        return out

    def build(self, progress: Callable[[int], None] | None = None) -> None:
        """Write all missing shards now, in order; `progress` is told how many rows have been seen to."""
        for shard in self._shards:
            self._ensure([shard.number], wait=False)
            if progress is not None:
                progress(shard.rows.stop)
        self._ensure(range(len(self._shards)))
        self.builder.log_built()

    def close(self) -> None:
        """Let others evict this key."""
        self.builder.log_built()
        while self._open:
            self._open.popitem()[1].close()
        self.cache.leave(self.key)

    def __enter__(self) -> "CachedActivations":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _copy(self, number: int, rows: Indices, positions: Indices, out: Tensor) -> bool:
        """Fill `out[positions]` with rows of one shard; False when it cannot be had from disk."""
        for _ in range(ATTEMPTS):
            opened = self._opened(number)
            if opened is None:
                if not self.builder.storing:
                    return False
                self.builder.build(self._shards[number], wait=True)
                continue
            try:
                opened.take(rows[positions] - opened.shard.rows.start, out, positions)
                return True
            except DamagedShardError as error:
                log.warning("activation cache: shard %d is damaged (%s); it is built again", number, error)
                self._open.pop(number).close()
                self.builder.build(self._shards[number], wait=True, suspect=True)
        if self.fall_back or not self.builder.storing:
            return False
        raise CacheError(
            f"shard {number} in {self._entry} does not keep what is written to it; the disk may be failing: "
            "set runtime.cache=FOLDER on another one, or runtime.cache=off"
        )

    def _ensure(self, numbers: Iterable[int], wait: bool = True) -> None:
        """Build those shards that are missing; ones another process is writing come last."""
        busy = []
        for number in numbers:
            if self.builder.storing and self._opened(number) is None:
                shard = self._shards[number]
                if not self.builder.build(shard, wait=False) and wait:
                    busy.append(shard)
        for shard in busy:
            self.builder.build(shard, wait=True)

    def _opened(self, number: int) -> OpenShard | None:
        """The shard, open; None when it is not there or not whole."""
        opened = self._open.get(number)
        if opened is not None:
            self._open.move_to_end(number)
            return opened
        shard = self._shards[number]
        index = shard.index()
        if index is None:
            return None
        try:
            opened = OpenShard(shard, index)
        except OSError:  # removed between the two looks
            return None
        self._open[number] = opened
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        return opened

    def _log_state(self) -> None:
        indices = [index for shard in self._shards if (index := shard.index()) is not None]
        self.saved_s = float(sum(index.get("build_s", 0.0) for index in indices))
        log.info(
            "activation cache: %s, %d of %d shards (%.2f GB in all) of %s in %s%s",
            "hit" if len(indices) == len(self._shards) else "partial hit" if indices else "miss",
            len(indices),
            len(self._shards),
            self.layout.total_bytes / 1e9,
            self.key.hookpoint,
            self._entry,
            f"; saves {self.saved_s:.1f} s of language model" if indices else "",
        )
