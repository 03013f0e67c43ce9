"""Builds shards: one writer for each, under the size cap, whole or not at all."""

import logging
import time
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from saescope.activations.cache import ActivationCache
from saescope.activations.errors import CacheError
from saescope.activations.shards import Layout, Shard
from saescope.activations.source import ActivationSource
from saescope.files import whole

log = logging.getLogger(__name__)


class _NoRoomError(Exception):
    """The cap leaves no room, and nothing can be evicted."""


class ShardBuilder:
    """Writes shards of one key through the language model."""

    def __init__(
        self, cache: ActivationCache, entry: Path, layout: Layout, live: ActivationSource, fall_back: bool
    ) -> None:
        self.cache = cache
        self.entry = entry
        self.layout = layout
        self.live = live
        self.fall_back = fall_back
        self.storing = True
        """False once the cap or the disk is full: from then on the rest is computed on the fly."""
        self.built = 0
        """Shards written …"""
        self.built_bytes = 0
        """… their bytes …"""
        self.built_s = 0.0
        """… and the seconds of language model that took."""
        self._told = 0

    def build(self, shard: Shard, *, wait: bool, suspect: bool = False) -> bool:
        """Write a shard unless it is there; False when another process is writing it and `wait` is false.

        `suspect`: a row of it had a wrong checksum, so it only counts as there when all of it is sound.
        Raises CacheError when it cannot be written and `fall_back` is false.
        """
        try:
            with FileLock(shard.lock_path, timeout=-1 if wait else 0):
                if shard.is_sound() if suspect else shard.index() is not None:
                    return True
                shard.remove_remains()
                self._write(shard)
        except Timeout:
            return False
        except _NoRoomError:
            self._stop(
                f"{self.layout.total_bytes / 1e9:.2f} GB of activations do not fit under "
                f"runtime.cache_gb={self.cache.cap_bytes / 1e9:g}"
            )
        except OSError as error:
            message = f"cannot write activations to {self.entry}: {error.strerror or error}"
            if not self.fall_back:
                raise CacheError(
                    f"{message}; free some space, lower runtime.cache_gb, "
                    "or set runtime.cache=FOLDER or runtime.cache=off"
                ) from error
            self._stop(message)
        return True

    def log_built(self) -> None:
        """Say what has been written since the last call."""
        if self.built == self._told:
            return
        self._told = self.built
        log.info(
            "activation cache: %d shards written (%.2f GB, %.1f s of language model)",
            self.built,
            self.built_bytes / 1e9,
            self.built_s,
        )

    def _write(self, shard: Shard) -> None:
        """Compute and store a shard; call with its lock."""
        with whole(shard.path) as temporary:
            with self.cache.locked():
                if not self.cache.make_room(shard.num_bytes):
                    raise _NoRoomError
                # the space is taken before the work, so that concurrent writers count it
                with temporary.open("r+b") as file:
                    file.truncate(shard.num_bytes)
            started = time.perf_counter()
            rows = np.array(shard.rows, dtype=np.int64)
            values = self.live.read(rows).to("cpu", self.layout.key.torch_dtype)
            build_s = time.perf_counter() - started
            with temporary.open("r+b") as file:
                crc = shard.write_data(file, values)
        shard.write_index(crc, build_s)
        self.built += 1
        self.built_bytes += shard.num_bytes
        self.built_s += build_s
        log.debug("activation cache: shard %d written", shard.number)

    def _stop(self, reason: str) -> None:
        if self.storing:
            log.warning("activation cache: %s; the rest is computed on the fly", reason)
        self.storing = False
