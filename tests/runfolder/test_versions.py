"""Result files of other versions: read, or refused in words."""

import json

import pytest

from saescope.errors import ReportError
from saescope.files import read_json, write_json
from saescope.runfolder.identity import INDEX, find_finished, remember
from saescope.runfolder.run import read_run
from saescope.runfolder.status import SCHEMA, unreadable, write_status

RUN_ID = "0123456789ab"


@pytest.mark.parametrize("schema", [SCHEMA + 1, 999, 0, -1, "1", "two", 1.5, True, None, [1]])
def test_unknown_schemas_are_refused_in_words(schema):
    why = unreadable({"schema": schema, "state": "ok"})
    assert why
    assert f"schema {schema!r}" in why
    assert f"reads 1 to {SCHEMA}" in why


@pytest.mark.parametrize("status", [{}, {"state": "ok"}, *({"schema": n} for n in range(1, SCHEMA + 1))])
def test_this_version_reads_its_own_schema_and_older_ones(status):
    assert unreadable(status) is None


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


def test_reports_refuse_a_newer_version(tmp_path):
    folder = finished(tmp_path / "run")
    assert read_run(folder).metrics == {"si/mean": 0.5}
    finished(tmp_path / "run", schema=SCHEMA + 1)
    with pytest.raises(ReportError, match="read it with the saescope that wrote it or a newer one"):
        read_run(folder)


@pytest.mark.parametrize("content", ["", "[]", "3", '{"run_dir": 3}', "{}", '{"run_dir": "/no/such/place"}'])
def test_a_damaged_index_finds_nothing(content):
    INDEX.mkdir(parents=True)
    (INDEX / f"{RUN_ID}.json").write_text(content)
    assert find_finished(RUN_ID) is None


def test_the_schema_is_written(tmp_path):
    write_status(tmp_path, "failed", error="why")
    assert json.loads((tmp_path / "status.json").read_text()) == {
        "schema": SCHEMA,
        "state": "failed",
        "error": "why",
    }
