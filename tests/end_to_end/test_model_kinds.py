"""Whole jobs on kinds of models that are unlike a plain decoder: run, or refused in one line."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf

from saescope.cli.main import main
from saescope.config import ModelConfig
from saescope.errors import ModelError
from saescope.model.load import load_skeleton
from tests.model.architectures import ARCHITECTURES, SIZES

SIZE = SIZES | {"vocab_size": 400}


def folder_of(model, tokenizer_folder: Path, folder: Path) -> Path:
    shutil.copytree(tokenizer_folder, folder)
    model.save_pretrained(folder)
    return folder


def gemma3() -> torch.nn.Module:
    """Text and images; the vision tower is as deep as the text model."""
    architecture = next(a for a in ARCHITECTURES if a.model_type == "gemma3")
    cfg = architecture.config()
    cfg.text_config.vocab_size = 400
    torch.manual_seed(0)
    return hf.AutoModelForCausalLM.from_config(cfg)


def mistral3() -> torch.nn.Module:
    cfg = next(a for a in ARCHITECTURES if a.model_type == "mistral3").config()
    cfg.text_config.vocab_size = 400
    torch.manual_seed(0)
    return hf.AutoModelForImageTextToText.from_config(cfg)


def bert() -> torch.nn.Module:
    torch.manual_seed(0)
    settings = {key: value for key, value in SIZE.items() if key in hf.BertConfig().to_dict()}
    return hf.BertLMHeadModel(hf.BertConfig(**settings))


def bloom() -> torch.nn.Module:
    torch.manual_seed(0)
    return hf.BloomForCausalLM(hf.BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4))


def job(monkeypatch, folder: Path, probes: Path, *overrides: str) -> int:
    args = [
        "model=local", f"model.name={folder}", "sae=neurons", "sae.k=8", "probes=folder",
        f"probes.path={probes}", "probes.ctx_len=32", "metrics=quick", "metrics.permutations=20",
        "metrics.bootstraps=20", "metrics.lm_tokens=200", "probes.max_tokens_per_task=600",
        "tracking=disabled", "runtime.dtype=float32", "hydra.run.dir=run", *overrides,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["saescope", *args])
    return main()


@pytest.mark.parametrize("build", [gemma3, mistral3])
def test_a_composite_model_is_measured_in_its_text_model(
    build, tokenizer_folder, probes, tmp_path, monkeypatch
):
    folder = folder_of(build(), tokenizer_folder, tmp_path / "model")
    assert not hasattr(load_skeleton(ModelConfig(str(folder))).config, "vocab_size")
    assert job(monkeypatch, folder, probes, "hookpoint.layer=1") == 0
    provenance = json.loads(Path("run/provenance.json").read_text())
    assert provenance["hookpoint"]["name"] == "language_model.layers.1"
    assert provenance["hookpoint"]["width"] == 32
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["lm/ce"] > 0


def test_the_context_of_a_composite_model_limits(tokenizer_folder, probes, tmp_path, monkeypatch, capsys):
    folder = folder_of(gemma3(), tokenizer_folder, tmp_path / "model")
    assert job(monkeypatch, folder, probes, "hookpoint.layer=1", "probes.ctx_len=100") != 0
    assert "probes.ctx_len=100 exceeds the model's context of 64 tokens" in capsys.readouterr().err


def test_a_model_that_sees_later_tokens_is_refused(tokenizer_folder, probes, tmp_path, monkeypatch, capsys):
    folder = folder_of(bert(), tokenizer_folder, tmp_path / "model")
    assert job(monkeypatch, folder, probes, "hookpoint.layer=1") != 0
    written = capsys.readouterr().err
    assert "BertModel is not causal: at encoder.layer.1" in written
    assert "Traceback" not in written


def test_what_blooms_mlp_adds_is_not_the_stream(tokenizer_folder, probes, tmp_path, monkeypatch):
    folder = folder_of(bloom(), tokenizer_folder, tmp_path / "model")
    l0 = {}
    for kind in ("mlp", "resid"):
        run = f"hydra.run.dir={kind}"
        assert job(monkeypatch, folder, probes, f"hookpoint={kind}", "hookpoint.layer=1", run) == 0
        l0[kind] = json.loads(Path(f"{kind}/metrics.json").read_text())["sae/mse"]
        name = json.loads(Path(f"{kind}/provenance.json").read_text())["hookpoint"]["name"]
        assert name == {"mlp": "h.1.mlp.dense_4h_to_h", "resid": "h.1"}[kind]
    assert l0["mlp"] != l0["resid"]


def test_a_pattern_of_hookpoints_is_one_line(probes, tmp_path, monkeypatch, capsys):
    overrides = ("hookpoint=custom", "hookpoint.name=layers.*")
    assert job(monkeypatch, tmp_path, probes, *overrides) != 0
    written = capsys.readouterr().err
    assert "one hookpoint a job" in written
    assert "saescope -m hookpoint.layer=0,1,2" in written


def test_the_remedy_of_a_library_is_kept(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}})
    )
    (tmp_path / "own.py").write_text("")
    with pytest.raises(
        ModelError, match=r"custom code .* pass the argument model\.trust_remote_code=true"
    ) as info:
        load_skeleton(ModelConfig(str(tmp_path)))
    assert "\n" not in str(info.value)
