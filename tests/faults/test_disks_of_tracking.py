"""A disk that becomes full or read-only while a result goes to W&B: afterwards exactly one run holds it."""

import pytest

from tests.faults.disks import disk, filled_at, remounted
from tests.faults.killed_at import Job, refused_in_one_line
from tests.faults.test_faults import check_whole
from tests.faults.test_kills_of_files import RUN, times_measured
from tests.faults.test_kills_of_tracking import MEASURED, OFFLINE, REUSED, check_one_run
from tests.faults.test_shared_work import finish, killed, left_by_the_dead

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SIZE = "size=20m"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished result that W&B has never seen."""
    folder = tmp_path_factory.mktemp("finished")
    finish(folder, *RUN, "hydra.run.dir=run")
    return folder


def goes_on_after_a_full_disk(folder, place, command, moment):
    job, filler = filled_at(folder, place, command, moment)
    code = job.ended()
    assert "Traceback" not in job.said()
    if code:
        assert "No space left" in job.said()
    check_whole(place)
    filler.unlink()
    finish(folder, *command)


@pytest.mark.parametrize("where", ["link", "table", "page", "remembered"])
def test_the_disk_becomes_full_while_wandb_gets_a_reused_result(finished, where):
    group = f"full-{where}"
    with disk(finished / group, SIZE) as place:
        command = [*OFFLINE, f"tracking.group={group}", f"hydra.run.dir={group}/again"]
        goes_on_after_a_full_disk(finished, place, command, REUSED[where])
        check_one_run(place / "again", group)
        assert not left_by_the_dead(place)
        assert times_measured(finished / "run") == 1


@pytest.mark.parametrize("where", MEASURED)
def test_the_disk_becomes_full_while_wandb_gets_a_result_just_measured(finished, tmp_path, where):
    with disk(tmp_path / "small", SIZE) as place:
        command = [*OFFLINE, f"runtime.cache={finished / 'cache'}", "hydra.run.dir=small/run"]
        goes_on_after_a_full_disk(tmp_path, place, command, MEASURED[where])
        check_one_run(place / "run")
        assert times_measured(place / "run") == 1


@pytest.mark.parametrize("where", ["table", "remembered"])
def test_the_disk_becomes_read_only_while_wandb_gets_a_reused_result(finished, where):
    group = f"fixed-{where}"
    with disk(finished / group, SIZE) as place:
        command = [*OFFLINE, f"tracking.group={group}", f"hydra.run.dir={group}/again"]
        killed(finished, *command, moment=REUSED[where])
        remounted(place, "ro")
        job = Job(finished, command)
        if job.ended():
            refused_in_one_line(job, "ead-only")
        assert "Traceback" not in job.said()
        remounted(place, "rw")
        finish(finished, *command)
        check_one_run(place / "again", group)
