"""Progress of a long step with rate and time left: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import threading
import time
from contextlib import ExitStack
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

LOG_EVERY_S = 30.0
"""Seconds between log lines …"""
FIRST_LOG_S = 5.0
"""… and before the first, so that nothing waits longer in silence."""


def about(seconds: float) -> str:
    """A duration in two digits at most: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"


class Meter:
    """Counts units towards `total`; `start` of them were done by an earlier run. Silent when `quiet`."""

    def __init__(self, name: str, total: int, unit: str, *, start: int = 0, quiet: bool = False) -> None:
        self.name, self.total, self.unit, self.start, self.quiet = name, total, unit, start, quiet
        self.done = start
        self.started = time.monotonic()
        self.next_log = self.started + FIRST_LOG_S
        no_bar = quiet or not sys.stderr.isatty()
        self.bar = tqdm(
            total=total, initial=start, desc=name, unit=unit, unit_scale=True, disable=no_bar, leave=False
        )
        self.above = ExitStack()
        streams = [getattr(handler, "stream", None) for handler in logging.root.handlers]
        if not no_bar and (sys.stdout in streams or sys.stderr in streams):
            self.above.enter_context(logging_redirect_tqdm())  # log lines go above the bar

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more; `note` is shown behind the rate."""
        self.done += amount
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(amount)
        now = time.monotonic()
        under_way = self.start < self.done < self.total
        if self.bar.disable and not self.quiet and now > self.next_log and under_way:
            self.next_log = now + LOG_EVERY_S
            rate = (self.done - self.start) / (now - self.started)
            left = (self.total - self.done) / rate
            parts = [
                f"{self.name}: {self.done} of {self.total} {self.unit}",
                f"{rate:.3g} {self.unit}/s" if rate < 100 else f"{rate:.0f} {self.unit}/s",
                f"{about(left)} left",
            ]
            log.info("%s", ", ".join(parts + [note] * bool(note)))

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()
        self.above.close()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Steps:
    """Meters of the steps of one piece of work, which follow each other; may be called from any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meter: Meter | None = None
        self.lock = threading.Lock()

    def __call__(self, step: str, done: int, total: int) -> None:
        """`done` of `total` things that `step` names are done; a step starts with its first call."""
        with self.lock:
            if self.meter is None or self.meter.unit != step:
                self._close()
                self.meter = Meter(self.name, total, step)
            if done > self.meter.done:  # threads may arrive in another order
                self.meter.advance(done - self.meter.done)

    def _close(self) -> None:
        if self.meter is not None:
            self.meter.close()
            self.meter = None

    def __enter__(self) -> "Steps":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
