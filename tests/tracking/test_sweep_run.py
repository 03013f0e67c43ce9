"""A sweep on W&B: its report run, its workspace, and sync.sh, with wandb offline and a server on loopback."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import wandb

from saescope.config import TrackingConfig
from saescope.metrics import metric
from saescope.tracking.sweep_run import _axis, log_sweep
from saescope.tracking.sync_script import write_sync
from saescope.tracking.wandb_run import tracked
from tests.support.wandb_log import load, logs
from tests.support.wandb_server import wandb_server

OFFLINE = TrackingConfig("offline")
AXES = [("sae.k", True, True), ("hookpoint.depth",), ("sae.tokens", True, True), ("model.name", False)]
"""Arguments of `Axis`."""
TABLE = pd.DataFrame(
    {
        "job": [0, 1, 2],
        "state": ["ok", "ok", "failed"],
        "sae.k": [2, 4, None],
        "sae.name": ["1", "x", None],
        "si/mean": [0.25, 0.5, None],
    }
)
REPORT_FILES = ("sweep.csv", "sweep.parquet", "sweep.html", "wandb_workspace.json")
PAGE = "<!doctype html><html><head><title>s</title></head><body>é</body></html>"


def job(sweep: Path, number: int) -> None:
    folder = sweep / str(number)
    folder.mkdir(parents=True)
    (folder / "features.parquet").write_bytes(b"features" * (number + 1))
    with tracked(
        OFFLINE, run_dir=folder, group="g-1", job_type="measure", notes="n", config={}, data_dir=sweep
    ) as tracker:
        tracker.artifact(f"features-{number}", "feature_table", [folder / "features.parquet"], {})
        tracker.table("features_top", ["latent"], [[number]])
        tracker.summary({"si/mean": 0.5})
    assert not tracker.lost


def a_sweep(place: Path, jobs: int = 2) -> Path:
    """Offline runs of a sweep with its report, as a finished multirun leaves them."""
    place.mkdir()
    for number in range(jobs):
        job(place, number)
    TABLE.to_csv(place / "sweep.csv", index=False)
    TABLE.to_parquet(place / "sweep.parquet")
    (place / "sweep.html").write_text(PAGE, encoding="utf-8")
    log_sweep(place, OFFLINE, "g-1")
    wandb.teardown()
    return place


def run_script(script: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return subprocess.run(
        [str(script)],
        env=env | {"PATH": path} | environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_the_report_run_holds_table_page_and_files(tmp_path):
    sweep = a_sweep(tmp_path / "sweep", jobs=0)
    (log,) = logs(sweep)
    logged = load(log)
    assert logged["run"]["job_type"] == "sweep_report"
    assert (logged["run"]["group"], logged["exit_code"]) == ("g-1", 0)
    files = log.parent / "files"
    table = json.loads((files / logged["summary"]["tables/sweep"]["path"]).read_text())
    assert table["columns"] == list(TABLE.columns)
    assert table["data"] == [[0, "ok", 2, "1", 0.25], [1, "ok", 4, "x", 0.5], [2, "failed", None, None, None]]
    page = files / logged["summary"]["pages/sweep_report"]["path"]
    assert page.read_text(encoding="utf-8") == PAGE
    report = next(a for a in logged["artifacts"] if a["type"] == "report")
    held = set(REPORT_FILES)
    assert set(report["paths"]) == held
    for name, copy in report["paths"].items():  # below the sweep, where sync.sh finds it
        assert Path(copy).is_relative_to(sweep)
        assert not Path(copy).samefile(sweep / name)
        assert Path(copy).read_bytes() == (sweep / name).read_bytes()
    assert report["metadata"] == {"group": "g-1", "jobs": 3}


def test_a_long_sweep_is_cut_in_the_table_only(tmp_path):
    pd.DataFrame({"job": range(3000)}).to_csv(tmp_path / "sweep.csv", index=False)
    info, lost = log_sweep(tmp_path, OFFLINE, "g")
    wandb.teardown()
    (log,) = logs(tmp_path)
    logged = load(log)
    assert logged["summary"]["tables/sweep"]["nrows"] == 1999
    assert next(a for a in logged["artifacts"] if a["type"] == "report")["metadata"]["jobs"] == 3000
    assert info["id"] == logged["run"]["id"]
    assert not lost


@pytest.mark.parametrize(
    ("setting", "values", "expected"),
    [
        ("sae.k", [2, 4, None], (True, False)),
        ("sae.k", [2, 16, None], (True, True)),
        ("sae.lr", [0.0, 1e-3], (True, False)),
        ("hookpoint.layer", [1, 11], (True, False)),
        ("model.name", ["a", "b"], (False, False)),
        ("sae.multi_topk", [True, False, None], (False, False)),
    ],
)
def test_an_axis_is_drawn_as_its_values_ask(tmp_path, setting, values, expected):
    pd.DataFrame({setting: values}).to_csv(tmp_path / "t.csv", index=False)
    axis = _axis(pd.read_csv(tmp_path / "t.csv"), setting, False)
    assert (axis.numeric, axis.log) == expected
    assert axis.repeats is False


def test_no_report_and_no_tracking_are_no_failure(tmp_path, caplog):
    assert log_sweep(tmp_path / "none", TrackingConfig("disabled"), "g")[0]["mode"] == "disabled"
    assert not (tmp_path / "none").exists()
    assert write_sync(tmp_path) is None
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "sweep.csv").write_text("")
    assert log_sweep(tmp_path / "empty", OFFLINE, "g")[0]["mode"] == "offline"
    assert "no sweep table" in caplog.text
    wandb.teardown()
    assert load(logs(tmp_path / "empty")[0])["exit_code"] == 0


def test_two_sweeps_of_one_process_stage_their_own_artifacts(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "the users"))
    for name in ("one", "two"):
        job(tmp_path / name, 0)
    wandb.teardown()
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "the users")
    assert not (tmp_path / "the users").exists()
    for name in ("one", "two"):
        (log,) = logs(tmp_path / name)
        for artifact in load(log)["artifacts"]:
            for path in artifact["paths"].values():
                assert Path(path).is_relative_to(tmp_path / name)
                assert Path(path).is_file()


def test_sync_script_uploads_a_moved_sweep_with_its_artifacts(tmp_path):
    was = a_sweep(tmp_path / "was here")
    assert write_sync(was) == was / "sync.sh"
    sweep = was.rename(tmp_path / "it's moved")
    logged = {name: (sweep / name).read_bytes() for name in REPORT_FILES}
    (sweep / "sweep.html").write_text("a later saescope-report")  # W&B has noted the digest of the page
    subprocess.run(["sh", "-n", str(sweep / "sync.sh")], check=True)
    with wandb_server() as server:
        environment = {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_CONFIG_DIR": str(tmp_path),
        }
        done = run_script(sweep / "sync.sh", **environment, WANDB_MODE="offline")
        assert done.returncode == 0, done.stdout + done.stderr
        sent = server.artifact_files()
        assert {v["name"] for v in server.of("UpsertBucket")} == {load(p)["run"]["id"] for p in logs(sweep)}
        assert sent["features-0"] == {"features.parquet": b"features"}
        assert sent["features-1"] == {"features.parquet": b"featuresfeatures"}
        assert sent["report-g-1"] == logged
        tables = [files for name, files in sent.items() if "-tables" in name]
        assert sorted(json.loads(next(iter(f.values())))["columns"] for f in tables) == [
            list(TABLE.columns),
            ["latent"],
            ["latent"],
        ]
        assert len(server.of("CommitArtifact")) == len(sent) == 6
        assert (sweep / "0" / "features.parquet").read_bytes() == b"features"
        calls = len(server.calls)
        assert not was.exists()
        again = run_script(sweep / "sync.sh", **environment)
        assert (again.returncode, again.stdout.count("already uploaded")) == (0, 3)
        assert len(server.calls) == calls
        was.mkdir()
        refused = run_script(sweep / "sync.sh", **environment)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert f"recorded in {was}" in refused.stderr


def test_a_log_that_holds_nothing_is_not_uploaded(tmp_path):
    """Of a process that was killed before W&B wrote its first record."""
    sweep = a_sweep(tmp_path / "sweep", jobs=1)
    empty = sweep / "0" / "wandb" / "offline-run-20260101_000000-x" / "run-x.wandb"
    empty.parent.mkdir(parents=True)
    empty.write_bytes(logs(sweep)[0].read_bytes()[:7])
    script = write_sync(sweep)
    assert script.read_text().count("\nupload ") == 2
    assert "20260101" not in script.read_text()


def test_sync_script_passes_every_run_and_says_what_is_left(tmp_path):
    sweep = a_sweep(tmp_path / "sweep")
    script = write_sync(sweep)
    stand_in = tmp_path / "bin" / "wandb"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f'#!/bin/sh\necho "$PWD|$WANDB_DATA_DIR|$*" >> {tmp_path}/calls\ncase "$3" in 0/*) exit 1;; esac\n'
        'touch "$3/run-x.wandb.synced"\n'
    )
    stand_in.chmod(0o755)
    done = run_script(script, PATH=f"{stand_in.parent}:/usr/bin:/bin")
    assert done.returncode == 1
    assert done.stderr.count("not uploaded: 0/wandb/offline-run-") == 1
    calls = [line.split("|") for line in (tmp_path / "calls").read_text().splitlines()]
    assert {(where, data) for where, data, _ in calls} == {(str(sweep), str(sweep))}
    passed = [arguments.removeprefix("sync --yes ") for *_, arguments in calls]
    assert {sweep / run for run in passed} == {log.parent for log in logs(sweep)}
    assert passed[-1].startswith("wandb/offline-run-")
    assert "1 runs left" in done.stderr


def the_axes():
    from saescope.tracking.workspace import Axis

    return [*(Axis(*arguments) for arguments in AXES), Axis("sae.init_seed", repeats=True)]


def view(entity="me", project="p", group="g", axes=None, logged=None):
    from saescope.tracking.workspace import build, dump

    return dump(build(entity, project, group, the_axes() if axes is None else axes, logged))


@pytest.mark.skipif(importlib.util.find_spec("wandb_workspaces") is None, reason="the extra is not installed")
class TestWorkspace:
    def test_golden(self):
        golden = json.loads(Path(__file__).with_name("wandb_workspace.json").read_text())
        assert view("me", "saescope", "g-1") == golden

    def test_keys_are_ours(self):
        """Every metric of a panel is a key of `metrics.json`, or one we log beside it."""
        from saescope.tracking.wandb_run import CURVES

        sections = view()["spec"]["section"]["panelBankConfig"]["sections"]
        names = ["Overview", "SI", "Q", "Reconstruction", "Dynamic-k", "Features", "System"]
        assert [s["name"] for s in sections] == names
        used = set()
        for panel in (p for s in sections for p in s["panels"]):
            config = panel["config"]
            used |= set(config.get("metrics") or ())
            used |= {config[axis] for axis in ("xAxis", "yAxis") if axis in config}
            used |= {column["accessor"] for column in config.get("columns", ())}
        axes = {axis.accessor for axis in the_axes()}
        assert axes <= used | {"config:model_name.value"}
        used -= axes | {f"train/{key}" for key in CURVES}
        used -= {"tokens_seen", "_runtime"}
        metrics = {key.removeprefix("summary:") for key in used if not key.startswith("system/")}
        assert len(metrics) > 20
        assert [key for key in metrics if metric(key) is None] == []

    def test_reads_back(self):
        from wandb_workspaces.workspaces import Workspace
        from wandb_workspaces.workspaces.internal import View

        written = view()
        again = Workspace._from_model(View.model_validate(written))
        sections = written["spec"]["section"]["panelBankConfig"]["sections"]
        assert [s.name for s in again.sections] == [s["name"] for s in sections]
        assert sum(len(s.panels) for s in again.sections) == 61

    def test_columns_are_in_the_form_the_app_reads(self):
        """Pinned columns have the accessors that the library itself gives to parallel coordinates."""
        section = view()["spec"]["section"]
        (parallel,) = [
            panel["config"]["columns"]
            for part in section["panelBankConfig"]["sections"]
            for panel in part["panels"]
            if panel["viewType"] == "Parallel Coordinates Plot"
        ]
        pinned = list(section["runSets"][0]["runFeed"]["columnPinned"])
        assert pinned[0] == "run:displayName"
        assert pinned[1:] == [column["accessor"] for column in parallel]
        assert pinned[1:6] == [
            "config:k.value", "config:hookpoint.value.depth", "config:sae.value.tokens",
            "config:model_name.value", "config:init_seed.value",
        ]  # fmt: skip

    def test_nothing_is_shown_that_no_run_has(self):
        logged = {"si/mean", "si/excess", "sae/fvu", "sae/l0", "cost/wall_s"}
        section = view(logged=logged)["spec"]["section"]
        parts = {part["name"]: part["panels"] for part in section["panelBankConfig"]["sections"]}
        assert "Q" not in parts
        assert "Dynamic-k" not in parts
        text = json.dumps(section)
        absent = ("lm/", "q/", "dynk/", "train/", "features/", "si/ci_low")
        assert [key for key in absent if f'"{key}' in text or f"summary:{key}" in text] == []
        assert all(key in text for key in logged)

    def test_axes_are_those_of_the_sweep(self):
        assert "config:" not in json.dumps(view(axes=[]))
        panels = [p for s in view()["spec"]["section"]["panelBankConfig"]["sections"] for p in s["panels"]]
        scatter = [p["config"] for p in panels if str(p["config"].get("xAxis", "")).startswith("config:")]
        assert {(c["xAxis"], c.get("xAxisLogScale", False)) for c in scatter} == {
            ("config:k.value", True), ("config:hookpoint.value.depth", False),
            ("config:sae.value.tokens", True),
        }  # fmt: skip
        bars = [p["config"]["chartTitle"] for p in panels if "model_name" in json.dumps(p["config"])]
        assert len([title for title in bars if title.endswith("by model.name")]) == 4

    def test_saved_when_online(self, tmp_path):
        """In a process of its own: W&B reads server and key once."""
        code = (
            "import sys; from pathlib import Path; from saescope.tracking.workspace import write_workspace\n"
            "print(write_workspace(Path(sys.argv[1]), entity='me', project='p', group='g', online=True))"
        )
        with wandb_server() as server:
            env = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
            out = subprocess.run(
                [sys.executable, "-c", code, str(tmp_path)],
                env=env,
                capture_output=True,
                text=True,
                timeout=200,
            )
            assert out.returncode == 0, out.stderr
            (view,) = server.of("UpsertView2")
        assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "p", "saescope g")
        written = json.loads((tmp_path / "wandb_workspace.json").read_text())
        assert json.loads(view["spec"]) == written["spec"]
        assert "/me/p?nw=" in out.stdout


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path):
    code = (
        "import logging, sys; from pathlib import Path; sys.modules['wandb_workspaces'] = None\n"
        "logging.basicConfig(level='INFO')\n"
        "from saescope.tracking.workspace import write_workspace\n"
        "print(write_workspace(Path(sys.argv[1]), entity='', project='p', group='g', online=False))"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    out = subprocess.run(run, capture_output=True, text=True, check=True, timeout=200)
    assert out.stdout == "None\n"
    assert out.stderr.count("\n") == 1
    assert "saescope[workspaces]" in out.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["features-модель-日本語", "features-हिन्दी", "features-é/ü"])
def test_an_artifact_of_a_name_in_any_script_arrives(tmp_path, name):
    (tmp_path / "features.parquet").write_bytes(b"f")
    with tracked(
        OFFLINE, run_dir=tmp_path, group=None, job_type="measure", notes="", config={}, data_dir=tmp_path
    ) as tracker:
        tracker.artifact(f"{name}-0a1b2c3d", "feature_table", [tmp_path / "features.parquet"], {})
    wandb.teardown()
    assert tracker.lost == []
    (artifact,) = load(logs(tmp_path)[0])["artifacts"]
    assert re.fullmatch(r"features-[-.\w]+-0a1b2c3d", artifact["name"], re.ASCII)


def test_a_single_run_s_sync_command_finds_its_artifacts(tmp_path):
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "features.parquet").write_bytes(b"f")
    with tracked(
        OFFLINE, run_dir=folder, group=None, job_type="measure", notes="", config={}, data_dir=folder
    ) as tracker:
        tracker.artifact("features", "feature_table", [folder / "features.parquet"], {})
        command = tracker.info()["sync"]
    wandb.teardown()
    run_dir = shlex.split(command)[-1]
    assert Path(run_dir) == logs(folder)[0].parent
    (path,) = load(logs(folder)[0])["artifacts"][0]["paths"].values()
    assert Path(path).is_relative_to(folder)
    assert Path(path).read_bytes() == b"f"
