"""Activations from disk; shards that are missing or damaged are built through the language model."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

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
        self.shard_bytes = shard_bytes
        self.layout = Layout(key, live.sizes_R, shard_bytes)
        self.saved_s = 0.0
        """Seconds of language model that the shards found on disk have cost their writers."""
        self._touched = time.monotonic()
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._entry = cache.enter(key)
        self._shards = [Shard(self._entry, n, self.layout) for n in range(self.layout.num_shards)]
        self.builder = ShardBuilder(cache, self._entry, self.layout, live, fall_back)
        self._log_state()

    def __reduce__(self) -> tuple[Any, ...]:
        """Locks and open files stay behind: another process opens the same key for itself."""
        return _reopened, (self.cache.root, self.cache.cap_bytes, self.key, self.live, self.fall_back,
                           self.shard_bytes)  # fmt: skip

    @property
    def sizes_R(self) -> Indices:
        """Counted tokens of each row."""
        return self.layout.sizes_R

    @property
    def d_in(self) -> int:
        """Width of the hookpoint."""
        return self.key.d_in

    @property
    def built(self) -> int:
        """Shards this object has written."""
        return self.builder.built

    def read(self, rows: Indices) -> Tensor:
        """Activations [N, d_in] of the rows' tokens on the CPU, in the key's dtype; every row checked.

        Raises IndexError for a row that is not there, CacheError when the disk is full or does not keep data.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.key.num_rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.key.num_rows}")
        if time.monotonic() - self._touched > TOUCH_S:
            self._touched = time.monotonic()
            self.cache.touch(self._entry)
        sizes = self.sizes_R[rows]
        starts = np.cumsum(sizes) - sizes
        out = torch.empty((int(sizes.sum()), self.d_in), dtype=self.key.torch_dtype)
        shard_of = self.layout.shard_of_R[rows]
        touched = [int(n) for n in np.unique(shard_of)]
        self._ensure(touched)
        absent = []
        for number in touched:
            mine = np.flatnonzero(shard_of == number)
            if not self._copy(number, rows[mine], starts[mine], out):
                absent.append(mine)
        if absent:  # in one call: the language model likes large batches
            mine = np.concatenate(absent)
            at = np.concatenate([np.arange(starts[n], starts[n] + sizes[n]) for n in mine])
            out[torch.from_numpy(at)] = self.live.read(rows[mine]).to("cpu", self.key.torch_dtype)
        return out

    @property
    def missing_tokens(self) -> int:
        """Tokens in shards that are not on disk yet."""
        gone = [shard.rows for shard in self._shards if shard.index() is None]
        return int(sum(self.sizes_R[rows.start : rows.stop].sum() for rows in gone))

    def build(self, progress: Callable[[int], None] | None = None) -> None:
        """Write all missing shards now, in order; `progress` is told the tokens of each when it is there."""
        for shard in self._shards:
            if self._opened(shard.number) is not None or not self.builder.storing:
                continue
            self._ensure([shard.number], wait=False)
            if progress is not None:
                progress(int(self.sizes_R[shard.rows.start : shard.rows.stop].sum()))
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

    def _copy(self, number: int, rows: Indices, starts: Indices, out: Tensor) -> bool:
        """Read rows of one shard into `out` from `starts` on; False when it cannot be had from disk."""
        for _ in range(ATTEMPTS):
            opened = self._opened(number)
            if opened is None:
                if not self.builder.storing:
                    return False
                self.builder.build(self._shards[number], wait=True)
                continue
            try:
                opened.take(rows, out, starts)
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


def _reopened(
    root: Path, cap_bytes: int, key: ActivationKey, live: ActivationSource, fall_back: bool, shard_bytes: int
) -> CachedActivations:
    cache = ActivationCache(root, cap_bytes / 1e9)
    return CachedActivations(cache, key, live, fall_back=fall_back, shard_bytes=shard_bytes)
