"""A whole job with an SAE of another format, against its formula and a splice written out here."""

import json
import logging
import pickle
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import saescope
from saescope.cli.main import main
from saescope.config import ModelConfig, ProbesConfig
from saescope.model.load import load_model
from saescope.text.windows import tokenize_probes
from tests.sae.formats.test_formats import FAMILIES, D, F, K, inputs, loaded


@pytest.mark.slow
def test_mlsae_at_two_layers(model_folder, probes, monkeypatch, capfd, tmp_path):
    """One file serves a sweep over layers; FVU and spliced loss are those of the formula."""
    (tmp_path / "mlsae").mkdir()
    formula = FAMILIES["mlsae"].write(tmp_path / "mlsae")
    args = [
        "-m", "hookpoint.layer=1,3", "sae.repo=mlsae", "model=local", f"model.name={model_folder}",
        "probes=folder", f"probes.path={probes}", "probes.ctx_len=64", "probes.max_tokens_per_task=1500",
        "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20", "metrics.lm_tokens=100000",
        "tracking=disabled", "hydra.sweep.dir=sweep", "runtime.cache=off", "runtime.dtype=float32",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["saescope", *args])
    logging.getLogger().handlers.clear()
    assert main() == 0, capfd.readouterr().err

    lm = load_model(ModelConfig(str(model_folder)), torch.float32, seed=0)
    cfg = ProbesConfig("folder", path=str(probes), ctx_len=64, max_tokens_per_task=1500)
    windows = tokenize_probes(cfg, lm.tokenizer)
    for folder in (tmp_path / "sweep").glob("*/metrics.json"):
        metrics = json.loads(folder.read_text())
        provenance = json.loads(folder.with_name("provenance.json").read_text())
        layer = provenance["hookpoint"]["layer"]
        assert (provenance["sae"]["format"], provenance["sae"]["k"]) == ("mlsae", K)
        parts, ce = [], []
        for ids, mask in zip(windows.ids, windows.counted, strict=True):
            counted = torch.from_numpy(mask)

            def replace(_module, _args, out, counted=counted, parts=parts):
                y = out[0] if isinstance(out, tuple) else out
                new = y.clone()
                new[0, counted] = formula(y[0, counted])[1]
                parts.append((y[0, counted].double(), new[0, counted].double()))
                return (new, *out[1:]) if isinstance(out, tuple) else new

            handle = lm.model.base_model.layers[layer].register_forward_hook(replace)
            tokens = torch.from_numpy(ids.astype(np.int64))
            with torch.inference_mode():
                logits = lm.model(input_ids=tokens[None]).logits[0, :-1]
            handle.remove()
            ce.append(cross_entropy(logits, tokens[1:], reduction="none")[counted[:-1]])
        y, xhat = (torch.cat(side) for side in zip(*parts, strict=True))
        fvu = ((y - xhat).pow(2).sum() / (y - y.mean(0)).pow(2).sum()).item()
        # single windows and batches differ in the last bit, which may swap near-tied latents
        assert metrics["sae/fvu"] == pytest.approx(fvu, rel=1e-4)
        assert metrics["lm/ce_spliced"] == pytest.approx(torch.cat(ce).double().mean().item(), rel=1e-4)
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2


@pytest.mark.parametrize("name", ["mlsae", "dl gated", "gemma scope 2 transcoder"])
def test_it_goes_to_another_process(tmp_path, name):
    family = FAMILIES[name]
    folder = tmp_path / family.repo
    folder.mkdir(parents=True)
    family.write(folder)
    sae = loaded(str(folder), family.model, family.hookpoint)
    twin = pickle.loads(pickle.dumps(sae))
    x = inputs(D)
    codes = twin.encode(x)
    assert all(torch.equal(a, b) for a, b in zip(codes, sae.encode(x), strict=True))
    assert torch.equal(twin.reconstruct(x, codes), sae.reconstruct(x, codes))
    assert (twin.num_latents, twin.reads) == (F, sae.reads)
    empty = twin.encode(torch.zeros(0, D))
    assert twin.reconstruct(torch.zeros(0, D), empty).shape == (0, D)


def test_layers_as_tasks_of_one_sae_for_all_layers(model_folder, probes, tmp_path):
    """The recipe of docs/saes.md: rates of latents by layer, as the formula gives them."""
    formula = FAMILIES["mlsae"].write(tmp_path)
    lm = saescope.load_model(str(model_folder), dtype="float32")
    sae = saescope.load_sae(tmp_path, "layers.0", model=lm)
    read = [saescope.capture(lm, probes, f"layers.{layer}", max_tokens_per_task=1500) for layer in range(4)]
    layer_N = np.repeat(np.arange(4), [len(x.values) for x in read])
    documents = [f"{layer} {document}" for layer, x in enumerate(read) for document in x.documents]
    result = saescope.measure(
        torch.cat([x.values for x in read]), sae, layer_N, documents, permutations=20, bootstraps=20
    )
    assert 0 < result.metrics["si/mean"] <= 1
    for layer, x in enumerate(read):
        rate_F = (formula(x.values)[0] > 0).double().mean(0).numpy()
        np.testing.assert_allclose(result.features[f"rate_{layer}"], rate_F, atol=2 / len(x.values))
