"""A sweep folder read: every run folder in or below, whatever became of it."""

import json

import numpy as np
import pandas as pd
import pytest

from saescope.errors import ReportError
from saescope.report.sweep import write_sweep
from saescope.runfolder.identity import link_result
from saescope.runfolder.status import SCHEMA, write_status
from saescope.runfolder.sweep import find_runs, job_name, open_sweep
from tests.report.report_folder import metrics
from tests.report.sweep_folders import write_failed, write_job, write_six


def test_runs_of_every_outcome(tmp_path):
    write_job(tmp_path / "0", k=16)
    write_failed(tmp_path / "1", "no such model", ["model=x"])
    write_failed(tmp_path / "2", "", ["sae.k=9"], state="running")
    link_result(tmp_path / "0", tmp_path / "3", ["sae.k=16", "seed=0"])
    newer = write_job(tmp_path / "4", k=32)
    status = json.loads((newer / "status.json").read_text())
    (newer / "status.json").write_text(json.dumps(status | {"schema": SCHEMA + 1}))
    sweep = open_sweep(tmp_path)
    assert [run.state for run in sweep.runs] == ["ok", "failed", "unfinished", "ok", "unfinished"]
    table = sweep.metrics
    assert list(table.columns) == ["job", "state", "error", "overrides", *metrics()]
    assert list(table["job"]) == ["0", "1", "2", "3", "4"]
    assert table["error"][1] == "no such model"
    assert "schema" in table["error"][4]
    assert table["overrides"][3] == "sae.k=16 seed=0"
    assert sweep.runs[3].reused_from == tmp_path / "0"
    assert table["si/mean"].notna().tolist() == [True, False, False, True, False]
    assert table["si/mean"][0] == table["si/mean"][3] == sweep.runs[0].metrics["si/mean"]
    assert (table.dtypes[4:] == np.float64).all()


def test_runs_at_any_depth_in_natural_order(tmp_path):
    for name in ("a/10", "a/9", "b/c/0", "11/x"):
        write_failed(tmp_path / name, "why", [])
    write_failed(tmp_path / "a/9/inner", "a run folder holds no run folders", [])
    for name in ("wandb", "artifacts", ".hidden"):
        write_failed(tmp_path / name / "0", "no run folder", [])
    write_failed(tmp_path / "sae" / "figures", "only a run folder has folders of these names for itself", [])
    sweep = open_sweep([str(tmp_path)])
    assert sweep.names == ("11/x", "a/9", "a/10", "b/c/0", "sae/figures")
    assert find_runs([tmp_path / "a" / "9"]) == [tmp_path / "a" / "9"]


def test_a_run_counts_once_however_it_is_reached(tmp_path):
    write_failed(tmp_path / "sweep" / "0", "why", [])
    write_failed(tmp_path / "elsewhere", "why", [])
    (tmp_path / "sweep" / "1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sweep" / "again").symlink_to(tmp_path / "sweep" / "0")
    (tmp_path / "sweep" / "loop").symlink_to(tmp_path / "sweep")
    runs = find_runs([tmp_path / "sweep", tmp_path / "sweep" / "0", tmp_path / "sweep"])
    assert sorted(runs) == [tmp_path / "elsewhere", tmp_path / "sweep" / "0"]
    assert job_name(tmp_path / "elsewhere", tmp_path / "sweep") == "../elsewhere"


def test_several_folders_are_named_from_above(tmp_path):
    for name in ("first/0", "first/1", "second/0"):
        write_failed(tmp_path / name, "why", [])
    sweep = open_sweep([tmp_path / "first", tmp_path / "second"])
    assert sweep.names == ("first/0", "first/1", "second/0")


def test_a_refused_single_job_counts_only_where_it_is_named(tmp_path):
    write_failed(tmp_path / "0", "why", [])
    write_status(tmp_path / "1", "failed", error="mistyped", refused=True)
    assert open_sweep(tmp_path).names == ("0",)
    assert open_sweep([tmp_path, tmp_path / "1"]).names == ("0", "1")
    write_status(tmp_path / "1", "running")
    assert open_sweep(tmp_path).names == ("0", "1")


def test_nothing_to_read_is_one_line(tmp_path):
    assert find_runs([tmp_path]) == []
    for path, words in ((tmp_path, "no job in"), (tmp_path / "nowhere", "no folder")):
        with pytest.raises(ReportError, match=words) as caught:
            open_sweep(path)
        assert "\n" not in str(caught.value)


def test_only_failed_runs_have_no_metrics(tmp_path):
    write_failed(tmp_path / "0", "why", [])
    assert list(open_sweep(tmp_path).metrics.columns) == ["job", "state", "error", "overrides"]


def test_tables_of_the_whole(tmp_path):
    folder = write_six(tmp_path / "sweep")
    assert open_sweep(folder).table is None
    assert open_sweep(folder).overlap is None
    write_sweep([folder], folder)
    (folder / "overlap.csv").write_text("job_a,job_b,shared_a\n0,1,0.5\n")
    sweep = open_sweep(folder)
    assert list(sweep.table["state"]) == ["ok"] * 5 + ["failed"]
    assert sweep.table is sweep.table
    pd.testing.assert_series_equal(sweep.table["si/mean"], sweep.metrics["si/mean"])
    assert sweep.overlap["shared_a"].tolist() == [0.5]
    (folder / "overlap.csv").write_text("")  # no pair was compared
    assert open_sweep(folder).overlap is None
    (folder / "overlap.csv").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ReportError, match=r"overlap\.csv cannot be read"):
        _ = open_sweep(folder).overlap
