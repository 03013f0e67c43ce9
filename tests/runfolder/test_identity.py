"""Finished results found again, and given to another run folder."""

import json
import os

import pytest

from saescope.files import read_json, write_json
from saescope.runfolder import identity
from saescope.runfolder.identity import INDEX, find_finished, link_result, remember
from saescope.runfolder.run import read_run
from saescope.runfolder.status import SCHEMA, write_status
from tests.report.report_folder import write_run

RUN_ID = "0123456789ab"


def finished(folder, **changed):
    write_json(folder / "metrics.json", {"si/mean": 0.5})
    write_status(folder, "ok", identity=RUN_ID)
    write_json(folder / "status.json", {**read_json(folder / "status.json"), **changed})
    remember(RUN_ID, folder)
    return folder


def test_a_result_of_a_newer_version_is_not_used_again(tmp_path, caplog):
    folder = finished(tmp_path / "run")
    assert find_finished(RUN_ID) == folder
    finished(tmp_path / "run", schema=SCHEMA + 1)
    assert find_finished(RUN_ID) is None
    assert "is not used again: status.json has schema" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "3", '{"run_dir": 3}', "{}", '{"run_dir": "/no/such/place"}'])
def test_a_damaged_index_finds_nothing(content):
    INDEX.mkdir(parents=True)
    (INDEX / f"{RUN_ID}.json").write_text(content)
    assert find_finished(RUN_ID) is None


@pytest.mark.parametrize("state", ["running", "failed"])
def test_an_unfinished_result_is_not_used_again(tmp_path, state):
    finished(tmp_path / "run", state=state)
    assert find_finished(RUN_ID) is None


def test_a_result_is_not_used_again_when_it_was_measured_anew_or_lost_its_metrics(tmp_path):
    folder = finished(tmp_path / "run", identity="another")
    assert find_finished(RUN_ID) is None
    finished(folder)
    (folder / "metrics.json").write_text("{ broken")
    assert find_finished(RUN_ID) is None
    (folder / "metrics.json").unlink()
    assert find_finished(RUN_ID) is None


def source(tmp_path):
    folder = write_run(tmp_path / "first", latents=60, supported=20)
    write_status(folder, "ok", identity=RUN_ID, overrides=["sae.k=4"], notes={"q/z": "why"})
    for name in (
        ".hydra/overrides.yaml",
        ".lock",
        "wandb/run-1/log",
        "saescope.log",
        "sae/layers.3/cfg.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"of the first: {name}")
    return folder


def test_a_linked_result_is_whole_and_says_where_it_is_from(tmp_path):
    first, second = source(tmp_path), tmp_path / "second"
    before = (first / "status.json").read_bytes()
    link_result(first, second, ["sae.k=4", "runtime=cpu"])
    old, run = read_run(first), read_run(second)
    assert (run.state, run.metrics, run.notes) == ("ok", old.metrics, {"q/z": "why"})
    assert (run.overrides, run.reused_from) == (("sae.k=4", "runtime=cpu"), first.resolve())
    assert old.reused_from is None
    assert run.features.equals(old.features)
    assert os.path.samefile(first / "features.parquet", second / "features.parquet")
    assert (second / "sae/layers.3/cfg.json").is_file()
    assert {path.name for path in second.iterdir()}.isdisjoint({".hydra", ".lock", "wandb", "saescope.log"})
    assert (first / "status.json").read_bytes() == before


def test_a_linked_result_takes_the_place_of_a_failed_attempt(tmp_path):
    first, second = source(tmp_path), tmp_path / "second"
    write_status(second, "failed", error="no room")
    (second / "metrics.json").write_text('{"si/mean": 99}')
    (second / "saescope.log").write_text("this job's")
    link_result(first, second, [])
    assert read_run(second).ok
    assert read_run(second).metrics == read_run(first).metrics
    assert (second / "saescope.log").read_text() == "this job's"


def test_a_result_linked_halfway_is_none(tmp_path, monkeypatch):
    first, second = source(tmp_path), tmp_path / "second"
    real = os.link

    def killed(old, new):
        if new.name == "tracking.json":
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(identity.os, "link", killed)
    with pytest.raises(KeyboardInterrupt):
        link_result(first, second, [])
    assert (second / "metrics.json").is_file()
    assert read_run(second).state == "unfinished"


def test_results_are_copied_where_links_are_not_possible(tmp_path, monkeypatch):
    first, second = source(tmp_path), tmp_path / "second"

    def refuse(*_):
        raise OSError("other disk")

    monkeypatch.setattr(identity.os, "link", refuse)
    link_result(first, second, [])
    assert read_run(second).ok
    assert not os.path.samefile(first / "metrics.json", second / "metrics.json")
    assert json.loads((second / "metrics.json").read_text()) == json.loads(
        (first / "metrics.json").read_text()
    )


def test_the_folder_itself_goes_before_the_one_its_result_was_taken_from(tmp_path):
    first = source(tmp_path)
    remember(RUN_ID, first)
    again = tmp_path / "again"
    assert find_finished(RUN_ID, again) == first
    link_result(first, again, ["sae.k=4"])
    assert find_finished(RUN_ID, again) == again
    assert find_finished("ba9876543210", again) is None
