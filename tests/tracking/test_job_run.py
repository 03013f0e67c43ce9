"""A finished result as a W&B run, from its folder: whole, and once a group."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

import saescope
from saescope.config import TrackingConfig
from saescope.files import read_json, write_json
from saescope.report.latents_page import context_of
from saescope.runfolder.latents import read_latents
from saescope.runfolder.run import read_run
from saescope.tracking.job_run import SCALARS, log_reused, log_run, remember_run, run_at
from saescope.tracking.wandb_run import tracked
from saescope.tracking.wandb_start import Destination
from tests.report.report_folder import write_run
from tests.report.test_latents_page import SMALL
from tests.support.wandb_log import load, logs, nulls
from tests.support.wandb_server import wandb_server

OFFLINE = TrackingConfig("offline")


@pytest.fixture
def finished(tmp_path):
    folder = write_run(tmp_path / "finished")
    (folder / "tracking.json").unlink()
    return folder


def reuse(finished, group, *, cfg=OFFLINE):
    return log_reused(cfg, finished, finished, group=group, notes="sae.k=4", data_dir=finished)


def test_everything_in_the_folder_is_logged(finished):
    rows = "step,tokens_seen,loss,fvu,auxk,multi_topk_fvu,l0,dead_frac,lr,k\n"
    rows += "".join(f"{step},{step * 100},1,{1 / step},0,0,4,0,0.1,4\n" for step in (1, 2, 3))
    (finished / "history.csv").write_text(rows)
    (finished / "report.html").write_text("<!doctype html><title>é</title>")
    shutil.copy(finished / "features.parquet", finished / "causal.parquet")
    (finished / "figures").mkdir(exist_ok=True)
    (finished / "figures" / "causal_matrix.svg").write_text("<?xml version='1.0'?><svg>é</svg>")
    (finished / "sae" / "layers.3").mkdir(parents=True)
    (finished / "sae" / "layers.3" / "cfg.json").write_text("{}")
    assert reuse(finished, "g")
    wandb.teardown()
    (path,) = logs(finished)
    logged, run = load(path), read_run(finished)
    values = {key: value for key, value in run.metrics.items() if value is not None}
    assert len(values) < len(run.metrics)
    assert {key: logged["summary"][key] for key in run.metrics if key in logged["summary"]} == values
    assert nulls(logged["config"]) == nulls(logged["summary"]) == []
    assert [row["train/fvu"] for row in logged["history"] if "train/fvu" in row] == [1, 0.5, 1 / 3]
    assert {artifact["type"] for artifact in logged["artifacts"]} >= {"sae", "feature_table"}
    keys = {key for row in logged["history"] for key in row}
    media = {"tables/features_top", "pages/report", "figures/causal_matrix"}
    assert {*media, *(f"hist/{name}" for name in run.histograms)} <= keys
    assert ("tables/warnings" in keys) == bool(run.warnings)
    (point,) = [row for row in logged["history"] if "si/mean" in row]
    assert {key for key in SCALARS if run.metrics.get(key) is not None} <= set(point)
    assert {
        "si/mean",
        "si/null_mean",
        "si/ci_low",
        "q/modularity",
        "q/null_mean",
        "sae/fvu",
        "lm/ce_score",
    } <= set(SCALARS)
    assert logged["run"]["notes"] == "sae.k=4"
    assert logged["config"]["k"] == 32


@pytest.mark.slow
def test_a_latent_is_in_the_run_as_a_page_and_as_text(tmp_path):
    folder = tmp_path / "run"
    run = saescope.run(*SMALL, folder=folder)
    assert reuse(folder, "g")
    wandb.teardown()
    (path,) = logs(folder)
    logged = {key: value for row in load(path)["history"] for key, value in row.items()}
    media = path.parent / "files"
    page = media / logged["pages/latents"]["path"]
    assert page.read_bytes() == (folder / "features.html").read_bytes()
    table = json.loads((media / logged["tables/features_top"]["path"]).read_text(encoding="utf-8"))
    assert table["columns"][-2:] == ["fires_most_on", "strongest_context"]
    latents = read_latents(folder / "latents.npz")
    assert len(table["data"]) == min(500, int(run.features.supported.sum()))
    for row in table["data"]:
        number, tokens, context = row[0], row[-2], row[-1]
        at = latents.place[number]
        assert tokens.startswith(repr(latents.frequent_words(at)[0]))
        place = latents["first_L"][at]
        _, _, quantile, about, words, acts = context_of(latents, latents.words, int(place))
        assert quantile == 0
        assert context == "".join([*words[:about], "»", words[about], "«", *words[about + 1 :]])
        assert acts[about] == max(acts)


def test_latents_that_stand_beside_their_page_are_in_the_run_with_it(finished):
    """A page beyond 20 MB keeps a part of its latents in a folder, without which it cannot show them."""
    (finished / "features.html").write_text("<!doctype html>")
    assert reuse(finished, "alone")
    (finished / "features").mkdir()
    for number in (3, 12):
        (finished / "features" / f"shard-{number}.js").write_text(f"latentShard({number}, 'x')")
    assert reuse(finished, "beside")
    wandb.teardown()
    artifacts = {
        load(path)["run"]["group"]: [a for a in load(path)["artifacts"] if a["type"] == "latents_page"]
        for path in logs(finished)
    }
    assert artifacts["alone"] == []
    (artifact,) = artifacts["beside"]
    assert set(artifact["paths"]) == {"features.html", "features/shard-3.js", "features/shard-12.js"}
    for name, copy in artifact["paths"].items():
        assert not os.path.samefile(copy, finished / name)  # saescope-report writes these anew
        assert Path(copy).read_bytes() == (finished / name).read_bytes()


def test_once_a_group(finished):
    assert reuse(finished, "one")
    assert not reuse(finished, "one")
    assert reuse(finished, "two")
    assert reuse(finished, "one", cfg=TrackingConfig("offline", project="other"))
    wandb.teardown()
    assert sorted(load(path)["run"]["group"] for path in logs(finished)) == ["one", "one", "two"]
    tracking = read_json(finished / "tracking.json")
    assert [(entry["project"], entry["group"]) for entry in tracking["runs"]] == [
        ("saescope", "one"), ("saescope", "two"), ("other", "one"),
    ]  # fmt: skip
    assert tracking["id"] == tracking["runs"][-1]["id"]
    json.dumps(tracking)


def test_the_folder_it_comes_from_remembers_too_and_stays_what_it_was(finished, tmp_path):
    own = {"mode": "offline", "id": "own", "group": None}
    write_json(finished / "tracking.json", own)
    elsewhere = write_run(tmp_path / "elsewhere")
    info = {"mode": "offline", "id": "new", "entity": None, "project": "p", "group": "g"}
    remember_run(info, elsewhere, finished)
    assert read_json(finished / "tracking.json") == own | {"runs": [info]}
    assert read_json(elsewhere / "tracking.json") == info | {"runs": [info]}


def test_online_asks_for_more_than_an_offline_log(finished):
    log = finished / "offline-run-1"
    log.mkdir()
    info = {"mode": "offline", "id": "a", "entity": None, "project": "p", "group": None, "log": str(log)}
    remember_run(info, finished)
    place = Destination(None, "p", None)
    assert run_at(read_run(finished), place, "offline") == info
    assert run_at(read_run(finished), place, "online") is None
    (log / "run-a.wandb.synced").touch()
    assert run_at(read_run(finished), place, "online") == info
    assert run_at(read_run(finished), Destination("team", "p", None), "online") is None
    shutil.rmtree(log)
    assert run_at(read_run(finished), place, "offline") is None


def test_the_folder_names_the_run_of_the_group_that_asked_last(finished):
    assert reuse(finished, "one")
    assert reuse(finished, "two")
    assert not reuse(finished, "one")
    wandb.teardown()
    tracking = read_json(finished / "tracking.json")
    assert tracking["group"] == "one"
    assert [entry["group"] for entry in tracking["runs"]] == ["one", "two"]


def test_an_offline_log_that_is_gone_is_written_again_and_one_that_moved_is_not(finished):
    assert reuse(finished, "g")
    wandb.teardown()
    moved = finished.rename(finished.with_name("moved"))
    assert not reuse(moved, "g")
    shutil.rmtree(moved / "wandb")
    assert reuse(moved, "g")
    wandb.teardown()
    assert len(logs(moved)) == 1


AGAIN = """
import sys
from pathlib import Path
from saescope.config import TrackingConfig
from saescope.tracking.job_run import log_reused
folder, entity = Path(sys.argv[1]), sys.argv[2]
cfg = TrackingConfig(entity=entity)
print(log_reused(cfg, folder, folder, group="g", notes="", data_dir=folder) is not None)
"""


@pytest.mark.slow
def test_a_corrected_entity_gets_the_result_once(finished):
    """In processes of their own, like commands: W&B reads server and key once."""
    for entity, refuses, logged in (("wrong", 404, True), ("right", None, True), ("right", None, False)):
        with wandb_server(refuses=refuses, because="entity not found") as server:
            env = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
            out = subprocess.run(
                [sys.executable, "-c", AGAIN, str(finished), entity],
                env=env, capture_output=True, text=True, timeout=200,
            )  # fmt: skip
            assert out.stdout.strip().endswith(str(logged)), out.stdout + out.stderr
            assert {call["entity"] for call in server.of("UpsertBucket")[:1]} == (
                {entity} if logged else set()
            )
        tracking = read_json(finished / "tracking.json")
        assert (tracking["entity"], tracking["mode"]) == (entity, "offline" if refuses else "online")
    assert [entry["entity"] for entry in tracking["runs"]] == ["wrong", "right"]


def test_what_lacks_something_is_named_but_does_not_count(finished, monkeypatch):
    monkeypatch.setattr(wandb, "Table", lambda **values: 1 / 0)
    assert reuse(finished, "g")
    tracking = read_json(finished / "tracking.json")
    assert (tracking["group"], tracking["runs"]) == ("g", [])
    monkeypatch.undo()
    assert reuse(finished, "g")
    assert len(read_json(finished / "tracking.json")["runs"]) == 1


def test_curves_of_a_training_just_seen_are_not_logged_again(finished):
    (finished / "history.csv").write_text("step,tokens_seen,loss,fvu,auxk,multi_topk_fvu,l0,dead_frac,lr,k\n")
    row = dict.fromkeys(("loss", "fvu", "auxk", "l0", "dead_frac", "lr"), 0.5) | {"tokens_seen": 100}
    with tracked(
        OFFLINE, run_dir=finished, group=None, job_type="measure", notes="", config={}, data_dir=finished
    ) as tracker:
        tracker.training([row])
        log_run(read_run(finished), tracker)
    wandb.teardown()
    points = [row for row in load(logs(finished)[0])["history"] if "train/fvu" in row]
    assert len(points) == 1
