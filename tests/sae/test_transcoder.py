"""Transcoders encode a module's input and are held against its output, as sparsify's own forward does."""

import json
import logging
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from saescope.cli.main import main
from saescope.config import ModelConfig, ProbesConfig
from saescope.model.load import load_model
from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.text.windows import tokenize_probes

PLACES = {"layers.2.mlp": "hookpoint=mlp", "layers.2.attention": "hookpoint=attention"}


@pytest.fixture
def saescope(model_folder, probes, monkeypatch, capfd):
    def run(*args):
        common = [
            "model=local", f"model.name={model_folder}", "probes=folder", f"probes.path={probes}",
            "probes.ctx_len=64", "metrics=quick", "metrics.lm_tokens=100000", "tracking=disabled",
            "hydra.run.dir=run", "runtime.cache=cache", "runtime.dtype=float32", "sae.repo=saes",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["saescope", *common, *args])
        logging.getLogger().handlers.clear()
        code = main()
        return code, capfd.readouterr().err

    return run


def transcoder(folder, name: str, skip: bool) -> SparseCoder:
    torch.manual_seed(3)
    cfg = SparseCoderConfig(expansion_factor=8, k=8, transcode=True, skip_connection=skip)
    coder = SparseCoder(32, cfg)
    for p in coder.parameters():
        torch.nn.init.normal_(p, std=0.1)
    coder.save_to_disk(folder / name)
    return coder


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", PLACES)
def test_measured_as_sparsify_computes_it(saescope, model_folder, probes, tmp_path, name, skip):
    coder = transcoder(tmp_path / "saes", name, skip)
    code, err = saescope(PLACES[name], "hookpoint.layer=2")
    assert code == 0, err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())

    lm = load_model(ModelConfig(str(model_folder)), torch.float32, seed=0)
    windows = tokenize_probes(ProbesConfig("folder", path=str(probes), ctx_len=64), lm.tokenizer)
    module = lm.model.base_model.get_submodule(name)
    outputs, predictions, ce = [], [], []
    for ids, mask in zip(windows.ids, windows.counted, strict=True):
        counted = torch.from_numpy(mask)

        def replace(_module, args, kwargs, out, counted=counted):
            x = (args[0] if args else kwargs["hidden_states"])[0, counted]
            y = out[0] if isinstance(out, tuple) else out
            made = coder(x, y[0, counted]).sae_out
            outputs.append(y[0, counted].clone())
            predictions.append(made)
            new = y.clone()
            new[0, counted] = made
            return (new, *out[1:]) if isinstance(out, tuple) else new

        handle = module.register_forward_hook(replace, with_kwargs=True)
        tokens = torch.from_numpy(ids.astype(np.int64))
        with torch.inference_mode():
            logits = lm.model(input_ids=tokens[None]).logits[0, :-1]
        handle.remove()
        ce.append(cross_entropy(logits, tokens[1:], reduction="none")[counted[:-1]])
    y, made = (torch.cat(parts).double() for parts in (outputs, predictions))
    fvu = ((y - made).pow(2).sum() / (y - y.mean(0)).pow(2).sum()).item()
    # single windows and batches differ in the last bit, which may swap near-tied latents
    assert metrics["sae/fvu"] == pytest.approx(fvu, rel=1e-4)
    assert metrics["lm/ce_spliced"] == pytest.approx(torch.cat(ce).double().mean().item(), rel=1e-4)
    assert metrics["cost/tokens"] == len(y)
    assert json.loads((tmp_path / "run/provenance.json").read_text())["sae"]["transcoder"] is True


def test_an_input_has_no_transcoder(saescope, tmp_path):
    transcoder(tmp_path / "saes", "layers.2.input", False)
    code, err = saescope("hookpoint=custom", "hookpoint.name=blocks.2.hook_resid_pre")
    assert code == 1
    assert err.count("\n") == 1
    assert "a transcoder predicts a module's output" in err
