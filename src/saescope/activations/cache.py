"""The cache folder: who uses which entry, how large all is, and what goes when it is full.

<root>/cache.lock              short lock for registration and eviction
<root>/tokens/<key>/           packed rows (`saescope.text.token_rows`)
<root>/activations/<key>/      key.json, used (touched on use), users/<id>.lock, shard-00000.{bin,json,lock}
"""

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from saescope.activations.errors import CacheError
from saescope.activations.key import ActivationKey
from saescope.files import write_json

log = logging.getLogger(__name__)

TOKENS_KEPT_S = 86_400.0
"""Token rows carry no user locks; those used within a day stay."""


def open_cache(setting: str, cap_gb: float) -> "ActivationCache | None":
    """The cache that `runtime.cache` asks for; None for `off`.

    `auto` is $SAESCOPE_CACHE, or the platform's cache folder (~/.cache/saescope on Linux); anything else is a
    folder. Raises CacheError when it cannot be written.
    """
    if setting == "off":
        return None
    if setting == "auto":
        import platformdirs

        named = os.environ.get("SAESCOPE_CACHE")
        root = Path(named).expanduser() if named else platformdirs.user_cache_path("saescope")
    else:
        root = Path(setting).expanduser()
    return ActivationCache(root.resolve(), cap_gb)


class ActivationCache:
    """A cache folder with a size cap, shared by any number of processes."""

    def __init__(self, root: Path, cap_gb: float) -> None:
        """Raises CacheError when the folder cannot be made or written."""
        self.root = root
        self.cap_bytes = int(cap_gb * 1e9)
        self._users: dict[str, tuple[FileLock, int]] = {}
        try:
            self.tokens_folder.mkdir(parents=True, exist_ok=True)
            self._entries_folder.mkdir(exist_ok=True)
            with self.locked():
                pass
        except OSError as error:
            raise CacheError(
                f"cannot write to the cache folder {root}: {error.strerror or error}; "
                "set runtime.cache=FOLDER, or runtime.cache=off"
            ) from error

    @property
    def tokens_folder(self) -> Path:
        """Where `token_rows` keeps its rows."""
        return self.root / "tokens"

    @property
    def _entries_folder(self) -> Path:
        return self.root / "activations"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody registers or evicts meanwhile; held for moments only."""
        with FileLock(self.root / "cache.lock"):
            yield

    def enter(self, key: ActivationKey) -> Path:
        """Register as a user of `key`; its folder. Until `leave` nobody evicts it."""
        entry = self._entries_folder / key.digest
        with self.locked():
            if key.digest in self._users:
                lock, count = self._users[key.digest]
                self._users[key.digest] = (lock, count + 1)
            else:
                (entry / "users").mkdir(parents=True, exist_ok=True)
                if not (entry / "key.json").is_file():
                    write_json(entry / "key.json", key.as_dict())
                # the lock goes with the process, however that ends
                lock = FileLock(entry / "users" / f"{uuid.uuid4().hex}.lock", thread_local=False)
                lock.acquire()
                self._users[key.digest] = (lock, 1)
            self.touch(entry)
        return entry

    def leave(self, key: ActivationKey) -> None:
        """Undo one `enter`."""
        lock, count = self._users[key.digest]
        if count > 1:
            self._users[key.digest] = (lock, count - 1)
            return
        del self._users[key.digest]
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)

    def touch(self, entry: Path) -> None:
        """Note the time of use."""
        with contextlib.suppress(OSError):
            (entry / "used").touch()

    def size(self) -> int:
        """Bytes of all files."""
        return _size(self.root)

    def make_room(self, wanted: int) -> bool:
        """Evict the entries used longest ago until `wanted` bytes fit under the cap; whether they do.

        Entries in use by a living process stay. Call with `locked`.
        """
        free = self.cap_bytes - self.size() - wanted
        if free >= 0:
            return True
        candidates = [(_used(e), e) for e in self._entries_folder.iterdir() if e.is_dir()]
        old = time.time() - TOKENS_KEPT_S
        candidates += [(t, e) for e in self.tokens_folder.iterdir() if e.is_dir() and (t := _used(e)) < old]
        idle = [e for _, e in sorted(candidates) if e.name not in self._users and not _has_users(e)]
        sizes = [_size(entry) for entry in idle]
        if free + sum(sizes) < 0:  # in vain
            return False
        for entry, size in zip(idle, sizes, strict=True):
            # the index files first: an entry half deleted must not look whole
            for index in entry.glob("*.json"):
                index.unlink(missing_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
            log.info("cache: %.2f GB of %s evicted, used longest ago", size / 1e9, entry.name)
            free += size
            if free >= 0:
                break
        return True


def _has_users(entry: Path) -> bool:
    """Whether a living process holds one of the entry's user locks."""
    for path in (entry / "users").glob("*.lock"):
        try:
            with FileLock(path, timeout=0):
                pass
        except (Timeout, OSError):
            return True
        path.unlink(missing_ok=True)  # its process died without saying goodbye
    return False


def _used(entry: Path) -> float:
    try:
        return (entry / "used").stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                total += os.stat(os.path.join(where, name)).st_size
    return total
