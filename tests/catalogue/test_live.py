"""`live=true` through the genuine Hub client, against a server on loopback."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.catalogue.front import in_front
from tests.support.hub import serve

SAE_70M = "EleutherAI/sae-pythia-70m-32k"
CFG = {"expansion_factor": 32, "normalize_decoder": True, "num_latents": 32768, "k": 16, "d_in": 512}


def repository(root: Path, *folders: str, **changes) -> Path:
    """SAE folders whose weights are empty: nothing may download them."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "cfg.json").write_text(json.dumps(CFG | changes))
        (root / folder / "sae.safetensors").write_bytes(b"")
    return root


def coverage(endpoint: str, cache: Path, *args: str, offline: bool = False):
    """The command in a fresh process; the client reads its settings at import."""
    env = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    code = "import sys; from saescope.cli.catalogue import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *args, "csv=out.csv"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def written() -> dict[tuple[str, str], dict[str, str]]:
    with open("out.csv", newline="") as file:
        return {(row["model"], row["hookpoint"]): row for row in csv.DictReader(file)}


def findings(done: subprocess.CompletedProcess[str], repo: str) -> list[str]:
    return [line.strip() for line in done.stdout.splitlines() if line.startswith(f"  {repo}: ")]


@pytest.fixture
def whole(tmp_path) -> Path:
    """The 70m repository as it is recorded."""
    return repository(
        tmp_path / "whole", *(f"layers.{n}{kind}" for n in range(6) for kind in ("", ".mlp", ".attention"))
    )


def test_what_is_as_recorded(whole, tmp_path):
    with serve({SAE_70M: whole}) as (endpoint, seen):
        done = coverage(endpoint, tmp_path / "hf", "models=pythia-70m", "--live")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 of 3 wanted hookpoints")
    assert findings(done, SAE_70M) == [f"{SAE_70M}: unchanged"]
    assert findings(done, "EleutherAI/sae-pythia-70m-32x") == [
        "EleutherAI/sae-pythia-70m-32x: unchanged: no such repository"
    ]
    assert findings(done, "wlog/sae_pythia_70m_16k")[0].startswith("wlog/sae_pythia_70m_16k: vanished")
    assert {row["live"] for row in written().values()} == {"unchanged"}
    fetched = {path.split("/resolve/main/")[-1] for method, path in seen if "/resolve/" in path}
    assert {name.split("/", 1)[-1] for name in fetched} == {"cfg.json"}
    assert len(fetched) == 3


def test_what_moved_vanished_changed_or_is_new(tmp_path):
    sizes = {"num_latents": 0, "k": 64, "expansion_factor": 16}
    moved = [f"new/place/layers.{n}" for n in range(24)]
    both = [f"layers.{n}.{kind}" for n in range(24) for kind in ("mlp", "attention")]
    served = {
        # layers.4 is missing, layers.3 has other sizes, and there is a kind of folder nobody knows
        SAE_70M: repository(tmp_path / "a", "layers.1", "layers.3", "unknown", **sizes),
        # recorded under baseline/
        "Group-SAE/pythia_410m-topk": repository(tmp_path / "b", *moved, d_in=1024),
        # recorded as not existing
        "EleutherAI/sae-pythia-70m-32x": repository(tmp_path / "c", "gpt_neox.layers.4"),
        # recorded without attention
        "EleutherAI/sae-pythia-410m-65k": repository(tmp_path / "d", *both, d_in=1024),
    }
    with serve(served) as (endpoint, _):
        done = coverage(endpoint, tmp_path / "hf", "models=pythia-70m,pythia-410m", "kind=all", "live=true")
    assert (done.returncode, done.stderr) == (0, "")
    rows = written()
    third = rows["pythia-70m", "layers.3"]
    assert (third["num_latents"], third["expansion"], third["k"]) == (str(16 * 512), "16.0", "64")
    assert f"{SAE_70M}: changed: layers.3: k is 64, recorded was 16" in findings(done, SAE_70M)
    assert f"{SAE_70M}: changed: layers.3: num_latents is 8192, recorded was 32768" in findings(done, SAE_70M)
    assert f"{SAE_70M}: vanished: layers.{{layer}}, layers 0, 2, 4–5" in findings(done, SAE_70M)
    assert f"{SAE_70M}: vanished: layers.{{layer}}.mlp, layers 0–5" in findings(done, SAE_70M)
    gone = rows["pythia-70m", "layers.1.mlp"]
    assert (gone["state"], gone["live"]) == ("train", "vanished")

    fourth = rows["pythia-70m", "layers.4"]
    assert (fourth["repo"], fourth["folder"], fourth["live"]) == (
        "EleutherAI/sae-pythia-70m-32x", "gpt_neox.layers.4", "new",
    )  # fmt: skip
    assert (fourth["state"], fourth["num_latents"], fourth["k"]) == ("covered", "32768", "16")

    moved = rows["pythia-410m", "layers.6"]
    assert (moved["folder"], moved["live"], moved["unverified"]) == ("new/place/layers.6", "moved", "")
    assert (
        "moved: resid: baseline/layers.{layer} is now new/place/layers.{layer}, layers 0–23"
        in (findings(done, "Group-SAE/pythia_410m-topk")[0])
    )
    # claimed until the Hub showed it
    mlp = rows["pythia-410m", "layers.18.mlp"]
    assert (mlp["state"], mlp["live"]) == ("covered", "unchanged")
    attention = rows["pythia-410m", "layers.18.attention"]
    assert (attention["state"], attention["repo"], attention["live"]) == (
        "covered", "EleutherAI/sae-pythia-410m-65k", "new",
    )  # fmt: skip


