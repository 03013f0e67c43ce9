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
CLOCK_S = 1.0
"""Seconds between looks at the clock while nothing advances."""
UNCOUNTED_BAR = "{desc}: {elapsed}"
_open: list["Meter"] = []
"""Meters at work, the innermost last."""


def about(seconds: float) -> str:
    """A duration in two digits at most: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"


class Meter:
    """Counts units towards `total`; `start` of them were done by an earlier run. Silent when `quiet`.

    A thread keeps the clock of the bar going, and writes the log lines, while one unit takes long.
    """

    def __init__(self, name: str, total: int, unit: str, *, start: int = 0, quiet: bool = False) -> None:
        self.name, self.total, self.unit, self.start, self.quiet = name, total, unit, start, quiet
        self.done = start
        self.note = ""
        self.started = time.monotonic()
        self.next_log = self.started + FIRST_LOG_S
        no_bar = quiet or not sys.stderr.isatty()
        # without a total the bar waits, so that what takes no time does not flicker
        self.bar = tqdm(
            total=total or None,
            initial=start,
            desc=name,
            unit=unit,
            unit_scale=True,
            disable=no_bar,
            leave=False,
            delay=0 if total else CLOCK_S / 2,
            bar_format=None if total else UNCOUNTED_BAR,
        )
        self.above = ExitStack()
        streams = [getattr(handler, "stream", None) for handler in logging.root.handlers]
        if not no_bar and (sys.stdout in streams or sys.stderr in streams):
            self.above.enter_context(logging_redirect_tqdm())  # log lines go above the bar
        self.writing = threading.Lock()
        self.closed = threading.Event()
        if not quiet:
            _open.append(self)
            threading.Thread(target=self._keep_time, name=f"clock of {name}", daemon=True).start()

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more; `note` is shown behind the rate."""
        self.done += amount
        self.note = note
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(amount)
        self._log_when_due()

    def _keep_time(self) -> None:
        while not self.closed.wait(CLOCK_S):
            if not self.total and _open[-1:] != [self]:
                continue  # a step within it speaks
            self._log_when_due()
            with self.writing:
                if not self.closed.is_set():
                    self.bar.refresh()

    def _log_when_due(self) -> None:
        if self.quiet or not self.bar.disable:
            return
        with self.writing:
            now = time.monotonic()
            if now <= self.next_log or self.closed.is_set() or (self.total and self.done >= self.total):
                return
            self.next_log = now + LOG_EVERY_S
            log.info("%s", self._line(now - self.started))

    def _line(self, seconds: float) -> str:
        if not self.total:
            return f"{self.name}: {about(seconds)} so far"
        text = f"{self.name}: {self.done} of {self.total} {self.unit}"
        if self.done == self.start:
            return f"{text}, {about(seconds)} so far"
        rate = (self.done - self.start) / seconds
        left = (self.total - self.done) / rate
        speed = f"{rate:.3g}" if rate < 100 else f"{rate:.0f}"
        parts = [text, f"{speed} {self.unit}/s", f"{about(left)} left", self.note]
        return ", ".join(part for part in parts if part)

    def close(self) -> None:
        """Remove the bar."""
        if self in _open:
            _open.remove(self)
        with self.writing:
            self.closed.set()
            self.bar.close()
            self.above.close()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def phase(name: str) -> Meter:
    """A step in which nothing can be counted: the time it has taken so far."""
    return Meter(name, 0, "")


class Steps:
    """Meters of the steps of one piece of work, which follow each other; may be called from any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meter: Meter | None = None
        self.lock = threading.Lock()

    def __call__(self, step: str, done: int, total: int) -> None:
        """`done` of `total` things that `step` names are done; a step starts with 0, and may come again."""
        with self.lock:
            if self.meter is None or self.meter.unit != step or done == 0:
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
