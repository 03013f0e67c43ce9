"""The log of a training that was interrupted: file and W&B have the whole curves."""

import csv

import wandb

from saescope.config import TrackingConfig
from saescope.tracking.wandb_run import tracked
from saescope.training.log import COLUMNS, TrainingLog
from tests.support.wandb_log import load, logs


def train(folder, steps):
    with (
        tracked(
            TrackingConfig("offline"), run_dir=folder, group=None, job_type="measure", notes="", config={},
            data_dir=folder,
        ) as tracker,
        TrainingLog(folder.parent / "history.csv", 8, tracker) as log,
    ):  # fmt: skip
        for step in steps:
            log.step(dict.fromkeys(COLUMNS, 0.5) | {"step": step, "tokens_seen": step * 100, "fvu": 1 / step})
    assert not tracker.lost
    wandb.teardown()
    (path,) = logs(folder)
    return [(row["tokens_seen"], row["train/fvu"]) for row in load(path)["history"] if "train/fvu" in row]


def test_a_continued_training_has_the_whole_curves(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    assert len(train(tmp_path / "first", range(1, 6))) == 5
    points = train(tmp_path / "second", range(4, 9))
    assert points == [(step * 100, 1 / step) for step in range(1, 9)]
    with (tmp_path / "history.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 9))
