"""Kills while the files of a sweep are written: no job is measured again, table and page become whole."""

from pathlib import Path

import pytest

from saescope.files import read_json
from saescope.runfolder.names import OVERLAP_CSV, OVERLAP_JSON
from tests.faults.killed_at import Moment
from tests.faults.test_faults import check_whole
from tests.faults.test_kills_of_files import everything, times_measured
from tests.faults.test_shared_work import SMALL, TRAINED, finish, killed, left_by_the_dead

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SWEEP = [*SMALL, "-m", "sae=hub,random", "sae.k=16", "hookpoint.layer=3"]
"""A result and its control."""
OF_A_SWEEP = [
    Moment("os.rename", r"sweep/\.matched\.json"),
    Moment("os.rename", r"0/figures/.*svg"),  # its page anew, with its controls
    Moment("os.rename", r"0/report\.html"),
    Moment("os.rename", r"beside_controls\.json"),
    Moment("open", r"\.differences\.csv"),
    Moment("os.rename", r"differences\.csv"),
    Moment("os.rename", r"sweep\.csv"),
    Moment("os.rename", r"sweep\.parquet"),
    Moment("open", r"\.sweep\.html"),
    Moment("os.rename", r"sweep\.html"),
]


def killed_and_undisturbed(folder: Path, *command: str, moments: list[Moment]) -> tuple[Path, Path]:
    """Folders of a sweep of two jobs that was killed at these moments, and of one that was not."""
    command = (*command, "hydra.sweep.dir=sweep")
    for moment in moments:
        killed(folder, *command, moment=moment)
    finish(folder, *command)
    check_whole(folder)
    assert [times_measured(folder / "sweep" / number) for number in "01"] == [1, 1]
    assert not left_by_the_dead(folder)
    assert not (folder / "sweep" / ".outcomes").exists()
    other = folder / "undisturbed"
    other.mkdir()
    finish(other, *command)
    return folder / "sweep", other / "sweep"


def test_killed_while_the_files_of_a_sweep_are_written(cache, tmp_path):
    sweep, other = killed_and_undisturbed(tmp_path, *SWEEP, cache, moments=OF_A_SWEEP)
    for number in "01":
        assert everything(sweep / number) == everything(other / number)
    beside = read_json(sweep / "0" / "beside_controls.json")
    assert beside
    assert beside == read_json(other / "0" / "beside_controls.json")
    for text in beside:
        assert text.split(":")[0] in (sweep / "0" / "report.html").read_text()
    assert (sweep / "differences.csv").read_text() == (other / "differences.csv").read_text()


COMPARED = [*TRAINED, "-m", "sae.init_seed=1,2"]
"""Two SAEs whose latents are matched."""
OF_THE_OVERLAP = [
    Moment("open", r"\.overlap\.csv"),
    Moment("os.rename", r"overlap\.csv"),
    Moment("open", r"\.overlap\.json"),
    Moment("os.rename", r"overlap\.json"),
]


def test_killed_while_the_overlap_of_saes_is_written(cache, tmp_path):
    sweep, other = killed_and_undisturbed(tmp_path, *COMPARED, cache, moments=OF_THE_OVERLAP)
    assert len(read_json(sweep / OVERLAP_JSON)) >= 3
    for name in (OVERLAP_CSV, OVERLAP_JSON):
        assert (sweep / name).read_text() == (other / name).read_text()
    assert "PW-MCC" in (sweep / "sweep.html").read_text()
