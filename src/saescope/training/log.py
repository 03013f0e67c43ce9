"""Output of a running training: `history.csv`, the tracker's curves, progress with time left."""

import csv
import io
from pathlib import Path
from types import TracebackType
from typing import Any

from saescope.files import write_text
from saescope.runtime.meter import Meter, phase
from saescope.tracking.wandb_run import Tracker

COLUMNS = ("step", "tokens_seen", "loss", "fvu", "auxk", "multi_topk_fvu", "l0", "dead_frac", "lr", "k")


class TrainingLog:
    """Curves and progress of one training; a resumed training continues the same file."""

    def __init__(
        self, path: Path, steps: int, tracker: Tracker, points: int = 500, *, quiet: bool = False
    ) -> None:
        """`points`: rows written at most, evenly spaced over `steps`; `quiet`: no progress."""
        self.path, self.steps, self.tracker, self.quiet = path, steps, tracker, quiet
        self.every = max(1, steps // points)
        self.meter: Meter | None = None
        self.first_step: Meter | None = None

    def __enter__(self) -> "TrainingLog":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.first_step = None if self.quiet else phase("start the training")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for meter in (self.first_step, self.meter):
            if meter is not None:
                meter.close()

    def step(self, metrics: dict[str, float]) -> None:
        """Record the metrics of one step."""
        step = int(metrics["step"])
        if self.meter is None:
            if self.first_step is not None:
                self.first_step.close()
            self.meter = Meter("train", self.steps, "steps", start=step - 1, quiet=self.quiet)
            if earlier := self._drop_rows_from(step):
                self.tracker.training([dict(zip(COLUMNS, row, strict=True)) for row in earlier])
        if step % self.every == 0 or step == self.steps:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([metrics[column] for column in COLUMNS])
            self.tracker.training([metrics])
        self.meter.advance(step - self.meter.done, f"FVU {metrics['fvu']:.4f}")

    def _drop_rows_from(self, step: int) -> list[list[str]]:
        """Drop old rows from `step` on: a resumed training repeats the steps after its checkpoint.

        Returns the rows before it.
        """
        rows: list[list[str]] = []
        if self.path.is_file() and step > 1:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if _step_of(row) < step and len(row) == len(COLUMNS)]
        text = io.StringIO(newline="")
        rows = [row for row in rows if row[0] != "step"]
        csv.writer(text).writerows([COLUMNS, *rows])
        write_text(self.path, text.getvalue())
        return rows


def _step_of(row: list[Any]) -> int:
    return int(row[0]) if row and row[0].isdigit() else 0
