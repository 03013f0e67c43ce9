"""Passes step metrics from spawned processes to the process that started them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.multiprocessing as mp

from saescope.training.callbacks import OnStep


@contextmanager
def relayed(on_step: OnStep | None) -> Iterator[OnStep | None]:
    """A stand-in for `on_step` to call in spawned processes; `on_step` itself runs in a thread here.

    An exception in `on_step` is raised when the block ends.
    """
    if on_step is None:
        yield None
        return
    queue: Any = mp.get_context("spawn").SimpleQueue()
    failed: list[BaseException] = []

    def drain() -> None:
        while (metrics := queue.get()) is not None:
            try:
                if not failed:
                    on_step(metrics)
            except BaseException as error:
                failed.append(error)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        yield QueueSender(queue)
    finally:
        queue.put(None)
        reader.join()
    if failed:
        raise failed[0]


class QueueSender:
    """Puts step metrics into the queue; can be pickled into a spawned process, `queue.put` itself cannot."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __call__(self, metrics: dict[str, float]) -> None:
        """Put one step's `metrics` into the queue."""
        self.queue.put(metrics)
