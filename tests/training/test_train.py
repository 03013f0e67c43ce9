"""`sae=train` as users type it: trains, measures, saves what sparsify loads, reuses the cache, resumes."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import wandb
import yaml

from saescope.cli.main import main
from tests.support.wandb_log import load, logs

TRAIN = [
    "sae=train", "sae.k=8", "sae.expansion_factor=4", "sae.tokens=20000", "sae.batch_tokens=512",
    "sae.save_every=5", "corpus.ctx_len=64", "corpus.holdout_tokens=2048", "metrics=quick",
    "metrics.lm_tokens=0", "probes.ctx_len=64", "hookpoint.layer=2", "tracking=disabled",
    "runtime.cache=cache",
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path, probes):
    """Local training text: the words of the probe tasks, other documents."""
    from tests.conftest import write_probes

    folder = write_probes(tmp_path / "corpus", documents=150, words=80, seed=7)
    return str(folder)


@pytest.fixture
def here(model_folder, probes, corpus):
    probing = ["probes=folder", f"probes.path={probes}"]
    return [
        "model=local",
        f"model.name={model_folder}",
        *probing,
        *TRAIN,
        "corpus=local",
        f"corpus.path={corpus}",
    ]


@pytest.fixture
def saescope(monkeypatch, capfd):
    def run(*args):
        monkeypatch.setattr(sys, "argv", ["saescope", *args])
        logging.getLogger().handlers.clear()
        code = main()
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_trains_measures_and_saves(saescope, here, tmp_path):
    from sparsify import Sae

    code, out, err = saescope(*here, "hydra.run.dir=run", "tracking=offline")
    assert (code, err) == (0, "")
    wandb.teardown()
    logged = load(logs(tmp_path / "run")[0])
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    media = ("_", "hist/", "tables/", "pages/")
    summary = {k: v for k, v in logged["summary"].items() if not k.startswith(media)}
    assert summary == {k: v for k, v in metrics.items() if v is not None}
    curve = [row["train/fvu"] for row in logged["history"] if "train/fvu" in row]
    assert len(curve) == 20000 // 512
    (artifact,) = [a for a in logged["artifacts"] if a["type"] == "sae"]
    assert set(artifact["paths"]) == {"cfg.json", "sae.safetensors"}
    assert "activation cache: miss" in out
    assert Sae.load_from_disk(tmp_path / "run/sae/layers.2").num_latents == 128
    assert set(Sae.load_many(str(tmp_path / "run/sae"), local=True)) == {"layers.2"}
    history = pd.read_csv(tmp_path / "run/history.csv")
    assert history.step.tolist() == list(range(1, 20000 // 512 + 1))
    assert history.fvu.iloc[-1] < history.fvu.iloc[0]
    trained = json.loads((tmp_path / "run/metrics.json").read_text())
    assert trained["sae/fvu"] < 0.9

    measured = [a for a in here if not a.startswith(("sae", "corpus"))]
    assert saescope(*measured, "sae.repo=run/sae", "hydra.run.dir=hub")[0] == 0
    again = json.loads((tmp_path / "hub/metrics.json").read_text())
    assert {k for k in again if again[k] != trained[k]} <= {k for k in again if k.startswith("cost/")}

    with (tmp_path / "corpus/letters.jsonl").open("a") as file:
        file.write('{"text": "another document of the training text"}\n')
    assert "finished result" not in saescope(*here, "hydra.run.dir=edited")[1]

    code, out, _ = saescope(*here, "hydra.run.dir=wider", "sae.expansion_factor=8")
    assert code == 0
    assert "activation cache: hit" in out
    assert "training tokens from" not in out  # the rows were found too


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sae.k=1000"], ["1000", "128 latents"]),
        (["sae.optimizer=sgd"], ["signum, adam, muon"]),
        (["corpus.path=nowhere"], ["nowhere"]),
        (["sae.batch_tokens=10000000"], ["sae.tokens=20000 is less than one batch of 10000000"]),
        (["sae.batch_tokens=10000000", "sae.tokens=10000000"], ["training tokens", "needed"]),
        (["sae.lr=1e30", "sae.optimizer=adam", "sae.lr_warmup_steps=0"], ["loss", "smaller lr"]),
        (["runtime.devices=9"], ["9 processes cannot share"]),
        (["runtime.num_nodes=2"], ["runtime.num_nodes=1"]),
        (["corpus.ctx_len=4096"], ["exceeds the model's context of 128"]),
    ],
)
def test_errors_are_one_line(saescope, here, args, words):
    code, _, err = saescope(*here, *args)
    assert code == 1
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["corpus.path=nowhere"], ["corpus.path=nowhere", "no such file or folder"]),
        (["corpus.text_key=content"], ["no text under 'content'"]),
        (["corpus.source=memmap", "corpus.path=nowhere.bin"], ["nowhere.bin", "no such file"]),
    ],
)
def test_errors_of_the_corpus_come_before_the_model_is_loaded(saescope, here, args, words):
    code, out, err = saescope(*here, *args)
    assert (code, err.count("\n")) == (1, 1), err
    assert all(word in err for word in words), err
    assert "M parameters" not in out


@pytest.mark.parametrize("source", ["pca", "directions"])
def test_errors_of_the_corpus_come_before_the_model_for_directions_too(saescope, here, source):
    of_a_training = ("sae.batch_tokens", "sae.save_every", "sae.expansion_factor", "sae=train")
    words = [word for word in here if not word.startswith(of_a_training)]
    size = ["sae.expansion_factor=4"] if source == "directions" else []
    code, out, err = saescope(*words, f"sae={source}", *size, "corpus.path=nowhere")
    assert (code, err.count("\n")) == (1, 1), err
    assert "corpus.path=nowhere" in err
    assert "M parameters" not in out


@pytest.mark.slow
def test_two_processes_train_and_measure_as_one(saescope, here, tmp_path):
    assert saescope(*here, "hydra.run.dir=one")[0] == 0
    # trainings are found by what they compute, not by how many processes do it
    (tmp_path / "outputs").rename(tmp_path / "first")
    assert saescope(*here, "hydra.run.dir=two", "runtime.devices=2")[0] == 0
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    assert one.step.tolist() == two.step.tolist()
    np.testing.assert_allclose(two.loss, one.loss, rtol=1e-5)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    of_sae = [k for k in metrics[0] if k.startswith(("si/", "q/", "sae/", "features/"))]
    measured = [k for k in of_sae if metrics[0][k] is not None]
    assert measured == [k for k in of_sae if metrics[1][k] is not None]
    assert len(measured) > 30
    for key in measured:
        assert metrics[1][key] == pytest.approx(metrics[0][key], rel=1e-3, abs=1e-3), key


@pytest.mark.slow
def test_a_second_job_skips_the_language_model(saescope, here, caplog):
    """Training, held-out and probe text: the second SAE is made and measured on what the first captured."""
    _, first, _ = saescope(*here, "hydra.run.dir=one")
    assert [word in first for word in ("cache: miss", "cache: hit")] == [True, False]
    _, second, _ = saescope(*here, "hydra.run.dir=two", "sae.k=4")
    assert second.count("cache: hit") == 3
    assert "cache: miss" not in second
    assert "shards written" not in second


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_sigterm_saves_and_the_same_command_goes_on(here, tmp_path, devices):
    command = [sys.executable, "-m", "saescope", *here, "sae.tokens=60000", "sae.save_every=100000",
               "hydra.run.dir=run", f"runtime.devices={devices}", "tracking.mode=offline"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    history = None
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not history:
        time.sleep(0.1)
        history = [p for p in tmp_path.glob("outputs/.trainings/*/history.csv") if p.stat().st_size > 500]
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert list(tmp_path.glob("outputs/.trainings/*/checkpoint.pt"))
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "resuming SAE training at step" in done.stdout
    steps = int(re.search(r"(\d+) steps of", done.stdout)[1])
    assert steps > 100
    assert pd.read_csv(tmp_path / "run/history.csv").step.tolist() == list(range(1, steps + 1))
    stopped, resumed = map(load, logs(tmp_path / "run"))
    assert (stopped["exit_code"], resumed["exit_code"]) == (1, 0)
    assert "interrupted" in stopped["summary"]["error"]
    assert "saescope.log" in stopped["files"]
    points = [sum("train/fvu" in row for row in run["history"]) for run in (stopped, resumed)]
    assert 0 < points[0] < points[1] == steps


@pytest.mark.slow
def test_sigkill_and_the_same_command_again_end_bit_equal(here, tmp_path):
    command = [
        sys.executable,
        "-m",
        "saescope",
        *here,
        "sae.tokens=100000",
        "sae.save_every=10",
        "hydra.run.dir=run",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    env = os.environ | {"SAESCOPE_CACHE": str(tmp_path / "cache")}
    command.append("runtime.cache=auto")
    subprocess.run(command, cwd=whole, env=env, check=True, capture_output=True)
    process = subprocess.Popen(command, cwd=killed, env=env, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(killed.glob("outputs/.trainings/*/checkpoint.pt")):
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (killed / "run" / "metrics.json").exists()
    done = subprocess.run(command, cwd=killed, env=env, check=True, capture_output=True, text=True)
    assert "resuming SAE training" in done.stdout
    name = "run/sae/layers.2/sae.safetensors"
    assert (whole / name).read_bytes() == (killed / name).read_bytes()
    assert (whole / "run/history.csv").read_text() == (killed / "run/history.csv").read_text()


def test_an_sae_is_fine_tuned_at_another_k(saescope, here, sae_folder, tmp_path):
    """The folder decides the width, the job decides k; the tuned SAE is another training when it changes."""
    import torch
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "saes"
    shutil.copytree(sae_folder, copy)
    tuning = [*here, f"sae.finetune={copy}", "sae.k=4"]
    code, _, err = saescope(*tuning, "hydra.run.dir=tuned")
    assert (code, err) == (0, "")
    provenance = json.loads((tmp_path / "tuned/provenance.json").read_text())["sae"]
    assert (provenance["num_latents"], provenance["k"]) == (256, 4)
    assert provenance["finetuned_from"] == str(copy)
    config = yaml.safe_load((tmp_path / "tuned/config.yaml").read_text())["sae"]
    assert config["expansion_factor"] is None
    before = load_file(copy / "layers.2/sae.safetensors")
    after = load_file(tmp_path / "tuned/sae/layers.2/sae.safetensors")
    cosine = torch.cosine_similarity(before["encoder.weight"], after["encoder.weight"])
    assert cosine.median() > 0.9
    assert not torch.equal(before["W_dec"], after["W_dec"])
    assert pd.read_csv(tmp_path / "tuned/history.csv").k.tolist() == [4] * (20000 // 512)

    save_file({name: -weight for name, weight in before.items()}, copy / "layers.2/sae.safetensors")
    assert saescope(*tuning, "hydra.run.dir=edited")[0] == 0
    edited = load_file(tmp_path / "edited/sae/layers.2/sae.safetensors")
    assert torch.cosine_similarity(before["encoder.weight"], edited["encoder.weight"]).median() < -0.9


@pytest.mark.parametrize("skip", [pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "skip"])
def test_a_transcoder_is_trained_saved_and_measured_against_its_target(saescope, here, tmp_path, skip):
    from sparsify import SparseCoder

    transcoding = ["hookpoint=mlp", "sae.transcode=true", f"sae.skip_connection={str(skip).lower()}"]
    # Signum's steps have one size, whatever that of the outputs, which is tiny in a model of random weights
    adam = ["sae.optimizer=adam", "sae.lr=3e-3", "sae.lr_warmup_steps=4"]
    args = [*here, "runtime.dtype=float32", *transcoding, *adam]
    code, out, err = saescope(*args, "hydra.run.dir=run")
    assert (code, err) == (0, "")
    coder = SparseCoder.load_from_disk(tmp_path / "run/sae/layers.2.mlp")
    assert (coder.cfg.transcode, coder.cfg.skip_connection, coder.cfg.k) == (True, skip, 8)
    assert (coder.W_skip is not None) == skip
    assert coder.W_dec.count_nonzero() > 0.9 * coder.W_dec.numel()
    history = pd.read_csv(tmp_path / "run/history.csv")
    assert history.fvu.iloc[-1] < 0.9 * history.fvu.iloc[0]
    provenance = json.loads((tmp_path / "run/provenance.json").read_text())["sae"]
    assert (provenance["transcoder"], provenance["skip_connection"]) == (True, skip)
    trained = json.loads((tmp_path / "run/metrics.json").read_text())
    assert trained["sae/fvu"] < 0.9
    assert 0 < provenance["heldout_fvu"] < 0.5
    assert "sae.freeze" not in (tmp_path / "run/status.json").read_text()

    # both sides were captured at once, and every later transcoder reads them
    code, out, _ = saescope(*args, "sae.k=4", "hydra.run.dir=other")
    assert (code, out.count("cache: hit"), out.count("cache: miss")) == (0, 3, 0)

    measured = [a for a in args if not a.startswith(("sae", "corpus"))]
    assert saescope(*measured, "sae.repo=run/sae", "hydra.run.dir=hub")[0] == 0
    again = json.loads((tmp_path / "hub/metrics.json").read_text())
    assert {k for k in again if again[k] != trained[k]} <= {k for k in again if k.startswith("cost/")}

    tuning = [*args, "sae.finetune=run/sae", "sae.k=4", "hydra.run.dir=tuned"]
    assert saescope(*tuning)[0] == 0
    tuned = json.loads((tmp_path / "tuned/provenance.json").read_text())["sae"]
    assert (tuned["transcoder"], tuned["skip_connection"], tuned["k"]) == (True, skip, 4)
    code, _, err = saescope(*tuning, "sae.transcode=false", "sae.skip_connection=false", "hydra.run.dir=no")
    assert code == 1
    assert "the weights to start from are a transcoder" in err
    assert "set sae.transcode=true" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_frozen_controls_begin_as_the_trained_sae_does(saescope, here, tmp_path):
    """Same seed, same text: frozen weights hold the bits that the trained SAE began with."""
    from safetensors.torch import load_file

    from saescope.config import Recipe
    from saescope.training import new_coder

    initial = new_coder(32, 128, Recipe(k=8)).state_dict()
    identities = set()
    for freeze, frozen in (
        ("none", None),
        ("decoder", "W_dec"),
        ("encoder", "encoder.weight"),
        ("soft", None),
    ):
        code, out, err = saescope(*here, f"sae.freeze={freeze}", f"hydra.run.dir={freeze}")
        assert (code, err) == (0, "")
        assert ("cache: miss" in out) == (freeze == "none")
        weights = load_file(tmp_path / freeze / "sae/layers.2/sae.safetensors")
        assert {name for name in weights if (weights[name] == initial[name]).all()} == {frozen} - {None}
        status = json.loads((tmp_path / freeze / "status.json").read_text())
        identities.add(status["identity"])
        control = f"sae.freeze={freeze} is a control, not a wholly trained SAE."
        assert (control in status["warnings"]) == (freeze != "none")
        provenance = json.loads((tmp_path / freeze / "provenance.json").read_text())["sae"]
        assert (provenance["source"], provenance["freeze"]) == ("train", freeze)
        if freeze == "soft":
            rows, first = weights["W_dec"], initial["W_dec"]
            assert (rows * first).sum(1).div(rows.norm(dim=1)).min() > 0.7999
    assert len(identities) == 4
    assert len(list((tmp_path / "outputs/.trainings").iterdir())) == 4


def test_an_input_cannot_be_transcoded(saescope, here):
    place = ["hookpoint=custom", "hookpoint.name=layers.2.input"]
    args = [a for a in here if not a.startswith("hookpoint")]
    code, _, err = saescope(*args, *place, "sae.transcode=true")
    assert code == 1
    assert "a transcoder predicts a module's output" in err
    assert err.count("\n") == 1
