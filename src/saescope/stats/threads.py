"""numpy on several cores: its loops over arrays hold no lock, so threads share out independent pieces."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 8
"""Threads at most: every one holds its own temporaries."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def num_threads() -> int:
    """OMP_NUM_THREADS, which launchers set for jobs side by side, or the cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        found = int(asked)
    else:  # macOS has no affinity
        found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, MOST)


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
    """``[work(piece) for piece in pieces]``, in that order."""
    pieces = list(pieces)
    threads = min(num_threads(), len(pieces))
    if threads < 2:
        return [work(piece) for piece in pieces]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, pieces))
