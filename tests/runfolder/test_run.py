"""One run folder read: strict for a finished run, lenient for any folder of a sweep."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saescope.errors import ReportError
from saescope.runfolder.names import CONFIG, HISTOGRAMS, METRICS, PROVENANCE, STATUS, TRACKING
from saescope.runfolder.run import open_run, read_run
from saescope.runfolder.status import SCHEMA, write_status
from tests.report.report_folder import TASKS, metrics, write_run
from tests.report.sweep_folders import write_failed, write_job

PARTS = [METRICS, STATUS, CONFIG, PROVENANCE, TRACKING, HISTOGRAMS]


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path / "run", k=16)


def test_a_finished_run(folder):
    run = open_run(str(folder))
    assert (run.state, run.error, run.damaged, run.missing) == ("ok", "", (), ())
    assert set(run.metrics) == set(metrics())
    assert run.metrics["dynk/k_at_ppl_1pct"] is None
    assert isinstance(run.metrics["features/supported"], int)
    assert run.tasks == TASKS
    assert run.section("sae")["k"] == 16
    assert run.resolved("model")["num_layers"] == 6
    assert (run.section("no such"), run.resolved("no such")) == ({}, {})
    assert run.overrides[0] == "sae.k=16"
    assert run.identity.endswith("-False-train-resid")
    assert run.reused_from is None
    assert run.si_fdr == 0.05


def test_tables_are_frames_and_columns_are_arrays(folder):
    run = open_run(folder)
    assert run.tables == ("features", "edges", "examples", "resamples")
    assert len(run.features) == 300
    assert run.features is run.features  # read once
    assert run.table("features") is not run.table("features")
    columns = run.columns("features", ["si", "top_task", "degree"])
    assert list(columns) == ["si", "top_task", "degree"]
    np.testing.assert_array_equal(columns["si"], run.features["si"].to_numpy())
    assert columns["top_task"][299] is None
    assert columns["degree"].dtype == np.int64
    assert set(run.edges.columns) == {"source", "target", "joint", "pmi", "p"}
    assert run.examples["task"].isin(TASKS).all()


def test_tables_are_read_when_they_are_used(folder):
    (folder / "features.parquet").write_bytes(b"no parquet")
    run = open_run(folder)
    assert run.metrics["si/mean"] > 0
    for use in (lambda: run.features, lambda: run.columns("features", ["si"])):
        with pytest.raises(ReportError, match=r"features\.parquet cannot be read: .*measure again") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_opening_a_run_needs_no_pandas_and_no_pyarrow(folder):
    code = (
        "import sys; from saescope.runfolder.run import open_run; run = open_run(sys.argv[1])\n"
        "run.metrics, run.config, run.tables, run.missing\n"
        "assert not {'pandas', 'pyarrow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("features", "force=true"),
        ("edges", "force=true"),
        ("examples", "force=true"),
        ("history", "sae=train"),
        ("dynamic_k", "dynamic_k=mlp"),
    ],
)
def test_a_missing_table_is_named_with_the_mend(folder, table, words):
    for path in (*folder.glob("*.parquet"), *folder.glob("*.csv")):
        path.unlink()
    run = open_run(folder)
    assert run.tables == ()
    file = re.escape(str(run.file_of(table)))
    with pytest.raises(ReportError, match=f"{file} is missing; .*{words}"):
        getattr(run, table)
    with pytest.raises(ReportError, match="is missing"):
        run.columns(table, ["k"])


def test_unknown_tables_and_lacking_columns_are_named(folder):
    run = open_run(folder)
    with pytest.raises(ReportError, match="no table 'feature'; choose one of features, edges"):
        run.table("feature")
    pq.write_table(pa.table({"source": [0]}), folder / "edges.parquet")
    with pytest.raises(ReportError, match=r"edges\.parquet lacks the columns target, pmi"):
        run.columns("edges", ["source", "target", "pmi"])


def test_csv_tables_as_frame_and_as_text(folder):
    (folder / "dynamic_k.csv").write_text("k,ce_delta,task\n0.5,,all\n1,0.25,\n")
    run = open_run(folder)
    assert run.dynamic_k["ce_delta"].isna().tolist() == [True, False]
    assert run.rows("dynamic_k") == [
        {"k": "0.5", "ce_delta": "", "task": "all"},
        {"k": "1", "ce_delta": "0.25", "task": ""},
    ]
    (folder / "history.csv").write_bytes(b"\xff\xfe\x00bad")
    for use in (lambda: run.history, lambda: run.rows("history")):
        with pytest.raises(ReportError, match=r"history\.csv cannot be read"):
            use()


def test_structure_is_a_list_and_absent_is_empty(folder):
    assert open_run(folder).structure == []
    (folder / "dynamic_k_structure.json").write_text("{ [")
    with pytest.raises(ReportError, match=r"dynamic_k_structure\.json cannot be read: .*; delete it"):
        _ = open_run(folder).structure


def test_no_run_folder(tmp_path):
    for path in (tmp_path / "nowhere", write_run(tmp_path / "run") / "metrics.json"):
        with pytest.raises(ReportError, match="no run folder"):
            open_run(path)
    with pytest.raises(ReportError, match=r"metrics\.json is missing"):
        open_run(tmp_path)


def test_a_failed_run_cannot_be_opened_but_read(tmp_path):
    folder = write_failed(tmp_path / "run", "the SAE\n is missing", ["sae.k=9"])
    with pytest.raises(ReportError, match=r"metrics\.json is missing.*\(this one: the SAE is missing\)"):
        open_run(folder)
    run = read_run(folder)
    assert (run.state, run.error, run.overrides) == ("failed", "the SAE is missing", ("sae.k=9",))
    assert not run.ok
    assert run.section("sae")["k"] == 64  # Hydra's record of the config


def test_a_running_or_killed_run_says_so(tmp_path):
    run = read_run(write_failed(tmp_path / "run", "", ["sae.k=9"], state="running"))
    assert (run.state, run.error) == ("unfinished", "did not finish: still running, or killed")


def test_a_folder_with_hydras_record_alone(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- sae.k=3\n- seed=1\n")
    run = read_run(tmp_path)
    assert (run.state, run.error) == ("unfinished", "status.json is missing or empty")
    assert run.overrides == ("sae.k=3", "seed=1")


def test_overrides_are_those_of_the_job_that_measured(folder):
    """Hydra records the overrides of a command before saescope can refuse it."""
    (folder / ".hydra" / "overrides.yaml").write_text("- sae.k=999\n")
    assert open_run(folder).overrides[0] == "sae.k=16"


def test_a_newer_version_is_refused_and_read_as_unfinished(folder):
    write_status(folder, "ok")
    assert open_run(folder).ok
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"schema": SCHEMA + 1}))
    with pytest.raises(ReportError, match="read it with the saescope that wrote it or a newer one"):
        open_run(folder)
    run = read_run(folder)
    assert run.state == "unfinished"
    assert f"schema {SCHEMA + 1}" in run.error


@pytest.mark.parametrize("content", [b"{ [", b"\xff\xfe\x00", b"[1]", b"3", b'"text"', b"[" * 100_000])
@pytest.mark.parametrize("name", PARTS)
def test_a_damaged_file_is_named_when_opened_and_never_ends_a_sweep(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ReportError, match=re.escape(f"{folder / name} cannot be read")) as caught:
        open_run(folder)
    assert "\n" not in str(caught.value)
    assert ("delete it" in str(caught.value)) == (name != METRICS)
    run = read_run(folder)
    assert run.damaged[0].startswith(f"{name} cannot be read")
    assert run.ok == (name not in (METRICS, STATUS))
    assert bool(run.error) == (not run.ok)
    assert run.ok or run.error == run.damaged[0]
    if name == CONFIG:
        assert run.section("sae")["k"] == 16  # Hydra's record stands in


@pytest.mark.parametrize("name", [*PARTS[1:], "features.parquet", "examples.parquet"])
def test_only_the_metrics_must_be_there(folder, name):
    (folder / name).unlink()
    run = open_run(folder)
    assert run.metrics["si/mean"] > 0
    assert run.missing == (() if name == PROVENANCE else (name,))


def test_strange_values_are_no_numbers(folder):
    (folder / METRICS).write_text(
        '{"a": NaN, "b": Infinity, "c": "1", "d": true, "e": [1], "f": 2, "g": 2.5}'
    )
    assert open_run(folder).metrics == {
        "a": None,
        "b": None,
        "c": None,
        "d": None,
        "e": None,
        "f": 2,
        "g": 2.5,
    }
    (folder / STATUS).write_text(
        '{"state": "ok", "notes": [1], "warnings": "x", "overrides": 3, "reused_from": 1}'
    )
    run = open_run(folder)
    assert (run.notes, run.warnings, run.reused_from) == ({}, [], None)
    assert run.overrides[0] == "sae.k=16"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(folder):
    (folder / CONFIG).chmod(0)
    assert "Permission denied" in read_run(folder).damaged[0]


def test_a_whole_number_beyond_any_float_is_no_metric(folder):
    (folder / METRICS).write_text(json.dumps(metrics() | {"si/mean": 10**400}))
    assert open_run(folder).metrics["si/mean"] is None


@pytest.mark.parametrize("column", ["si", "community", "rate_code"])
def test_text_where_numbers_belong_is_named(folder, column):
    table = pq.read_table(folder / "features.parquet")
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, pa.array(["x"] * len(table))), folder / "features.parquet")
    run = open_run(folder)
    for use in (lambda: run.features, lambda: run.columns("features", [column])):
        with pytest.raises(ReportError, match=f"column {column} holds string where numbers belong"):
            use()
