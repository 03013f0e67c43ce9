"""Presets set what they say and compose in every point; launchers compose; one GPU a job."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from saescope.cli.command_line import read
from saescope.config import AppConfig, config_dir, from_mapping
from saescope.config.applicable import without_keys_of_others
from saescope.runtime import gpus

CONF = Path(config_dir())
SWEEPS = sorted(p.stem for p in (CONF / "sweep").glob("*.yaml") if p.stem != "none")
EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))
LAUNCHERS = sorted(p.stem for p in (CONF / "hydra" / "launcher").glob("*.yaml"))


def command(path: Path) -> str:
    """The command in the first line after the package header."""
    line = path.read_text().splitlines()[1]
    return line.removeprefix("# ").split("   (")[0]


def points(preset: str, overrides: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Overrides of every job of a preset."""
    params = OmegaConf.load(CONF / "sweep" / f"{preset}.yaml").hydra.sweeper.params
    given = [f"{key}={value}" for key, value in params.items()]
    (batch,) = BasicSweeper.split_arguments(
        OverridesParser.create().parse_overrides([*given, *overrides]), None
    )
    return [tuple(job) for job in batch]


@pytest.mark.parametrize("preset", SWEEPS)
def test_every_point_of_a_sweep_composes(preset):
    path = CONF / "sweep" / f"{preset}.yaml"
    words = command(path).split()
    assert words[:3] == ["saescope", "-m", f"sweep={preset}"]
    jobs = points(preset)
    assert len(jobs) > 1
    configs = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for job in jobs:
            plain = OmegaConf.to_container(compose("config", overrides=[*words[2:], *job]), resolve=True)
            configs.append(from_mapping(AppConfig, plain).scientific())
    assert all(a != b for at, a in enumerate(configs) for b in configs[:at])


TRAINING = ["sae.tokens=5000", "sae.batch_tokens=512", "sae.save_every=7"]


@pytest.mark.parametrize("preset", [preset for preset in SWEEPS if preset != "read_k"])
def test_a_sweep_takes_training_keys_for_the_jobs_that_train(preset):
    words = command(CONF / "sweep" / f"{preset}.yaml").split()
    overrides = [word for word in read([*words[1:], *TRAINING]).words if word != "-m"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("config", overrides=[p.input_line for p in parsed if not p.is_sweep_override()])
        jobs = points(preset, overrides)
        assert len(jobs) == len(points(preset))
        trained = 0
        for job in jobs:
            plain = OmegaConf.to_container(compose("config", overrides=[*job]), resolve=True)
            forced = [word.lstrip("+").partition("=")[0] for word in job if word.startswith("++")]
            values, dropped = without_keys_of_others(plain, forced)
            cfg = from_mapping(AppConfig, values)
            trained += cfg.sae.source == "train"
            if cfg.sae.source == "train":
                assert (cfg.sae.tokens, cfg.sae.batch_tokens, cfg.sae.save_every, dropped) == (
                    5000, 512, 7, set(),
                )  # fmt: skip
            elif cfg.sae.source == "pca":
                assert (cfg.sae.tokens, dropped) == (5000, set(forced) - {"sae.tokens"})
            else:
                assert dropped == set(forced) != set()
    assert trained


def test_controls_are_those_of_the_literature_on_the_trained_and_the_random_model():
    configs = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for job in points("controls"):
            plain = OmegaConf.to_container(compose("config", overrides=[*job]), resolve=True)
            configs.append(from_mapping(AppConfig, plain))
    assert [
        (cfg.model.random_init, cfg.sae.source, getattr(cfg.sae, "freeze", None)) for cfg in configs
    ] == [
        (random_init, source, freeze)
        for random_init in (False, True)
        for source, freeze in [
            ("train", "none"), ("train", "decoder"), ("train", "encoder"), ("random", None), ("pca", None),
            ("neurons", None),
        ]
    ]  # fmt: skip
    assert len({cfg.sae.k for cfg in configs}) == 1


@pytest.mark.parametrize("preset", SWEEPS)
def test_a_sweep_sets_axes_only(preset):
    values = OmegaConf.to_container(OmegaConf.load(CONF / "sweep" / f"{preset}.yaml"))
    assert set(values) == {"hydra"}
    assert set(values["hydra"]) == {"sweeper"}
    assert set(values["hydra"]["sweeper"]) == {"params"}


@pytest.mark.parametrize("preset", ["controls", "expansion", "expansion_by_k", "seeds", "scaling"])
def test_model_and_hookpoint_change_slowest(preset):
    """So that the jobs that share activations follow each other."""
    shared = [
        tuple(o for o in job if o.split("=")[0].split(".")[0] in ("model", "hookpoint"))
        for job in points(preset)
    ]
    assert len({*shared}) == 1 + sum(a != b for a, b in zip(shared[1:], shared[:-1], strict=True))


@pytest.mark.parametrize("preset", EXPERIMENTS)
def test_every_experiment_composes_and_says_its_command(preset):
    named = "NAME" if preset == "none" else preset
    assert command(CONF / "experiment" / f"{preset}.yaml") == f"saescope experiment={named}"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", overrides=[f"experiment={preset}"]), resolve=True)
    cfg = from_mapping(AppConfig, plain)
    assert (preset == "smoke") == (cfg.sae.source == "train")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_composes(launcher):
    assert (
        f"hydra/launcher={launcher}"
        in (CONF / "hydra" / "launcher" / f"{launcher}.yaml").read_text().splitlines()[0]
    )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    kinds = {
        "parallel": "JoblibLauncher",
        "slurm": "SlurmLauncher",
        "slurm_local": "LocalLauncher",
        "together": "BasicLauncher",
    }
    assert cfg.hydra.launcher._target_.endswith(kinds[launcher])


@pytest.mark.parametrize(
    ("visible", "cards", "job", "seen"),
    [("4,5,6", 0, 4, "5"), (None, 3, 2, "2"), ("7", 0, 3, "7"), (None, 1, 1, None), ("", 0, 1, "")],
)
def test_a_job_beside_others_sees_one_gpu(monkeypatch, tmp_path, visible, cards, job, seen):
    for card in range(cards):
        (tmp_path / f"0000:0{card}").mkdir()
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    monkeypatch.setattr(gpus, "_chosen", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    gpus.own_gpu(job)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
    gpus.own_gpu(job + 1)  # a later job of the same process keeps it
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
