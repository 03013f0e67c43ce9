"""The notebook of the docs runs from the first cell to the last."""

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def test_it_is_a_notebook_with_words_and_code():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert notebook["nbformat"] == 4
    assert kinds.count("code") >= 8
    assert kinds.count("markdown") >= 6


@pytest.mark.docs
def test_every_cell_runs(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert names["low"] < names["job"].metrics["si/mutual_info"] - names["other"].metrics["si/mutual_info"]
