"""Activations from disk; shards that are missing or damaged are built through the language model."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from torch import Tensor

from saescope.activations.cache import ActivationCache, NoRoomError
from saescope.activations.key import ActivationKey
from saescope.activations.shards import SHARD_BYTES, DamagedShardError, Layout, OpenShard, write_shard
from saescope.activations.source import ActivationSource, Indices
from saescope.files import lock, remove_leftovers

log = logging.getLogger(__name__)

OPEN_SHARDS = 256
"""Shards open at a time, each with a file descriptor."""

JUDGED_BYTES = 2**30
"""So much is written before the disk is compared with a GPU: less is not worth a question."""

ATTEMPTS = 3
"""Times a damaged shard is built again before the cache is given up."""


class CachedActivations:
    """`live` with a cache on disk, shared by all processes that read the same key.

    Processes on an empty cache share the work: each shard has one writer, others go on to the next shard.
    Rows that do not fit under the cap or on the disk come from `live` every time, with a warning.
    """

    def __init__(
        self,
        cache: ActivationCache,
        key: ActivationKey,
        live: ActivationSource,
        *,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.cache, self.key, self.live, self.shard_bytes = cache, key, live, shard_bytes
        self.layout = Layout(key, live.sizes_R, shard_bytes)
        self.sizes_R, self.d_in = live.sizes_R, key.d_in
        self.companions: list[CachedActivations] = []
        """Other hookpoints of the same model, in shards of the same rows: written in the same passes."""
        self.live_together: Callable[[list[CachedActivations]], ActivationSource] | None = None
        """Activations of this hookpoint and some companions, side by side in this order."""
        self.storing = True
        """False once the cap or the disk is full: from then on the rest is computed on the fly."""
        self._written: list[tuple[int, float]] = []
        """Bytes, and seconds of running the language model, of each shard this object has written."""
        self._write_s = 0.0
        """Seconds of writing them."""
        self._num_logged = 0
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._verified: set[int] = set()
        self._exit = ExitStack()
        self.folder = self._exit.enter_context(cache.entry(key))
        self._log_state()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without locks and open files: another process opens the same key by itself."""
        return _reopened, (self.cache.root, self.cache.cap_bytes, self.key, self.live, self.shard_bytes)

    @property
    def built(self) -> int:
        """Shards this object has written."""
        return len(self._written)

    def read(self, rows: Indices) -> Tensor:
        """Activations [N, d_in] of the rows' tokens on the CPU, in the key's dtype.

        Raises IndexError for a row that is not there.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.key.num_rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.key.num_rows}")
        sizes = self.sizes_R[rows]
        starts = np.cumsum(sizes) - sizes
        out = torch.empty((int(sizes.sum()), self.d_in), dtype=self.key.torch_dtype)
        shard_of = self.layout.shard_of_R[rows]
        numbers = np.unique(shard_of).tolist()
        self._ensure(numbers)
        absent = []
        for number in numbers:
            at = np.flatnonzero(shard_of == number)
            if not self._copy(number, rows[at], starts[at], out):
                absent.append(at)
        if absent:  # in one call: the language model likes large batches
            at = np.concatenate(absent)
            tokens = np.concatenate([np.arange(starts[n], starts[n] + sizes[n]) for n in at])
            out[torch.from_numpy(tokens)] = self.live.read(rows[at]).to("cpu", self.key.torch_dtype)
        return out

    @property
    def missing_tokens(self) -> int:
        """Tokens in shards that are not on disk yet."""
        missing = [n for n in range(self.layout.num_shards) if self._opened(n) is None]
        return sum(map(self.layout.tokens, missing))

    @property
    def missing_bytes(self) -> int:
        """Bytes of those tokens' activations."""
        return self.missing_tokens * self.d_in * self.key.torch_dtype.itemsize

    def build(self, progress: Callable[[int], None] | None = None) -> None:
        """Write all missing shards now, in order; `progress` is called with the tokens of each."""
        for number in range(self.layout.num_shards):
            if self._opened(number) is not None or not self.storing:
                continue
            self._ensure([number], wait=False)
            if progress is not None:
                progress(self.layout.tokens(number))
        self._ensure(range(self.layout.num_shards))
        self._log_built()

    def close(self) -> None:
        """Close all files and release the key, which may then be evicted."""
        self._log_built()
        while self._open:
            self._open.popitem()[1].close()
        self._exit.close()

    def __enter__(self) -> "CachedActivations":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.safetensors"

    def _copy(self, number: int, rows: Indices, starts: Indices, out: Tensor) -> bool:
        """Read rows of one shard into `out`, each from its token in `starts` on; False when that fails."""
        for _ in range(ATTEMPTS):
            shard = self._opened(number)
            if shard is not None:
                try:
                    if number not in self._verified:
                        shard.verify()
                        self._verified.add(number)
                    shard.take(rows, out, starts)
                    return True
                except DamagedShardError as error:
                    log.warning(
                        "activation cache: shard %d is damaged (%s); it is built again", number, error
                    )
                    self._open.pop(number).close()
                    self._verified.discard(number)
            if not self.storing:
                return False
            self._build(number, wait=True)
        self._stop(f"shard {number} in {self.folder} does not keep what is written to it")
        return False

    def _ensure(self, numbers: Iterable[int], wait: bool = True) -> None:
        """Build the missing shards; with `wait`, last those that another process is writing."""
        busy = []
        for number in numbers:
            if self.storing and self._opened(number) is None and not self._build(number, wait=False) and wait:
                busy.append(number)
        if busy:
            log.info("activation cache: waiting for %d shards that another process writes", len(busy))
        for number in busy:
            self._build(number, wait=True)

    def _opened(self, number: int) -> OpenShard | None:
        """The shard, open but not verified; None when it is missing or incomplete."""
        shard = self._open.get(number)
        if shard is not None:
            self._open.move_to_end(number)
            return shard
        try:
            shard = OpenShard(self._path(number), self.layout, number)
        except (OSError, DamagedShardError):
            return None
        self._open[number] = shard
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        return shard

    def _build(self, number: int, *, wait: bool) -> bool:
        """Write a shard unless it exists; False when another process is writing it and `wait` is false."""
        path = self._path(number)
        try:
            with lock(path.with_suffix(".lock"), timeout=-1 if wait else 0):
                if self._is_absent(number):
                    self._write(number)
        except Timeout:
            return False
        except (NoRoomError, OSError) as error:
            self._stop(self._reason(error))
        return True

    def _reason(self, error: Exception) -> str:
        """Why nothing more is stored."""
        if isinstance(error, OSError):
            return f"cannot write activations to {self.folder}: {error.strerror or error}"
        return (
            f"{self.layout.total_bytes / 1e9:.2f} GB of activations do not fit under "
            f"runtime.cache_gb={self.cache.cap_bytes / 1e9:g}"
        )

    def _is_absent(self, number: int) -> bool:
        """Whether the shard has to be written; what a writer that died left of it is removed.

        Another process may have built it meanwhile. Call it with the lock of the shard acquired.
        """
        if self._is_sound(number):
            return False
        path = self._path(number)
        path.unlink(missing_ok=True)
        remove_leftovers(self.folder, path.name)
        return True

    def _is_sound(self, number: int) -> bool:
        """Whether the shard exists with the right checksum."""
        try:
            shard = OpenShard(self._path(number), self.layout, number)
        except (OSError, DamagedShardError):
            return False
        try:
            shard.verify()
        except DamagedShardError:
            return False
        finally:
            shard.close()
        return True

    def _write(self, number: int) -> None:
        """Compute and store a shard, and in the same pass those of the companions that lack it.

        Call it with the lock of the shard acquired.
        """
        with ExitStack() as stack:
            temporary = stack.enter_context(self._reserved(number))
            files = [(self, temporary)]
            for companion in self.companions:
                if (file := companion._joining(number, stack)) is not None:
                    files.append((companion, file))
            sources = [source for source, _ in files]
            live = self.live if len(files) == 1 or not self.live_together else self.live_together(sources)
            started = time.perf_counter()
            read_ND = live.read(np.array(self.layout.rows(number), dtype=np.int64))
            values_ND = read_ND.to("cpu")  # a GPU is done when its values are here, not when `read` returns
            build_s = (time.perf_counter() - started) / len(files)
            at = 0
            for source, path in files:
                started = time.perf_counter()
                columns = values_ND[:, at : at + source.d_in].to(source.key.torch_dtype)
                at += source.d_in
                with path.open("r+b") as opened:
                    write_shard(opened, columns, build_s)
                source._write_s += time.perf_counter() - started
                source._written.append((source.layout.num_bytes(number), build_s))
        log.debug("activation cache: shard %d written at %d hookpoints", number, len(files))
        if read_ND.device.type != "cpu":
            self._judge()

    def _judge(self) -> None:
        """Store no more where the GPU computes activations sooner than the disk takes them.

        On the CPU the language model is slower than any disk.
        """
        num_bytes, build_s = (sum(column) for column in zip(*self._written, strict=True))
        if num_bytes >= JUDGED_BYTES and self._write_s > build_s:
            self._stop(
                f"{num_bytes / 1e9:.2f} GB took {build_s:.1f} s to compute and {self._write_s:.1f} s to store"
            )

    def _reserved(self, number: int) -> AbstractContextManager[Path]:
        return self.cache.reserved(self._path(number), self.layout.num_bytes(number))

    def _joining(self, number: int, stack: ExitStack) -> Path | None:
        """The file for a shard that another hookpoint's pass is about to compute.

        None where the shard exists, another process is writing it, or it cannot be stored. Lock and file
        end with `stack`.
        """
        if not self.storing or self._opened(number) is not None:
            return None
        try:
            stack.enter_context(lock(self._path(number).with_suffix(".lock"), timeout=0))
            return stack.enter_context(self._reserved(number)) if self._is_absent(number) else None
        except Timeout:
            return None
        except (NoRoomError, OSError) as error:
            self._stop(self._reason(error))
            return None

    def _stop(self, reason: str) -> None:
        if self.storing:
            log.warning("activation cache: %s; the rest is computed on the fly", reason)
        self.storing = False

    def _log_state(self) -> None:
        shards = [shard for n in range(self.layout.num_shards) if (shard := self._opened(n)) is not None]
        self.saved_s = sum(shard.build_s for shard in shards)
        """Seconds of running the language model that the shards on disk save."""
        log.info(
            "activation cache: %s, %d of %d shards (%.2f GB in all) of %s in %s%s",
            "hit" if len(shards) == self.layout.num_shards else "partial hit" if shards else "miss",
            len(shards),
            self.layout.num_shards,
            self.layout.total_bytes / 1e9,
            self.key.hookpoint,
            self.folder,
            f"; saves {self.saved_s:.1f} s of language model" if shards else "",
        )

    def _log_built(self) -> None:
        """Log what has been written, unless that was logged before."""
        if self.built > self._num_logged:
            self._num_logged = self.built
            log.info(
                "activation cache: %d shards written (%.2f GB, %.1f s of language model)",
                self.built,
                sum(num_bytes for num_bytes, _ in self._written) / 1e9,
                sum(build_s for _, build_s in self._written),
            )


def _reopened(
    root: Path, cap_bytes: int, key: ActivationKey, live: ActivationSource, shard_bytes: int
) -> CachedActivations:
    return CachedActivations(ActivationCache(root, cap_bytes / 1e9), key, live, shard_bytes=shard_bytes)
