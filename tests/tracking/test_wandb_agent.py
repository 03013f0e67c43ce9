"""A W&B sweep agent runs saescope: the command line it builds, and the run it gets."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from saescope.config import AppConfig, TrackingConfig, config_dir, from_mapping
from saescope.metrics import metric
from saescope.tracking.wandb_run import tracked
from tests.cli.test_main import QUICK
from tests.support.wandb_log import load, logs

SWEEP = Path(__file__).parents[2] / "docs" / "wandb_sweep.yaml"


def commands(sweep):
    """The command lines of the grid, put together as `wandb.wandb_agent.Agent._command_run` does."""
    choices = {key: p.get("values", [p.get("value")]) for key, p in sweep["parameters"].items()}
    for point in itertools.product(*choices.values()):
        args = {key: {"value": value} for key, value in zip(choices, point, strict=True)}
        macros = create_sweep_command_args({"args": args}) | {
            "program": [sweep["program"]],
            "env": ["/usr/bin/env"],
        }
        line = []
        for part in create_sweep_command(list(sweep["command"])):
            line += macros[part[2:-1]] if part.startswith("${") else [part]
        yield line, dict(zip(choices, point, strict=True))


def test_the_sweep_file_is_a_grid_of_valid_jobs():
    sweep = yaml.safe_load(SWEEP.read_text())
    assert sweep["method"] == "grid"
    lines = list(commands(sweep))
    assert len(lines) == 12
    with initialize_config_dir(config_dir(), version_base="1.3"):
        for line, point in lines:
            assert line[:2] == ["/usr/bin/env", "saescope"]
            OverridesParser.create().parse_overrides(line[2:])
            values = OmegaConf.to_container(compose("config", overrides=line[2:]), resolve=True)
            cfg = from_mapping(AppConfig, values)
            assert cfg.sae.source == "train"
            assert (cfg.sae.expansion_factor, cfg.sae.k) == (point["sae.expansion_factor"], point["sae.k"])
            assert (cfg.hookpoint.layer, cfg.seed) == (point["hookpoint.layer"], 0)
    assert metric(sweep["metric"]["name"])


def agent_environment(folder: Path, swept: dict[str, object], run_id: str) -> dict[str, str]:
    """What the agent sets, its parameter file included."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"config-{run_id}.yaml"
    values = {"wandb_version": 1} | {key: {"value": value} for key, value in swept.items()}
    path.write_text(yaml.safe_dump(values))
    return {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": run_id, "WANDB_SWEEP_PARAM_PATH": str(path)}


def test_id_and_name_stay_the_agents(tmp_path, monkeypatch):
    wandb.teardown()
    for name, value in agent_environment(tmp_path, {"model": "pythia-70m", "sae.k": 4}, "agent1").items():
        monkeypatch.setenv(name, value)
    resolved = {
        "model": {"name": "m", "num_parameters": 8, "num_layers": 4, "random_init": False},
        "hookpoint": {"name": "layers.1", "layer": 1},
        "sae": {"source": "hub", "expansion_factor": 8.0, "num_latents": 64, "k": 4},
    }
    config = {"model": {"name": "m"}, "sae": {"k": 4}, "seed": 0}
    with tracked(
        TrackingConfig("offline"), run_dir=tmp_path, group=None, job_type="measure", notes="", config=config,
        data_dir=tmp_path,
    ) as tracker:  # fmt: skip
        tracker.describe(config, resolved)
    wandb.teardown()
    assert not tracker.lost
    logged = load(logs(tmp_path)[0])
    assert logged["run"]["id"] == "agent1"
    assert logged["run"]["sweep"] == "sweep1"
    assert (logged["run"]["name"], logged["run"]["group"]) == ("", "")
    # the swept choice keeps its key, our group of that name is still there
    assert (logged["config"]["model"], logged["config"]["model_config"]) == ("pythia-70m", {"name": "m"})
    assert logged["config"]["sae"] == {"k": 4, "expansion_factor": 8.0, "num_latents": 64}
    assert (logged["config"]["depth"], logged["config"]["k"]) == (0.25, 4)


@pytest.mark.slow
def test_an_agents_job_end_to_end_and_again(tmp_path, probes, model_folder, sae_folder):
    """The second agent asks for a finished result: its run gets the metrics all the same."""
    arguments = [
        "model=local", f"model.name={model_folder}", f"sae.repo={sae_folder}", "probes=folder",
        f"probes.path={probes}", *QUICK, "metrics.lm_tokens=0", "tracking=offline", "sae.k=4",
    ]  # fmt: skip
    for run_id in ("first", "second"):
        env = os.environ | agent_environment(tmp_path / "agent", {"sae.k": 4}, run_id)
        command = [sys.executable, "-m", "saescope", *arguments, f"hydra.run.dir={run_id}"]
        out = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250)
        assert out.returncode == 0, out.stderr
        (log,) = logs(tmp_path / run_id)
        logged = load(log)
        assert (logged["run"]["id"], logged["run"]["sweep"], logged["exit_code"]) == (run_id, "sweep1", 0)
        metrics = json.loads((tmp_path / run_id / "metrics.json").read_text())
        measured = {k: v for k, v in metrics.items() if v is not None}
        assert {k: v for k, v in logged["summary"].items() if k in metrics} == measured
        assert logged["config"]["k"] == 4
        assert json.loads((tmp_path / run_id / "tracking.json").read_text())["id"] == run_id
    assert "finished result" in out.stdout
