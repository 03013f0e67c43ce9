"""The cache folder: users of each entry, total size, and eviction when it is full.

<root>/cache.lock              short lock for registration and eviction
<root>/tokens/<key>/           packed rows (`saescope.text.token_rows`)
<root>/activations/<key>/      key.json, used (touched on use), users/<id>.lock,
                               shard-00000.safetensors, shard-00000.lock
"""

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout

from saescope.activations.key import ActivationKey
from saescope.errors import CacheError
from saescope.files import lock, whole, write_json

log = logging.getLogger(__name__)

TOKENS_STAY_S = 86_400.0
"""Seconds after the last use before token rows may be evicted: they have no user locks."""


def open_cache(setting: str, cap_gb: float) -> "ActivationCache | None":
    """The cache of the setting `runtime.cache`; None for `off`.

    `auto` is $SAESCOPE_CACHE, or the platform's cache folder (~/.cache/saescope on Linux); anything else is a
    folder. Raises CacheError when it cannot be written.
    """
    if setting == "off":
        return None
    if setting == "auto":
        import platformdirs

        variable = os.environ.get("SAESCOPE_CACHE")
        root = Path(variable).expanduser() if variable else platformdirs.user_cache_path("saescope")
    else:
        root = Path(setting).expanduser()
    return ActivationCache(root.resolve(), cap_gb)


class NoRoomError(Exception):
    """The cap leaves no room, and nothing can be evicted."""


class ActivationCache:
    """A cache folder with a size cap, shared by any number of processes."""

    def __init__(self, root: Path, cap_gb: float) -> None:
        """Raises CacheError when the folder cannot be created or written."""
        self.root = root
        self.cap_bytes = int(cap_gb * 1e9)
        self.tokens_folder = root / "tokens"
        """Where `token_rows` keeps its rows."""
        self._entries_folder = root / "activations"
        try:
            self.tokens_folder.mkdir(parents=True, exist_ok=True)
            self._entries_folder.mkdir(exist_ok=True)
            with self.locked():
                pass
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> CacheError:
        return CacheError(
            f"cannot write to the cache folder {self.root}: {error.strerror or error}; "
            "set runtime.cache=FOLDER, or runtime.cache=off"
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While open, no other process registers or evicts entries; keep it short."""
        with lock(self.root / "cache.lock"):
            yield

    @contextlib.contextmanager
    def entry(self, key: ActivationKey) -> Iterator[Path]:
        """The folder of `key`, safe from eviction until the block or the process ends.

        That of another user who lets nobody else write is read as it is, and may be evicted meanwhile.
        Raises CacheError when it cannot be created.
        """
        folder = self._entries_folder / key.digest
        user = lock(folder / "users" / f"{uuid.uuid4().hex}.lock")
        try:
            with self.locked():
                (folder / "users").mkdir(parents=True, exist_ok=True)
                if not (folder / "key.json").is_file():
                    write_json(folder / "key.json", key.as_dict())
                user.acquire()
                _touch(folder)
        except PermissionError as error:
            if not os.access(folder / "key.json", os.R_OK):
                raise self._not_writable(error) from error
            log.info("activation cache: %s is another user's: it is only read", folder)
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            yield folder
        finally:
            if user.is_locked:
                _touch(folder)
                user.release()
                Path(user.lock_file).unlink(missing_ok=True)

    @contextlib.contextmanager
    def reserved(self, path: Path, num_bytes: int) -> Iterator[Path]:
        """A file for `path` in an entry, its space taken at once, so that concurrent writers count it.

        It gets its name when the block succeeds. Raises NoRoomError when the cap leaves no room, OSError.
        """
        with whole(path) as temporary:
            with self.locked():
                if not self.make_room(num_bytes):
                    raise NoRoomError
                os.truncate(temporary, num_bytes)
            yield temporary

    def size(self) -> int:
        """Bytes of all files in the cache."""
        return _size(self.root)

    def make_room(self, num_bytes: int) -> bool:
        """Evict the least recently used entries until `num_bytes` fit under the cap; whether they fit.

        Entries in use by a running process stay. Where they do not fit, nothing is evicted. Call it inside
        `locked`.
        """
        free = self.cap_bytes - self.size() - num_bytes
        if free >= 0:
            return True
        candidates = [(_used(e), e) for e in self._entries_folder.iterdir() if e.is_dir()]
        old = time.time() - TOKENS_STAY_S
        candidates += [(t, e) for e in self.tokens_folder.iterdir() if e.is_dir() and (t := _used(e)) < old]
        idle = [e for _, e in sorted(candidates) if not _has_users(e)]
        sizes = [_size(entry) for entry in idle]
        if free + sum(sizes) < 0:  # evicting all idle entries would not be enough
            return False
        for entry, size in zip(idle, sizes, strict=True):
            shutil.rmtree(entry, ignore_errors=True)
            size -= _size(entry)  # another user's may stay
            log.info("cache: %.2f GB of %s evicted, used longest ago", size / 1e9, entry.name)
            free += size
            if free >= 0:
                break
        return free >= 0


def _has_users(entry: Path) -> bool:
    """Whether a running process has one of the entry's user locks."""
    for path in (entry / "users").glob("*.lock"):
        try:
            with lock(path, timeout=0):
                pass
        except (Timeout, OSError):
            return True
        path.unlink(missing_ok=True)  # left by a process that was killed
    return False


def _touch(entry: Path) -> None:
    """Record the time of use."""
    with contextlib.suppress(OSError):
        (entry / "used").touch()


def _used(entry: Path) -> float:
    try:
        return (entry / "used").stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed by another process
                total += os.stat(os.path.join(where, name)).st_size
    return total
