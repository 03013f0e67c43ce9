"""Everything that may take long on a larger input says so, on a job that is shortened to show it."""

import sys

import pytest

from saescope.cli.main import main
from saescope.runtime import meter

pytestmark = pytest.mark.slow

SMALL = [
    "metrics=quick", "metrics.permutations=200", "metrics.bootstraps=200", "metrics.lm_tokens=600",
    "metrics.rewirings=20", "metrics.null_tokens=2000", "probes.max_tokens_per_task=4000",
    "tracking=disabled", "hookpoint.layer=2", "runtime.dtype=float32", "force=true",
]  # fmt: skip


@pytest.fixture
def spoken(monkeypatch, tmp_path):
    """Runs `saescope ARGS` where a step speaks after 2 ms; returns the log."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAESCOPE_CACHE", str(tmp_path / "cache"))
    for name, seconds in (("CLOCK_S", 0.002), ("FIRST_LOG_S", 0.001), ("LOG_EVERY_S", 0.001)):
        monkeypatch.setattr(meter, name, seconds)

    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["saescope", "hydra.run.dir=run", *args])
        assert main() == 0
        return (tmp_path / "run" / "saescope.log").read_text()

    return run


def test_a_default_job(spoken):
    said = spoken(*SMALL)
    for step in (
        "find model and SAE", "tokenise the probes", "load the model", "extract", "splice",
        "choose examples, write the tables", "write the report",
    ):  # fmt: skip
        assert f"{step}: " in said, step
    for unit in ("permutations", "bootstraps", "Leiden runs", "curveball passes", "rewirings"):
        assert f" {unit}, " in said, unit


def test_training_and_dynamic_k(spoken):
    said = spoken(
        *SMALL, "sae=train", "sae.tokens=40000", "corpus.holdout_tokens=2048", "dynamic_k=mlp",
        "dynamic_k.structure=true", "dynamic_k.k=[0.25,0.5]", "dynamic_k.tokens=2000",
        "dynamic_k.calibration_tokens=2000", "dynamic_k.rounds=1", "dynamic_k.bootstraps=20",
    )  # fmt: skip
    for step in (
        "tokenise the corpus", "start the training", "train", "dynamic k, calibration", "dynamic k, cuts",
        "dynamic k", "timing", "dynamic k, communities of neurons", "dynamic k, blocks of neurons",
        "dynamic k, masks of other tasks",
    ):  # fmt: skip
        assert f"{step}: " in said, step
