"""Where a W&B run goes and what it is called: overrides, W&B's own settings, our defaults; refused runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from saescope.config import TrackingConfig
from saescope.tracking.wandb_run import Tracker, tracked
from saescope.tracking.wandb_start import Destination, destination, mode_of
from tests.support.wandb_log import load, logs
from tests.support.wandb_server import wandb_server


@pytest.fixture
def own(monkeypatch):
    """Sets `WANDB_<name>` and starts W&B's session anew."""

    def setting(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        wandb.teardown()

    wandb.teardown()
    yield setting
    wandb.teardown()


def offline_run(folder: Path, cfg: TrackingConfig) -> dict:
    with tracked(
        cfg,
        run_dir=folder,
        group="ours",
        job_type="measure",
        notes="ours",
        config={"seed": 0},
        data_dir=folder,
    ) as tracker:
        tracker.summary({"x": 1})
    wandb.teardown()
    assert not tracker.lost
    return {"mode": tracker.mode, "project": tracker.run.project}


def test_our_defaults(own):
    assert destination(TrackingConfig(), "sweep") == Destination(None, "saescope", "sweep")


def test_wandbs_own_settings_win_over_our_defaults(own, tmp_path):
    own(PROJECT="envproj", ENTITY="team", RUN_GROUP="envgroup", NOTES="why", TAGS="a,b", NAME="mine")
    assert destination(TrackingConfig(), "sweep") == Destination("team", "envproj", "envgroup")
    assert offline_run(tmp_path, TrackingConfig("offline"))["project"] == "envproj"
    (path,) = logs(tmp_path)
    run = load(path)["run"]
    assert (run["group"], run["notes"], run["tags"], run["name"]) == ("envgroup", "why", ["a", "b"], "mine")


def test_wandb_reports_none_of_its_own_errors(own, tmp_path):
    from wandb.analytics.opentelemetry.opentelemetry_proxy import get_open_telemetry_proxy

    own()
    offline_run(tmp_path, TrackingConfig("offline"))
    assert get_open_telemetry_proxy() is None


def test_an_override_wins_over_both(own, tmp_path):
    own(PROJECT="envproj", ENTITY="team", RUN_GROUP="envgroup", TAGS="a,b")
    cfg = TrackingConfig("offline", project="p", entity="e", group="g", tags=("t",))
    assert destination(cfg, "sweep") == Destination("e", "p", "g")
    offline_run(tmp_path, cfg)
    (path,) = logs(tmp_path)
    assert (load(path)["run"]["group"], load(path)["run"]["tags"]) == ("g", ["t"])


@pytest.mark.parametrize(
    ("mode", "expected"), [("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled")]
)
def test_mode(own, mode, expected):
    own(MODE=mode)
    assert mode_of(TrackingConfig()) == expected
    assert mode_of(TrackingConfig("offline")) == "offline"


def test_without_tracking_the_client_is_not_imported():
    code = (
        "import sys; from saescope.config import TrackingConfig\n"
        "from saescope.tracking.wandb_start import mode_of\n"
        "assert mode_of(TrackingConfig('disabled')) == 'disabled'; assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_settings_file(own, monkeypatch, tmp_path):
    """What `wandb disabled` and `wandb init` write."""
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    (tmp_path / "settings").write_text("[default]\nmode = disabled\nproject = fileproj\n")
    own()
    assert mode_of(TrackingConfig()) == "disabled"
    assert destination(TrackingConfig(), None).project == "fileproj"
    own(PROJECT="envproj")
    assert destination(TrackingConfig(), None).project == "envproj"


def test_a_setting_that_wandb_does_not_know_is_a_warning(own, caplog):
    own(MODE="nonsense")
    assert mode_of(TrackingConfig()) in ("offline", "online")
    assert "settings cannot be read" in caplog.text


def test_wandb_dir_holds_the_logs(own, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    own(DIR=str(tmp_path / "elsewhere"))
    (tmp_path / "run").mkdir()
    offline_run(tmp_path / "run", TrackingConfig("offline"))
    assert not logs(tmp_path / "run")
    assert len(logs(tmp_path / "elsewhere")) == 1


CODE = """
import json, logging, sys
from pathlib import Path
from saescope.config import TrackingConfig
from saescope.tracking.wandb_run import Tracker, tracked
logging.basicConfig(level="WARNING", format="%(message)s")
for name in ("one", "two"):
    with tracked(
        TrackingConfig(entity="team"), run_dir=Path(name), group=None, job_type="measure", notes="",
        config={}, data_dir=Path(name),
    ) as tracker:
        tracker.summary({"x": 1})
    print(json.dumps(tracker.info()))
    assert not tracker.lost
"""


@pytest.mark.parametrize(
    ("status", "because"), [(404, "entity team not found"), (403, "permission denied"), (401, "no such key")]
)
def test_a_refused_run_is_tracked_offline(tmp_path, status, because):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with wandb_server(refuses=status, because=because) as server:
        env = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
        out = subprocess.run(
            [sys.executable, "-c", CODE], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200
        )
        assert out.returncode == 0, out.stderr
        assert len(server.of("UpsertBucket")) <= 1, "the second job asks again"
    for line, name in zip(out.stdout.splitlines(), ("one", "two"), strict=True):
        info = json.loads(line)
        assert info["mode"] == "offline"
        assert Path(info["log"]).parents[1] == tmp_path / name
        assert because in info["reason"]
        assert info["sync"] in out.stderr
        (path,) = Path(info["log"]).glob("run-*.wandb")
        assert load(path)["summary"]["x"] == 1
    assert out.stderr.count(because) == out.stderr.count("\n") == 2


@pytest.mark.parametrize("settings", [{}, {"WANDB_MODE": "offline"}])
def test_a_service_that_does_not_start_costs_the_run_alone(tmp_path, settings):
    """In its error path W&B's client waits for a lock that it holds: a job would never end."""
    env = os.environ | {"WANDB__SERVICE_WAIT": "0", **settings}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    code = CODE.replace("assert not tracker.lost", "print(tracker.lost)")
    out = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("W&B run: it could not be started (Failed to read port info") == 2
    assert out.stderr.count("the same command again tracks the finished result") == 2
    assert out.stderr.count("\n") == 2, out.stderr
    assert not logs(tmp_path)


def test_a_job_after_the_death_of_the_service_is_tracked(own, tmp_path):
    """The job whose service died has a warning; the next one of the process gets a new service."""

    def run(name: str, *, dies: bool) -> Tracker:
        (tmp_path / name).mkdir()
        with tracked(
            TrackingConfig("offline"),
            run_dir=tmp_path / name,
            group="ours",
            job_type="measure",
            notes="",
            config={},
            data_dir=tmp_path,
        ) as tracker:
            if dies:
                service = wandb.setup()._connection._proc._process
                service.kill()
                service.wait()
            tracker.summary({"x": 1})
        return tracker

    assert run("first", dies=True).lost
    second = run("second", dies=False)
    assert not second.lost
    wandb.teardown()
    (path,) = logs(tmp_path / "second")
    assert load(path)["summary"]["x"] == 1
