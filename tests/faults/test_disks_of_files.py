"""A disk that becomes full or read-only: one line, and with room the same command goes on.

In the causal ablation, while the files of a run or of a sweep are written, when an SAE is trained; and where
only the cache is on that disk.
"""

import pandas as pd
import pytest

from saescope.files import read_json
from tests.faults.disks import disk, fill, filled_at, remounted
from tests.faults.killed_at import Job, Moment, refused_in_one_line
from tests.faults.test_faults import check_whole
from tests.faults.test_kills_of_ablation import ABLATED
from tests.faults.test_kills_of_files import RUN, everything, times_measured, undisturbed
from tests.faults.test_kills_of_sweeps import SWEEP
from tests.faults.test_shared_work import SHARD, TRAINED, finish, killed, left_by_the_dead

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SIZE = "size=20m"
PLACES = {
    "ablation": (ABLATED, Moment("os.rename", "partial-sets", 2), 2),
    "trained SAE": (TRAINED, Moment("tempfile.mkdtemp", r"run/sae/"), 1),
    "data": (RUN, Moment("os.rename", r"latents\.npz"), 2),
    "page of latents": (RUN, Moment("open", r"\.features\.html"), 1),
    "report": (RUN, Moment("open", r"\.report\.html"), 1),
}
"""Where the disk changes, and how often the job is measured in all."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory, cache):
    """What the undisturbed command of a place finds."""
    results: dict[str, dict] = {}

    def result(words: list[str]) -> dict:
        if str(words) not in results:
            results[str(words)] = undisturbed(tmp_path_factory, cache, "undisturbed", *words)
        return results[str(words)]

    return result


@pytest.mark.parametrize("where", PLACES)
def test_the_disk_becomes_full(expected, cache, tmp_path, where):
    """On the disk that is still full the command ends before it measures anything."""
    words, moment, measured = PLACES[where]
    with disk(tmp_path / "small", SIZE) as place:
        command = [*words, cache, "hydra.run.dir=small/run"]
        job, filler = filled_at(tmp_path, place, command, moment)
        refused_in_one_line(job, "No space left")
        check_whole(tmp_path)
        again = Job(tmp_path, command)
        refused_in_one_line(again, "No space left")
        assert "probes: " not in again.said()
        filler.unlink()
        finish(tmp_path, *command)
        assert everything(place / "run") == expected(words)
        assert times_measured(place / "run") == measured
        assert not left_by_the_dead(tmp_path)


@pytest.mark.parametrize("where", PLACES)
def test_the_disk_becomes_read_only(expected, cache, tmp_path, where):
    words, moment, measured = PLACES[where]
    with disk(tmp_path / "small", SIZE) as place:
        command = [*words, cache, "hydra.run.dir=small/run"]
        killed(tmp_path, *command, moment=moment)
        remounted(place, "ro")
        refused_in_one_line(Job(tmp_path, command), "ead-only")
        remounted(place, "rw")
        finish(tmp_path, *command)
        assert everything(place / "run") == expected(words)
        assert times_measured(place / "run") == measured
        assert not left_by_the_dead(tmp_path)


@pytest.mark.parametrize("where", [r"\.differences\.csv", r"\.sweep\.csv", r"\.sweep\.html"])
def test_the_disk_becomes_full_while_the_files_of_a_sweep_are_written(cache, tmp_path, where):
    """Its jobs are whole: they say so, and the same command writes table and page alone."""
    with disk(tmp_path / "small", SIZE) as place:
        command = [*SWEEP, cache, "hydra.sweep.dir=small/sweep"]
        job, filler = filled_at(tmp_path, place, command, Moment("open", where))
        assert job.ended() in (0, 1), job.said()
        assert "Traceback" not in job.said()
        assert "No space left" in job.said()
        check_whole(tmp_path)
        sweep = place / "sweep"
        assert [read_json(sweep / number / "status.json")["state"] for number in "01"] == ["ok", "ok"]
        filler.unlink()
        finish(tmp_path, *command)
        check_whole(tmp_path)
        assert [times_measured(sweep / number) for number in "01"] == [1, 1]
        assert len(pd.read_csv(sweep / "sweep.csv")) == 2
        assert (sweep / "sweep.html").is_file()
        assert not left_by_the_dead(tmp_path)
        assert not (sweep / ".outcomes").exists()


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        (RUN, None),
        (RUN, Moment("os.truncate", SHARD, 2)),
        (RUN, Moment("os.truncate", "losses-")),
        (TRAINED, Moment("os.rename", r"train\.i32")),
        (TRAINED, Moment("os.rename", r"checkpoint\.pt")),
    ],
    ids=["at the start", "activations", "losses", "tokens", "training"],
)
def test_the_disk_of_the_cache_becomes_full(expected, tmp_path, words, moment):
    """The run folder has room: what cannot be stored is computed, or one line says what to do."""
    command = [*words, "runtime.cache=small/cache", "hydra.run.dir=run"]
    with disk(tmp_path / "small", SIZE) as place:
        if moment is None:
            filler, job = fill(place), Job(tmp_path, command)
        else:
            job, filler = filled_at(tmp_path, place, command, moment)
        if job.ended():
            refused_in_one_line(job, "No space left")
            filler.unlink()
            finish(tmp_path, *command)
        assert "Traceback" not in job.said()
        check_whole(tmp_path)
        wanted = expected(words)["metrics"]
        metrics = everything(tmp_path / "run")["metrics"]
        # what is not stored is computed in other batches, which changes last bits
        assert {key: value for key, value in metrics.items() if value is not None} == pytest.approx(
            {key: value for key, value in wanted.items() if value is not None}, rel=1e-6, abs=1e-9
        )
