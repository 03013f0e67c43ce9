"""numpy on several cores: its loops over arrays hold no lock, so threads share out independent pieces."""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

MAX_THREADS = 8
"""Threads at most: every one holds its own temporaries."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def num_threads() -> int:
    """OMP_NUM_THREADS, which launchers set for jobs side by side, or the cores this process may use."""
    omp_threads = os.environ.get("OMP_NUM_THREADS", "")
    if omp_threads.isdigit() and int(omp_threads) > 0:
        threads = int(omp_threads)
    else:  # macOS has no affinity
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(threads, MAX_THREADS)


def in_threads(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], max_threads: int | None = None
) -> list[Result]:
    """`[work(piece) for piece in pieces]`, in that order; `max_threads` threads at most."""
    pieces = list(pieces)
    threads = min(num_threads(), len(pieces), max_threads or MAX_THREADS)
    if threads < 2:
        return [work(piece) for piece in pieces]
    # matrix products would start as many threads again in every one of these
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, pieces))


@functools.cache
def _libraries() -> ThreadpoolController:
    """Searched for once: that takes milliseconds, and products come by the hundred."""
    return ThreadpoolController()
