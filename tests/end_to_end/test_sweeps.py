"""Sweeps as users run them: launchers, a killed sweep, a failing job. Own processes, real training."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from saescope.files import read_json
from tests.support.wandb_log import load, logs

pytestmark = pytest.mark.slow

SMALL = [
    "sae=train",
    "sae.tokens=40000",
    "metrics=quick",
    "metrics.lm_tokens=600",
    "probes.max_tokens_per_task=4000",
    "corpus.holdout_tokens=2048",
]


@pytest.fixture
def sweep(tmp_path):
    """Runs `saescope -m …` in a folder of its own; returns the started process."""

    def start(*args: str, tracking: str = "disabled") -> subprocess.Popen:
        environment = {**os.environ, "SAESCOPE_CACHE": str(tmp_path / "cache"), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "saescope", "-m", *SMALL, f"tracking={tracking}", *args]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return start


def states(folder: Path) -> dict[str, str]:
    return {p.parent.name: (read_json(p) or {}).get("state") for p in sorted(folder.glob("*/status.json"))}


@pytest.mark.parametrize("launcher", [["parallel", "hydra.launcher.n_jobs=2"], ["slurm_local"]])
def test_jobs_side_by_side_are_distinct_runs_and_fill_the_cache_once(sweep, tmp_path, launcher):
    name, *more = launcher
    job = sweep(f"hydra/launcher={name}", *more, "sae.k=4,8", "hydra.sweep.dir=out", tracking="offline")
    said, _ = job.communicate(timeout=280)
    assert job.returncode == 0, said[-2000:]
    folders = [tmp_path / "out" / n for n in ("0", "1")]
    assert [yaml.safe_load((f / "config.yaml").read_text())["sae"]["k"] for f in folders] == [4, 8]
    for number, folder in enumerate(folders, 1):
        first = (folder / "saescope.log").read_text().splitlines()[0]
        assert f"job {number} of 2: " in first
        assert "left" not in first
    runs = [load(logs(folder)[0]) for folder in folders]
    assert len({run["run"]["id"] for run in runs}) == 2
    assert len({run["run"]["group"] for run in runs}) == 1
    keys = list((tmp_path / "cache" / "activations").glob("*/"))
    texts = [(f / "saescope.log").read_text() for f in folders]
    filled = sum(text.count("shards written") for text in texts)
    assert filled == len(keys) == 3, (filled, keys)  # training text, held-out text and probes, once each


def test_a_failing_job_leaves_a_row_and_the_others_go_on(sweep, tmp_path):
    job = sweep("sae.k=4,4000,8", "hydra.sweep.dir=out", tracking="offline")
    said, _ = job.communicate(timeout=280)
    assert job.returncode == 1
    assert states(tmp_path / "out") == {"0": "ok", "1": "failed", "2": "ok"}
    assert "job 1" in said
    assert "sae.k=4000" in said
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert list(table["state"]) == ["ok", "failed", "ok"]
    assert "4000" in table["error"][1]
    assert (tmp_path / "out" / "sweep.html").is_file()
    metrics = read_json(tmp_path / "out" / "0" / "metrics.json")
    assert {key for key in table.columns if "/" in key} == set(metrics)
    codes = {
        f.parent.parent.parent.name: load(f)["exit_code"]
        for f in logs(tmp_path / "out")
        if f.parent.parent.parent.name in "012"
    }
    assert codes == {"0": 0, "1": 1, "2": 0}


@pytest.mark.parametrize("launcher", [["parallel", "hydra.launcher.n_jobs=2"], ["slurm_local"]])
def test_jobs_in_other_processes_are_refused_and_fail_by_name(sweep, tmp_path, launcher):
    assert sweep("sae.k=4,8", "hydra.sweep.dir=out").wait(timeout=280) == 0
    before = [(tmp_path / "out" / n / ".hydra" / "overrides.yaml").read_bytes() for n in "01"]
    name, *more = launcher
    job = sweep(f"hydra/launcher={name}", *more, "sae.k=8,16,4000", "hydra.sweep.dir=out")
    said, _ = job.communicate(timeout=280)
    assert job.returncode == 1, said[-2000:]
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert table["job"].tolist() == ["0", "1", "2", "0 (refused)", "1 (refused)"]
    assert table["state"].tolist() == ["ok", "ok", "failed", "failed", "failed"]
    assert table["sae.k"].tolist() == [4, 8, 4000, 8, 16]
    assert [(tmp_path / "out" / n / ".hydra" / "overrides.yaml").read_bytes() for n in "01"] == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_ends_with_its_table(sweep, tmp_path, number, code):
    job = sweep("sae.k=4,8,16", "hydra.sweep.dir=out", tracking="offline")
    log, deadline = tmp_path / "out" / "1" / "saescope.log", time.monotonic() + 200
    while not (log.is_file() and "training: " in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(number)
    said, _ = job.communicate(timeout=100)
    assert job.returncode == code, said[-2000:]
    assert "interrupted; the same command goes on" in said
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert table["job"].tolist() == [0, 1]
    assert table["state"].tolist() == ["ok", "unfinished"]
    assert (tmp_path / "out" / "sweep.html").is_file()
    assert "upload 0/" in (tmp_path / "out" / "sync.sh").read_text()
    again = sweep("sae.k=4,8,16", "hydra.sweep.dir=out")
    said, _ = again.communicate(timeout=280)
    assert again.returncode == 0, said[-2000:]
    assert said.count("had a finished result") == 1
    assert pd.read_csv(tmp_path / "out" / "sweep.csv")["state"].tolist() == ["ok", "ok", "ok"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_cancels_the_jobs_it_has_submitted(sweep, tmp_path, number, code):
    job = sweep("hydra/launcher=slurm_local", "sae.k=4,8", "sae.tokens=4000000", "hydra.sweep.dir=out")
    logs_of_jobs, deadline = tmp_path / "out", time.monotonic() + 120
    while time.monotonic() < deadline:
        texts = [path.read_text() for path in logs_of_jobs.glob("*/saescope.log")]
        if len(texts) == 2 and all("training: " in text for text in texts):
            break
        time.sleep(0.05)
    assert "job 2 of 2: " in (tmp_path / "out" / "1" / "saescope.log").read_text()
    job.send_signal(number)
    said, _ = job.communicate(timeout=100)
    assert job.returncode == code, said[-2000:]
    assert "interrupted; 2 running or queued jobs cancelled; the same command goes on" in said, said[-2000:]
    assert pd.read_csv(tmp_path / "out" / "sweep.csv")["state"].tolist() == ["unfinished"] * 2
    assert not (tmp_path / "out" / ".outcomes").exists()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in running


def test_a_killed_sweep_continues_with_the_same_command(sweep, tmp_path):
    axes = ["sae.k=4,6,8,10"]
    job = sweep(*axes, "hydra.sweep.dir=first")
    last = tmp_path / "first" / "3" / "status.json"
    deadline = time.monotonic() + 250
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert states(tmp_path / "first") == {"0": "ok", "1": "ok", "2": "ok", "3": "running"}
    job = sweep(*axes, "hydra.sweep.dir=second")
    said, _ = job.communicate(timeout=200)
    assert job.returncode == 0, said[-2000:]
    assert said.count("had a finished result") == 3
    assert set(states(tmp_path / "second").values()) == {"ok"}
    same = [(tmp_path / name / "1" / "metrics.json").read_bytes() for name in ("first", "second")]
    assert same[0] == same[1]
