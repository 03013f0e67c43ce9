"""Results written and read back; every file whole or not at all."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from saescope.analysis.resamples import OfSome, Resamples
from saescope.runfolder.run import open_run
from saescope.runfolder.status import write_status
from saescope.runfolder.write import Results, write_beside, write_results, write_tracking

CONFIG = {"sae": {"k": 4, "repo": None}, "seed": 0, "corpus": {"name": "Ünïcode"}}
TRACKING = {"mode": "disabled", "id": None}


def results(**changed):
    start = Results(
        metrics={"si/mean": 0.25, "q/z": None, "q/n_edges": 2, "task/code/tokens": 7, "task/a/b/tokens": 9},
        notes={"q/z": "no edge"},
        warnings=["read at k=4"],
        features=pd.DataFrame({"latent": [0, 1], "si": [0.5, None], "top_task": ["code", None]}),
        edges=pd.DataFrame({"source": [0], "target": [1], "pmi": [0.1]}),
        examples=pd.DataFrame({"latent": [0], "token": [" é\n"]}),
        histograms={"si": {"edges": [0.0, 0.5, 1.0], "counts": [1, 1]}},
        provenance={"model": {"name": "tiny"}},
        matched={"si": 0.2, "q": []},
    )
    return dataclasses.replace(start, **changed)


def write(folder, **changed):
    write_results(folder, results(**changed), config=CONFIG, tracking=TRACKING)


def test_what_is_written_is_read(tmp_path):
    written = results()
    write(tmp_path)
    write_status(tmp_path, "ok", identity="abc", notes=written.notes, warnings=written.warnings)
    run = open_run(tmp_path)
    assert run.ok
    assert (run.metrics, run.notes, run.warnings) == (written.metrics, written.notes, written.warnings)
    assert (run.config, run.tracking, run.provenance) == (CONFIG, TRACKING, written.provenance)
    assert run.histograms == written.histograms
    assert run.matched == written.matched
    assert run.tasks == ["code", "a/b"]
    assert run.tables == ("features", "edges", "examples")
    for name in run.tables:
        pd.testing.assert_frame_equal(run.table(name), getattr(written, name), check_dtype=False)
    assert run.features.top_task.isna().tolist() == [False, True]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8")) == CONFIG


def test_resamples_are_a_table(tmp_path):
    table = Resamples({"si/mean": np.array([0.1, 0.2])}, {"sae/fvu": np.array([0.5])}).table()
    write(tmp_path, resamples=table)
    run = open_run(tmp_path)
    assert "resamples" in run.tables
    assert run.resamples.scheme.tolist() == ["bootstrap", "bootstrap", "groups"]
    assert run.resamples.draw.tolist() == [0, 1, 0]
    assert run.resamples["si/mean"].dropna().tolist() == [0.1, 0.2]
    assert run.resamples["sae/fvu"].dropna().tolist() == [0.5]
    some = OfSome({"causal/ratio": np.array([2.0, 3.0])}, "abc", 7)
    more = Resamples({"si/mean": np.array([0.1])}, of_some=some).table()
    assert more.scheme.tolist() == ["bootstrap", "causal", "causal"]
    assert more["causal/ratio"].dropna().tolist() == [2.0, 3.0]
    assert more.documents.dropna().unique().tolist() == ["abc"]
    assert more.num_documents.dropna().unique().tolist() == [7]
    write_beside(tmp_path, ["Beside random SAE: Q is 0.1 above."])
    assert open_run(tmp_path).beside == ["Beside random SAE: Q is 0.1 above."]
    write(tmp_path)
    assert "resamples" not in open_run(tmp_path).tables
    assert open_run(tmp_path).beside == []
    assert Resamples().table().empty


def test_tables_of_an_earlier_run_do_not_stay(tmp_path):
    within = pd.DataFrame({"source": [0], "target": [1], "pmi": [0.2]})
    write(
        tmp_path,
        tables={"dynamic_k": pd.DataFrame({"k": [0.5]})},
        structure=[{"title": "t"}],
        edges_within_token=within,
    )
    run = open_run(tmp_path)
    assert run.tables == ("features", "edges", "edges_within_token", "examples", "dynamic_k")
    pd.testing.assert_frame_equal(run.edges_within_token, within)
    assert run.dynamic_k.k.tolist() == [0.5]
    assert run.structure == [{"title": "t"}]
    write(tmp_path)
    again = open_run(tmp_path)
    assert again.tables == ("features", "edges", "examples")
    assert again.structure == []
    assert run.dynamic_k.k.tolist() == [0.5]  # a table that was read is kept


def test_the_status_is_left_to_the_caller(tmp_path):
    write(tmp_path)
    assert not (tmp_path / "status.json").exists()
    assert open_run(tmp_path).state == "unfinished"


def test_a_failure_leaves_every_file_as_it_was(tmp_path, monkeypatch):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, metrics={"si/mean": 0.9})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nan_is_refused_before_the_metrics_are_replaced(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, metrics={"si/mean": float("nan")})
    assert json.loads((tmp_path / "metrics.json").read_text())["si/mean"] == 0.25
    assert not list(tmp_path.glob(".*"))


def test_tracking_alone_can_be_written_anew(tmp_path):
    write(tmp_path)
    write_tracking(tmp_path, {"mode": "online", "id": "x"})
    assert open_run(tmp_path).tracking == {"mode": "online", "id": "x"}
