"""Freed memory stays with the process for its next batch, where the C library is glibc."""

import ctypes
import sys

MIB = 2**20
RETAINED_MIB = 768
"""Freed memory a process keeps at most."""
LARGEST_MIB = 288
"""A larger block goes back to the system when it is freed, as all above 32 MiB do by default."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory(retained_mib: int = RETAINED_MIB, largest_mib: int = LARGEST_MIB) -> bool:
    """Set the two limits of this process's allocator (mallopt(3)); returns whether it has taken them.

    Every batch frees and allocates the same tens of MiB. By default they go back to the system in between,
    and each page comes again by a page fault: 7 % of a forward pass and of a training step on 2 cores.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    # each returns 1 where the value was taken
    return bool(mallopt(_MMAP_THRESHOLD, largest_mib * MIB) and mallopt(_TRIM_THRESHOLD, retained_mib * MIB))
