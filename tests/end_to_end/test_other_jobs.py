"""Jobs of a sweep that share work: one pass of the model for all hookpoints, SAEs trained side by side."""

import json
import logging
import math
import sys

import pytest
import torch
from safetensors.torch import load_file

from saescope.cli.main import main
from tests.conftest import write_probes

SMALL = [
    "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20", "probes.ctx_len=64",
    "probes.max_tokens_per_task=1500", "tracking=disabled", "runtime.dtype=float32", "runtime.cache=cache",
]  # fmt: skip
TRAIN = [
    "sae=train", "sae.k=8", "sae.tokens=8000", "sae.batch_tokens=512", "corpus=local", "corpus.ctx_len=64",
    "corpus.holdout_tokens=1024", "metrics.lm_tokens=0", "hookpoint.layer=2",
]  # fmt: skip


@pytest.fixture
def here(model_folder, probes):
    return ["model=local", f"model.name={model_folder}", "probes=folder", f"probes.path={probes}", *SMALL]


@pytest.fixture
def training(here, tmp_path):
    corpus = write_probes(tmp_path / "corpus", documents=100, words=80, seed=7)
    return [*here, *TRAIN, f"corpus.path={corpus}"]


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    def run(folder, *words):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr(sys, "argv", ["saescope", *words])
        logging.getLogger().handlers.clear()
        assert main() == 0, capfd.readouterr().err
        capfd.readouterr()
        return tmp_path / folder

    return run


def metrics(folder):
    values = json.loads((folder / "metrics.json").read_text())
    return {
        key: math.nan if value is None else value
        for key, value in values.items()
        if not key.startswith("cost/")
    }


@pytest.mark.slow
def test_one_pass_for_all_hookpoints(here, run):
    """Neurons: the metrics are of the activations themselves."""
    words = [*here, "sae=neurons", "sae.k=8", "metrics.lm_tokens=500"]
    sweep = run("sweep", *words, "hookpoint.layer=[0,1,3]", "hydra.sweep.dir=sweep") / "sweep"
    logs = [(sweep / f"{number}" / "saescope.log").read_text() for number in range(3)]
    assert "at 3 hookpoints of the sweep in 1 pass of the model" in logs[0]
    assert "one pass of the model for 3 hookpoints" in logs[0]
    for text in logs[1:]:
        assert "activation cache: hit" in text
        assert "one pass" not in text
    for number, layer in enumerate((0, 1, 3)):
        alone = run(f"alone{layer}", *words, f"hookpoint.layer={layer}", "hydra.run.dir=alone") / "alone"
        assert metrics(sweep / f"{number}") == pytest.approx(metrics(alone), rel=1e-6, nan_ok=True)


@pytest.mark.slow
def test_finished_jobs_need_no_activations(here, run):
    words = [*here, "sae=neurons", "sae.k=8", "metrics.lm_tokens=0"]
    run("sweep", *words, "hookpoint.layer=1", "hydra.run.dir=first")
    sweep = run("sweep", *words, "-m", "hookpoint.layer=0,1,2", "hydra.sweep.dir=sweep") / "sweep"
    assert "one pass of the model for 2 hookpoints" in (sweep / "0" / "saescope.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["launcher", "no room"])
def test_saes_side_by_side(training, run, how):
    """Bit-equal to training alone; the second job finds its SAE trained."""
    more = ["hydra/launcher=together"] if how == "launcher" else ["runtime.cache=off"]
    words = [*training, "-m", "sae.expansion_factor=2,4", "hydra.sweep.dir=sweep", *more]
    sweep = run("sweep", *words) / "sweep"
    logs = [(sweep / f"{number}" / "saescope.log").read_text() for number in range(2)]
    assert "training 2 SAEs side by side: one pass over 7680 tokens" in logs[0]
    assert "side by side" not in logs[1]
    for number, factor in enumerate((2, 4)):
        words = [
            *training,
            f"sae.expansion_factor={factor}",
            "hydra.run.dir=alone",
            *more[how == "launcher" :],
        ]
        alone = run(f"alone{factor}", *words) / "alone"
        one, other = (
            load_file(next(folder.rglob("sae.safetensors"))) for folder in (alone, sweep / f"{number}")
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert metrics(sweep / f"{number}") == pytest.approx(metrics(alone), rel=1e-6, nan_ok=True)
        curves = [(folder / "history.csv").read_text() for folder in (alone, sweep / f"{number}")]
        assert curves[0] == curves[1]


def test_no_side_by_side_where_activations_are_stored(training, run):
    words = [*training, "-m", "sae.expansion_factor=2,4", "hydra.sweep.dir=sweep"]
    sweep = run("sweep", *words) / "sweep"
    text = (sweep / "0" / "saescope.log").read_text()
    assert "side by side" not in text
    assert "tokens are stored once for the 2 SAEs of the sweep" in text
