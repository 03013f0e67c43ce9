"""`status.json`, and result files of other versions."""

import json

import numpy as np
import pytest

from saescope.runfolder.partial import read_partial, save_partial
from saescope.runfolder.status import SCHEMA, status_of, unreadable, write_failed, write_running, write_status


@pytest.mark.parametrize("schema", [SCHEMA + 1, 999, 0, -1, "1", "two", 1.5, True, None, [1]])
def test_unknown_schemas_are_refused_in_words(schema):
    why = unreadable({"schema": schema, "state": "ok"})
    assert why
    assert f"schema {schema!r}" in why
    assert f"reads 1 to {SCHEMA}" in why


@pytest.mark.parametrize("status", [{}, {"state": "ok"}, *({"schema": n} for n in range(1, SCHEMA + 1))])
def test_this_version_reads_its_own_schema_and_older_ones(status):
    assert unreadable(status) is None


def test_the_schema_is_written(tmp_path):
    write_status(tmp_path, "failed", error="why")
    assert json.loads((tmp_path / "status.json").read_text()) == {
        "schema": SCHEMA,
        "state": "failed",
        "error": "why",
    }


@pytest.mark.parametrize("content", [None, "", "[]", "{ broken", "3"])
def test_no_status_is_an_empty_one(tmp_path, content):
    if content is not None:
        (tmp_path / "status.json").write_text(content)
    assert status_of(tmp_path) == {}


def test_sums_left_halfway_are_those_of_the_same_job_alone(tmp_path):
    """Same settings on an SAE that was edited meanwhile are another job, with another identity."""
    save_partial(tmp_path, "sets", "x", {"sums": np.arange(3)})  # by a version that did not say whose
    write_running(tmp_path, "first")
    assert read_partial(tmp_path, "sets", "x") is None
    save_partial(tmp_path, "sets", "x", {"sums": np.arange(3)})
    write_failed(tmp_path, "why")
    write_running(tmp_path, "first")
    assert read_partial(tmp_path, "sets", "x") is not None
    write_failed(tmp_path, "why")
    write_running(tmp_path, "second")
    assert read_partial(tmp_path, "sets", "x") is None