def test_saelens_folders(tmp_path):
    repo = "ctigges/pythia-70m-deduped__res-sm_processed"
    with serve({repo: repository(tmp_path / "a", *(f"{n}-res-sm" for n in range(5)))}) as (endpoint, _):
        done = coverage(endpoint, tmp_path / "hf", "models=pythia-70m-deduped", "live=true")
    assert findings(done, repo) == [f"{repo}: vanished: {{layer}}-res-sm, layers 5"]
    assert findings(done, "canrager/lm_sae")[0].startswith("canrager/lm_sae: vanished: no such repository")


def test_an_sae_of_another_width_is_reported(tmp_path):
    with serve({SAE_70M: repository(tmp_path / "a", "layers.3", d_in=768)}) as (endpoint, _):
        done = coverage(endpoint, tmp_path / "hf", "models=pythia-70m", "layers=3", "live=true")
    assert f"{SAE_70M}: changed: layers.3: d_in is 768, but pythia-70m has width 512" in findings(
        done, SAE_70M
    )


def test_a_repository_that_gives_no_answer_keeps_its_rows(whole, tmp_path):
    with serve({SAE_70M: whole}) as (behind, _), in_front(behind, SAE_70M, 99) as endpoint:
        done = coverage(endpoint, tmp_path / "hf", "models=pythia-70m", "live=true")
    assert done.returncode == 0
    assert done.stderr.count("the Hub answers 503; trying again in 0 s") == done.stderr.count("\n") == 4
    (line,) = findings(done, SAE_70M)
    assert line == f"{SAE_70M}: no answer: the Hub answers 503"
    rows = written()
    assert {(row["live"], row["repo"]) for row in rows.values()} == {("no answer", SAE_70M)}


@pytest.mark.parametrize("part", [f"/api/models/{SAE_70M}", "/resolve/main/layers.3/cfg.json"])
def test_a_busy_hub_is_asked_again(whole, tmp_path, part):
    with serve({SAE_70M: whole}) as (behind, _), in_front(behind, part, 2) as endpoint:
        done = coverage(endpoint, tmp_path / "hf", "models=pythia-70m", "layers=3", "live=true")
    assert done.returncode == 0
    row = written()["pythia-70m", "layers.3"]
    assert (row["live"], row["k"]) == ("unchanged", "16")


def test_a_cfg_that_cannot_be_read_leaves_the_recorded_sizes(whole, tmp_path):
    (whole / "layers.3" / "cfg.json").write_text("{")
    with serve({SAE_70M: whole}) as (endpoint, _):
        done = coverage(endpoint, tmp_path / "hf", "models=pythia-70m", "layers=3", "live=true")
    assert (done.returncode, done.stderr) == (0, "")
    assert written()["pythia-70m", "layers.3"]["k"] == "16"


@pytest.mark.parametrize("offline", [False, True])
def test_no_repository_can_be_reached(tmp_path, offline):
    done = coverage("http://127.0.0.1:9", tmp_path / "hf", "models=pythia-70m", "live=true", offline=offline)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "none of the 6 repositories could be reached" in done.stderr
    assert ("HF_HUB_OFFLINE is set" in done.stderr) == offline
    assert done.stdout.startswith("3 of 3 wanted hookpoints")
    assert all(line.split(": ")[1] == "no answer" for line in findings(done, SAE_70M))
    assert {row["live"] for row in written().values()} == {"no answer"}


def test_a_model_of_the_hub_is_read_by_its_config(model_folder, tmp_path):
    with serve({"me/model": model_folder, "me/data": tmp_path}) as (endpoint, _):
        done = coverage(endpoint, tmp_path / "hf", "models=me/model")
        missing = coverage(endpoint, tmp_path / "hf", "models=me/nothing")
        other = coverage(endpoint, tmp_path / "hf", "models=me/data")
    assert done.returncode == 0
    assert "4 layers, width 32" in done.stdout
    assert "saescope model=local model.name=me/model hookpoint.layer=2 sae=train" in done.stdout
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert "no Hub model me/nothing" in missing.stderr
    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "me/data has no config.json" in other.stderr
    again = coverage("http://127.0.0.1:9", tmp_path / "hf", "models=me/model", offline=True)
    assert again.stdout == done.stdout
    cold = coverage("http://127.0.0.1:9", tmp_path / "cold", "models=me/model")
    assert (cold.returncode, cold.stderr.count("\n")) == (1, 1), cold.stderr
    assert "the Hub gives no config.json of me/model" in cold.stderr
