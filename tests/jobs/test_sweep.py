"""What follows the last job of a sweep, on folders at any depth."""

import html
import json
import logging
import shutil

import pandas as pd
import pytest
import wandb

from saescope.config import TrackingConfig
from saescope.errors import ReportError
from saescope.jobs.sweep import finish_sweep, rebuild
from saescope.report.sweep import write_page
from saescope.report.sweep.write import untracked_of
from tests.overlap.test_write_overlap import half_shared
from tests.report.sweep_folders import write_failed, write_job

DISABLED = TrackingConfig("disabled")


def test_jobs_are_found_at_any_depth_also_for_the_overlap(tmp_path):
    for at, folder in enumerate(half_shared(tmp_path / "made")):
        shutil.copytree(folder, tmp_path / "sweep" / f"seed{at}" / "deep" / "0")
    write_failed(tmp_path / "sweep" / "failed", "no room", ["sae.k=9"])
    summary = finish_sweep(tmp_path / "sweep", DISABLED, "group")
    names = ["failed", "seed0/deep/0", "seed1/deep/0"]
    assert list(pd.read_csv(tmp_path / "sweep" / "sweep.csv")["job"]) == names
    assert summary.failed == ("job failed (sae.k=9): no room",)
    overlap = pd.read_csv(tmp_path / "sweep" / "overlap.csv")
    assert overlap[["job_a", "job_b"]].to_numpy().tolist() == [names[1:]]
    assert overlap["shared_a"].tolist() == [0.5]


def test_a_sweep_without_jobs_writes_nothing(tmp_path):
    assert finish_sweep(tmp_path, DISABLED, "group") is None
    assert not list(tmp_path.iterdir())


def test_what_goes_wrong_afterwards_is_a_warning(tmp_path, caplog):
    write_job(tmp_path / "0")
    (tmp_path / "sweep.html").mkdir()  # stands where the page belongs
    with caplog.at_level(logging.WARNING):
        assert finish_sweep(tmp_path, DISABLED, "group") is None
    assert "table and page of the sweep" in caplog.text
    assert (tmp_path / "overlap.csv").is_file()


def test_rebuilding_names_a_folder_without_jobs(tmp_path):
    for overlap in (False, True):
        with pytest.raises(ReportError, match="no job in"):
            rebuild([tmp_path], tmp_path / "out", overlap=overlap)
    assert not (tmp_path / "out").exists()


def test_jobs_without_a_result_are_counted(tmp_path):
    write_job(tmp_path / "0")
    write_failed(tmp_path / "1", "no room", ["sae.k=9"])
    assert finish_sweep(tmp_path, DISABLED, "group", planned=5) is not None

    def check():
        summary = json.loads((tmp_path / "sweep.json").read_text())
        rows = pd.read_csv(tmp_path / "sweep.csv")
        assert summary["planned"] == 5
        assert summary["jobs"] == len(rows) == 2
        assert sum(record["count"] for record in summary["left_out"]) == 5 - (rows["state"] == "ok").sum()
        page = html.unescape((tmp_path / "sweep.html").read_text())
        assert "What was left out: 4 jobs" in page
        assert all(record["why"] in page for record in summary["left_out"])

    check()
    rebuild([tmp_path], tmp_path, overlap=False)  # saescope-report still knows how many there were
    check()


def test_what_wandb_does_not_take_of_a_sweep_is_counted(tmp_path, monkeypatch):
    write_job(tmp_path / "0")

    def records():
        summary = json.loads((tmp_path / "sweep.json").read_text())["left_out"]
        page = html.unescape((tmp_path / "sweep.html").read_text())
        assert all(record["why"] in page for record in summary)
        return [record["count"] for record in summary if record["what"] == "wandb"]

    with monkeypatch.context() as broken:
        broken.setattr(wandb, "Html", lambda *values, **more: 1 / 0)
        assert finish_sweep(tmp_path, TrackingConfig("offline"), "group") is not None
        assert records() == [1]
    rebuild([tmp_path], tmp_path, overlap=False)
    assert records() == [1]
    assert finish_sweep(tmp_path, TrackingConfig("offline"), "group") is not None
    wandb.teardown()
    assert records() == []


def test_what_wandb_refuses_changes_the_page_alone_and_once(tmp_path, monkeypatch):
    """The table and the differences stay the files that W&B was given; the same text is not written again."""
    for at, k in enumerate((16, 32)):
        write_job(tmp_path / str(at), k=k)
    names = ("sweep.csv", "sweep.parquet", "differences.csv", "sweep.html", "sweep.json")

    def files():
        return {name: (tmp_path / name).stat().st_ino for name in names}

    given = []

    def refuse(*values, **more):
        given.append(files())
        raise ValueError("too large")

    with monkeypatch.context() as broken:
        broken.setattr(wandb, "Html", refuse)
        summary = finish_sweep(tmp_path, TrackingConfig("offline"), "group")
    wandb.teardown()
    assert {name for name, number in files().items() if given[0][name] != number} == {
        "sweep.html",
        "sweep.json",
    }
    before, records = files(), untracked_of(tmp_path)
    assert [record.count for record in records] == [1]
    write_page(summary.compared, None, records)
    assert files() == before
    write_page(summary.compared, None, [])
    assert {name for name, number in files().items() if before[name] != number} == {
        "sweep.html",
        "sweep.json",
    }
