"""Kills while the files of a sweep are written: no job is measured again, table and page become whole."""

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


def test_killed_while_the_files_of_a_sweep_are_written(cache, tmp_path):
    command, sweep = [*SWEEP, cache, "hydra.sweep.dir=sweep"], tmp_path / "sweep"
    for moment in OF_A_SWEEP:
        killed(tmp_path, *command, moment=moment)
    finish(tmp_path, *command)
    check_whole(tmp_path)
    assert [times_measured(sweep / number) for number in "01"] == [1, 1]
    assert not left_by_the_dead(tmp_path)
    assert not (sweep / ".outcomes").exists()
    other = tmp_path / "undisturbed"
    other.mkdir()
    finish(other, *SWEEP, cache, "hydra.sweep.dir=sweep")
    for number in "01":
        assert everything(sweep / number) == everything(other / "sweep" / number)
    beside = read_json(sweep / "0" / "beside_controls.json")
    assert beside
    assert beside == read_json(other / "sweep" / "0" / "beside_controls.json")
    for text in beside:
        assert text.split(":")[0] in (sweep / "0" / "report.html").read_text()
    assert (sweep / "differences.csv").read_text() == (other / "sweep" / "differences.csv").read_text()


COMPARED = [*TRAINED, "-m", "sae.init_seed=1,2"]
"""Two SAEs whose latents are matched."""
OF_THE_OVERLAP = [
    Moment("open", r"\.overlap\.csv"),
    Moment("os.rename", r"overlap\.csv"),
    Moment("open", r"\.overlap\.json"),
    Moment("os.rename", r"overlap\.json"),
]


def test_killed_while_the_overlap_of_saes_is_written(cache, tmp_path):
    command, sweep = [*COMPARED, cache, "hydra.sweep.dir=sweep"], tmp_path / "sweep"
    for moment in OF_THE_OVERLAP:
        killed(tmp_path, *command, moment=moment)
    finish(tmp_path, *command)
    check_whole(tmp_path)
    assert [times_measured(sweep / number) for number in "01"] == [1, 1]
    assert not left_by_the_dead(tmp_path)
    assert not (sweep / ".outcomes").exists()
    other = tmp_path / "undisturbed"
    other.mkdir()
    finish(other, *COMPARED, cache, "hydra.sweep.dir=sweep")
    assert len(read_json(sweep / OVERLAP_JSON)) >= 3
    for name in (OVERLAP_CSV, OVERLAP_JSON):
        assert (sweep / name).read_text() == (other / "sweep" / name).read_text()
    assert "PW-MCC" in (sweep / "sweep.html").read_text()
