"""What a training says while it runs: `history.csv`, the tracker's curves, progress with time left."""

import csv
import logging
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from saescope.tracking.wandb_run import Tracker

log = logging.getLogger(__name__)

COLUMNS = ("step", "tokens_seen", "loss", "fvu", "auxk", "multi_topk_fvu", "l0", "dead_frac", "lr", "k")
CURVES = ("loss", "fvu", "auxk", "l0", "dead_frac", "lr")
SAID_EVERY_S = 30.0


class TrainingLog:
    """One per training; a resumed training continues the same file."""

    def __init__(self, path: Path, steps: int, tracker: Tracker, points: int = 500) -> None:
        """`points`: rows written at most, evenly spaced over `steps`."""
        self.path, self.steps, self.tracker = path, steps, tracker
        self.every = max(1, steps // points)
        self.started = self.said = time.monotonic()
        self.first: int | None = None

    def __enter__(self) -> "TrainingLog":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.bar = tqdm(
            total=self.steps, desc="train", unit="step", disable=not sys.stderr.isatty(), leave=False
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def step(self, metrics: dict[str, float]) -> None:
        """Take up the metrics of one step."""
        step = int(metrics["step"])
        if self.first is None:
            self.first = step
            self._keep_before(step)
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix(fvu=f"{metrics['fvu']:.4f}", refresh=False)
        if step % self.every == 0 or step == self.steps:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([metrics[column] for column in COLUMNS])
            self.tracker.curves({f"train/{key}": metrics[key] for key in CURVES}, int(metrics["tokens_seen"]))
        now = time.monotonic()
        if self.bar.disable and now - self.said > SAID_EVERY_S:
            self.said = now
            rate = (step - self.first + 1) / (now - self.started)
            left = (self.steps - step) / rate
            log.info("train: step %d of %d, FVU %.4f, %.0f s left", step, self.steps, metrics["fvu"], left)

    def _keep_before(self, step: int) -> None:
        """A resumed training repeats the steps after its checkpoint; their old rows go."""
        rows: list[list[str]] = []
        if self.path.is_file() and step > 1:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if _step_of(row) < step and len(row) == len(COLUMNS)]
        with self.path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *(row for row in rows if row[0] != "step")])


def _step_of(row: list[Any]) -> int:
    return int(row[0]) if row and row[0].isdigit() else 0
