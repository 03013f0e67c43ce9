"""Whole jobs on a CUDA GPU beside the same jobs on the CPU (make test-gpu)."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from saescope.cli.main import main
from tests.support.accelerator import cuda_device

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(240)]

SMALL = [
    "metrics=quick", "metrics.permutations=100", "metrics.bootstraps=50", "tracking=disabled",
    "probes.max_tokens_per_task=2500", "metrics.lm_tokens=3000", "metrics.min_count=20", "hydra.run.dir=run",
]  # fmt: skip
TRAIN = [
    "sae=train", "sae.expansion_factor=4", "sae.k=16", "sae.tokens=60000", "sae.batch_tokens=2048",
    "corpus.holdout_tokens=8192",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _a_gpu():
    assert torch.cuda.is_available(), "these tests need a CUDA GPU and PyTorch built for it"


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    def run(folder, *words):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr(sys, "argv", ["saescope", *SMALL, *words])
        logging.getLogger().handlers.clear()
        assert main() == 0, capfd.readouterr().err[-3000:]
        capfd.readouterr()
        return tmp_path / folder / "run"

    return run


def metrics(folder):
    values = json.loads((folder / "metrics.json").read_text())
    return {k: math.nan if v is None else v for k, v in values.items() if not k.startswith("cost/")}


def assert_close(on_gpu, on_cpu, tolerance):
    """Every metric; those of found communities may jump with a single edge and have more room."""
    actual, expected = metrics(on_gpu), metrics(on_cpu)
    assert actual.keys() == expected.keys()
    far = {}
    for key, value in expected.items():
        room = 10 if key.startswith(("q/", "matched_q")) or key.endswith(("_p", "/p", "_z", "/z")) else 1
        if not np.isclose(actual[key], value, rtol=room * tolerance, atol=room * tolerance, equal_nan=True):
            far[key] = (actual[key], value)
    assert not far


HOOKPOINTS = {
    "resid": [],
    "mlp": ["hookpoint=mlp", "hookpoint.layer=3"],
    "random": ["sae=random", "sae.expansion_factor=4", "sae.k=16"],
    "neurons": ["sae=neurons"],
    "pca": ["sae=pca"],
}


@pytest.mark.parametrize("name", HOOKPOINTS)
def test_the_metrics_of_the_cpu(run, name):
    words = [*HOOKPOINTS[name], "runtime.dtype=float32"]
    on_gpu = run("gpu", *words, "runtime.device=cuda")
    on_cpu = run("cpu", *words, "runtime.device=cpu")
    assert_close(on_gpu, on_cpu, 2e-3)
    provenance = json.loads((on_gpu / "provenance.json").read_text())
    assert provenance["machine"]["device"] == "cuda"


def test_native_precision_is_bfloat16_and_near(run):
    on_gpu = run("gpu", "runtime.device=auto")
    provenance = json.loads((on_gpu / "provenance.json").read_text())
    assert (provenance["machine"]["device"], provenance["machine"]["dtype"]) == ("cuda", "bfloat16")
    on_cpu = run("cpu", "runtime.dtype=float32", "runtime.device=cpu")
    actual, expected = metrics(on_gpu), metrics(on_cpu)
    for key in ("sae/fvu", "lm/ce", "lm/ce_spliced", "lm/ce_score", "si/mean", "si/mutual_info"):
        assert actual[key] == pytest.approx(expected[key], rel=0.03, abs=0.01), key


def test_dynamic_k_and_causal(run):
    words = [
        "runtime.dtype=float32", "dynamic_k=mlp", "dynamic_k.k=[0.5]", "dynamic_k.scores=[abs_act]",
        "dynamic_k.granularities=[token,task]", "dynamic_k.tokens=1024", "dynamic_k.calibration_tokens=2048",
        "dynamic_k.rounds=2", "dynamic_k.new_tokens=4", "dynamic_k.bootstraps=50",
        "causal=ablate", "causal.tokens=600", "causal.sizes=[0.1]", "causal.attribution_tokens=2048",
        "causal.bootstraps=50", "probes.max_tokens_per_task=1500",
    ]  # fmt: skip
    on_gpu = run("gpu", *words, "runtime.device=cuda")
    on_cpu = run("cpu", *words, "runtime.device=cpu")
    assert (on_gpu / "causal.parquet").is_file()
    actual, expected = (pd.read_parquet(folder / "causal.parquet") for folder in (on_gpu, on_cpu))
    assert list(actual) == list(expected)
    assert len(actual) == len(expected)
    for key, value in metrics(on_cpu).items():
        if key.startswith("causal/") and key.endswith(("own_ce", "others_ce", "selectivity")):
            assert metrics(on_gpu)[key] == pytest.approx(value, rel=0.05, abs=0.02), key


@pytest.mark.parametrize(
    "recipe", [[], ["sae.optimizer=adam"], ["sae.optimizer=muon"], ["sae.auxk_alpha=0.03"]]
)
def test_training(run, recipe):
    words = [*TRAIN, *recipe, "runtime.dtype=float32"]
    on_gpu = run("gpu", *words, "runtime.device=cuda")
    on_cpu = run("cpu", *words, "runtime.device=cpu")
    actual, expected = metrics(on_gpu), metrics(on_cpu)
    assert actual["sae/fvu"] == pytest.approx(expected["sae/fvu"], rel=0.05)
    assert actual["sae/l0"] == pytest.approx(expected["sae/l0"], abs=0.05)


def test_training_in_native_precision(run):
    on_gpu = run("gpu", *TRAIN, "runtime.device=cuda")
    on_cpu = run("cpu", *TRAIN, "runtime.dtype=float32", "runtime.device=cpu")
    assert metrics(on_gpu)["sae/fvu"] == pytest.approx(metrics(on_cpu)["sae/fvu"], rel=0.08)


def test_a_killed_training_goes_on(tmp_path, run):
    words = [*SMALL, *TRAIN, "sae.tokens=400000", "sae.save_every=20", "runtime.device=cuda"]
    whole = run("whole", *words)
    (tmp_path / "killed").mkdir()
    command = [sys.executable, "-m", "saescope", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path / "killed", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    until = time.monotonic() + 240
    while not list((tmp_path / "killed").rglob("checkpoint*.pt")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert process.poll() is None, "over before its first checkpoint was seen"
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = run("killed", *words)
    assert metrics(resumed)["sae/fvu"] == pytest.approx(metrics(whole)["sae/fvu"], rel=0.02)


def test_one_pass_for_all_hookpoints(run, tmp_path):
    """Jobs that share a pass measure what each measures alone."""
    words = ["sae=neurons", "runtime.device=cuda", "runtime.dtype=float32", "metrics.lm_tokens=0"]
    run("sweep", "-m", "hookpoint.layer=1,2,3", *words, "hydra.sweep.dir=run")
    for number, layer in enumerate((1, 2, 3)):
        alone = run(f"alone{layer}", *words, f"hookpoint.layer={layer}")
        assert_close(tmp_path / "sweep/run" / str(number), alone, 1e-4)


def test_saes_side_by_side(run, tmp_path):
    """Each is the SAE that is trained alone."""
    words = [*(w for w in TRAIN if w != "sae.k=16"), "runtime.device=cuda", "metrics.lm_tokens=0"]
    run("together", "-m", "sae.k=8,16", "hydra/launcher=together", *words, "hydra.sweep.dir=run")
    for number, k in enumerate((8, 16)):
        alone = run(f"alone{k}", *words, f"sae.k={k}")
        weights = [
            load_file(next((folder / "sae").rglob("sae.safetensors")))
            for folder in (tmp_path / "together/run" / str(number), alone)
        ]
        for name, values in weights[1].items():
            torch.testing.assert_close(weights[0][name], values, rtol=1e-3, atol=1e-4)


def test_waits_are_those_that_cuda_sees(monkeypatch):
    """What the tests on a device count, beside CUDA's own warnings: none is missed."""
    x = torch.randn(64, 8, device="cuda")
    with cuda_device(monkeypatch) as device:
        device.forget()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                _ = x[x > 0], x.sum().item(), (x > 0).nonzero(), x.cpu()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        seen = [str(w.message) for w in caught if "synchronizing" in str(w.message)]
        assert len(seen) == sum(device.waits.values())
