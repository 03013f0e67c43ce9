import json
from pathlib import Path

import pytest

import saescope
from saescope.report import write_report
from saescope.report.sweep import write_sweep
from tests.report.report_folder import write_run
from tests.report.sweep_folders import write_six


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report; read only."""
    run = write_run(tmp_path_factory.mktemp("finished") / "run")
    write_report(run)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small run folder without a report, to be changed."""
    return write_run(tmp_path / "run", latents=400, supported=90)


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> saescope.Run:
    """A run of the embedded model with its pages; read only."""
    from tests.report.test_latents_page import SMALL  # not above: pytest has yet to rewrite its assertions

    return saescope.run(*SMALL, folder=tmp_path_factory.mktemp("browser") / "run")


@pytest.fixture(scope="session")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of six jobs, expansion factor by k, the last one failed; five have pages. Read only."""
    folder = write_six(tmp_path_factory.mktemp("browser") / "sweep")
    for at in range(5):
        write_report(folder / str(at))
    matrix = {"names": ["0", "1", "2"], "shared": [[None, 1.0, 0.3], [0.9, None, 0.0], [0.15, 0.02, None]]}
    table = {"title": "Overlap of SAEs", "sentences": ["Some."], "columns": ["SAE A"], "rows": [["0"]]}
    (folder / "overlap.json").write_text(json.dumps([table | {"matrix": matrix}]))
    write_sweep([folder], folder)
    return folder / "sweep.html"
