"""How far a long step is, rate and time left: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)

SAID_EVERY_S = 30.0


class Meter:
    """Counts towards `total`; `start` is what an earlier run had already done. Silent when `quiet`."""

    def __init__(self, name: str, total: int, unit: str, *, start: int = 0, quiet: bool = False) -> None:
        self.name, self.total, self.unit, self.start, self.quiet = name, total, unit, start, quiet
        self.done = start
        self.began = self.said = time.monotonic()
        no_bar = quiet or not sys.stderr.isatty()
        self.bar = tqdm(
            total=total, initial=start, desc=name, unit=unit, unit_scale=True, disable=no_bar, leave=False
        )

    def advance(self, amount: int, note: str = "") -> None:
        """`amount` more is done; `note` stands behind the rate."""
        self.done += amount
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(amount)
        now = time.monotonic()
        if self.bar.disable and not self.quiet and now - self.said > SAID_EVERY_S:
            self.said = now
            rate = (self.done - self.start) / (now - self.began)
            left = (self.total - self.done) / rate
            parts = [
                f"{self.name}: {self.done} of {self.total} {self.unit}",
                f"{rate:.3g} {self.unit}/s" if rate < 100 else f"{rate:.0f} {self.unit}/s",
                f"{left:.0f} s left",
            ]
            log.info("%s", ", ".join(parts + [note] * bool(note)))

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
