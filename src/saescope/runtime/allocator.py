"""Freed memory is kept for the next batch, where the C library is glibc."""

import ctypes
import sys

MIB = 2**20
KEPT_MIB = 768
"""Freed memory a process holds on to at most."""
LARGEST_MIB = 288
"""A larger block goes back to the system when it is freed, as all above 32 MiB do by default."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory(kept_mib: int = KEPT_MIB, largest_mib: int = LARGEST_MIB) -> bool:
    """Whether the allocator of this process takes the two limits (mallopt(3)).

    Every batch frees and allocates the same tens of MiB. By default they go back to the system in between,
    and each page comes again by a page fault: 7 % of a forward pass and of a training step on 2 cores.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    # each returns 1 where the value was taken
    return bool(mallopt(_MMAP_THRESHOLD, largest_mib * MIB) and mallopt(_TRIM_THRESHOLD, kept_mib * MIB))
