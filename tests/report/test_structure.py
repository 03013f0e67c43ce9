"""The tables of structure and savings on the page of a run."""

import json

import pytest

from saescope.errors import ReportError
from saescope.report.page import write_report
from saescope.report.structure import structure
from saescope.runfolder.run import read_run

TABLE = {
    "title": "Masks <of> tasks",
    "sentences": ["One.", "Two."],
    "columns": ["mask", "code", "draws"],
    "rows": [["code mask", -0.0123, 19], ["qa mask", None, 4]],
}


def test_tables_are_on_the_page_as_written(run):
    assert "Structure and savings" not in write_report(run).read_text()
    (run / "dynamic_k_structure.json").write_text(json.dumps([TABLE]))
    (found,) = structure(read_run(run))
    assert found.rows == (("code mask", "−0.0123", "19"), ("qa mask", "—", "4"))
    page = write_report(run).read_text()
    assert "Structure and savings" in page
    assert "Masks &lt;of&gt; tasks" in page
    assert "One. Two." in page
    assert '<td class="num">−0.0123</td>' in page


def test_a_broken_file_is_one_line(run):
    (run / "dynamic_k_structure.json").write_text('[{"title": "x"}]')
    with pytest.raises(ReportError, match=r"dynamic_k_structure\.json cannot be read"):
        structure(read_run(run))
