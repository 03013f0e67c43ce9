"""Kills while a finished result goes to W&B: afterwards exactly one run holds it."""

from pathlib import Path

import pytest

from saescope.files import read_json
from tests.faults.killed_at import Moment
from tests.faults.test_faults import check_whole
from tests.faults.test_kills_of_files import RUN, times_measured
from tests.faults.test_shared_work import finish, killed, left_by_the_dead
from tests.support.wandb_log import load, logs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

OFFLINE = [*RUN, "tracking=offline"]
REUSED = {
    "link": Moment("os.link", r"features\.parquet"),
    "linked": Moment("os.rename", r"again/status\.json"),
    "before its run": Moment("os.rename", r"again/tracking\.json"),
    "W&B starts": Moment("subprocess.Popen", "wandb-core"),
    "table": Moment("shutil.move", r"media/table"),
    "page": Moment("open", r"wandb/.*/html/"),
    "remembered": Moment("os.rename", r"again/tracking\.json", 2),
    "remembered at its source": Moment("os.rename", r"run/tracking\.json"),
    "upload script": Moment("os.rename", r"again/sync\.sh"),
}
MEASURED = {
    "page": Moment("open", r"wandb/.*/html/"),
    "remembered": Moment("os.rename", r"run/tracking\.json", 4),
    "upload script": Moment("os.rename", r"run/sync\.sh"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished result that W&B has never seen."""
    folder = tmp_path_factory.mktemp("finished")
    finish(folder, *RUN, "hydra.run.dir=run")
    return folder


def check_one_run(run: Path, group: str | None = None) -> None:
    """W&B holds the metrics of the result once, whole, and nothing else of this group."""
    contents = [load(path) for path in logs(run)]
    mine = [content for content in contents if "run" in content and content["run"]["group"] == (group or "")]
    assert len(mine) == len(contents) == 1
    wanted = {key: value for key, value in read_json(run / "metrics.json").items() if value is not None}
    assert {key: mine[0]["summary"].get(key) for key in wanted} == wanted
    assert mine[0]["exit_code"] == 0
    tracking = read_json(run / "tracking.json")
    assert tracking["id"] == tracking["runs"][-1]["id"] == mine[0]["run"]["id"]
    assert "logging" not in tracking
    assert Path(tracking["log"]).name in (run / "sync.sh").read_text()


@pytest.mark.parametrize("where", REUSED)
def test_killed_while_a_reused_result_is_tracked(finished, where):
    group = where.replace(" ", "-").replace("&", "")
    command = [*OFFLINE, f"tracking.group={group}", f"hydra.run.dir={group}/again"]
    killed(finished, *command, moment=REUSED[where])
    finish(finished, *command)
    finish(finished, *command)
    check_whole(finished / group)
    check_one_run(finished / group / "again", group)
    assert not left_by_the_dead(finished / group)
    assert times_measured(finished / "run") == 1


@pytest.mark.parametrize("where", MEASURED)
def test_killed_while_a_result_just_measured_is_tracked(finished, tmp_path, where):
    command = [*OFFLINE, f"runtime.cache={finished / 'cache'}", "hydra.run.dir=run"]
    killed(tmp_path, *command, moment=MEASURED[where])
    finish(tmp_path, *command)
    finish(tmp_path, *command)
    check_one_run(tmp_path / "run")
    assert not left_by_the_dead(tmp_path)
    assert times_measured(tmp_path / "run") == 1
