"""Our reader of W&B's log agrees with W&B's own."""

import json
import subprocess
import sys
from pathlib import Path

import wandb

from saescope.config import TrackingConfig
from saescope.tracking.wandb_run import tracked
from tests.support.wandb_log import load, logs


def start(tmp_path: Path, **config):
    return tracked(
        TrackingConfig("offline", tags=("t",)),
        run_dir=tmp_path,
        group="g",
        job_type="measure",
        notes="n",
        config=config,
        data_dir=tmp_path,
    )


def test_reader_agrees_with_leet(tmp_path):
    with start(tmp_path, sae={"k": 3}) as tracker:
        tracker.summary({"a/b": 1.5, "c": 2})
        tracker.histograms({"si": {"edges": [0.0, 0.5, 1.0], "counts": [3, 4]}})
    wandb.teardown()
    (path,) = logs(tmp_path)
    ours = load(path)
    out = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    theirs = json.loads(out[out.index("{") :])
    assert theirs["summary"]["a/b"] == ours["summary"]["a/b"] == 1.5
    assert theirs["run_id"] == ours["run"]["id"]
    assert ours["config"]["sae"] == {"k": 3}
    assert (ours["run"]["group"], ours["run"]["tags"], ours["run"]["notes"]) == ("g", ["t"], "n")
    assert theirs["exit_code"] == ours["exit_code"] == 0


def test_a_failing_job_marks_only_its_own_run(tmp_path):
    for name in ("bad", "good"):
        try:
            with start(tmp_path / name):
                if name == "bad":
                    raise ValueError("no")
        except ValueError:
            pass
    wandb.teardown()
    codes = {path.parts[-4]: load(path)["exit_code"] for path in logs(tmp_path)}
    assert codes == {"bad": 1, "good": 0}


def test_what_wandb_refuses_is_a_warning(tmp_path, caplog):
    with start(tmp_path) as tracker:
        tracker.artifact("x", "table", [tmp_path / "missing.parquet"], {})
        tracker.summary({"still": 1})
    assert tracker.lost
    assert "the local files have it" in caplog.text
    wandb.teardown()
    assert load(logs(tmp_path)[0])["summary"]["still"] == 1
