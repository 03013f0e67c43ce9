from pathlib import Path

import pytest

from saescope.report import write_report
from tests.report.report_folder import write_run


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
