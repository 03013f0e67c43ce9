"""dictionary_learning folders through `sae=saelens sae.release=FOLDER`, beside sae_lens' own conversion."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders

from saescope.errors import SaeError
from tests.sae.saelens.make import D_IN, D_SAE, dense, ours


def weights(**shapes):
    noise = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=noise) * 0.2 for name, shape in shapes.items()}


LINEAR = {"encoder.weight": (D_SAE, D_IN), "decoder.weight": (D_IN, D_SAE)}
PLAIN = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
GATED = {"decoder_bias": (D_IN,), "r_mag": (D_SAE,), "gate_bias": (D_SAE,), "mag_bias": (D_SAE,)}
STORED = {
    "AutoEncoder": weights(**LINEAR, **{"encoder.bias": (D_SAE,), "bias": (D_IN,)}),
    "GatedAutoEncoder": weights(**LINEAR, **GATED),
    "AutoEncoderTopK": weights(**LINEAR, **{"encoder.bias": (D_SAE,), "b_dec": (D_IN,)})
    | {"k": torch.tensor(6), "threshold": torch.tensor(0.3)},
    "BatchTopKSAE": weights(**LINEAR, **{"encoder.bias": (D_SAE,), "b_dec": (D_IN,)})
    | {"k": torch.tensor(6), "threshold": torch.tensor(0.3)},
    "MatryoshkaBatchTopKSAE": weights(**PLAIN) | {"k": torch.tensor(6), "threshold": torch.tensor(0.3)},
    "JumpReluAutoEncoder": weights(**PLAIN, threshold=(D_SAE,)),
}


def by_definition(kind: str, w: dict, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, from the classes' definitions in dictionary_learning/dictionary.py."""
    if kind == "AutoEncoder":
        acts = torch.relu((x - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"])
        return acts, acts @ w["decoder.weight"].T + w["bias"]
    if kind == "GatedAutoEncoder":
        pre = (x - w["decoder_bias"]) @ w["encoder.weight"].T
        acts = (pre + w["gate_bias"] > 0) * torch.relu(w["r_mag"].exp() * pre + w["mag_bias"])
        return acts, acts @ w["decoder.weight"].T + w["decoder_bias"]
    if kind in ("AutoEncoderTopK", "BatchTopKSAE"):
        acts = torch.relu((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"])
        if kind == "BatchTopKSAE":
            acts = acts * (acts > w["threshold"])
        else:
            top = acts.topk(int(w["k"]), dim=-1)
            acts = torch.zeros_like(acts).scatter_(-1, top.indices, top.values)
        return acts, acts @ w["decoder.weight"].T + w["b_dec"]
    centred = x if kind == "JumpReluAutoEncoder" else x - w["b_dec"]
    pre = centred @ w["W_enc"] + w["b_enc"]
    acts = torch.relu(pre * (pre > w["threshold"]))
    return acts, acts @ w["W_dec"] + w["b_dec"]


def folder(path: Path, kind: str, stored=None, **trainer) -> str:
    """`ae.pt` and `config.json` as dictionary_learning's trainers write them."""
    path.mkdir(parents=True)
    torch.save(STORED[kind] if stored is None else stored, path / "ae.pt")
    described = {
        "trainer_class": "SomeTrainer",
        "dict_class": kind,
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "layer": 2,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "submodule_name": "resid_post_layer_2",
        "k": 6,
    } | trainer
    text = json.dumps({"trainer": described, "buffer": {"d_submodule": D_IN, "ctx_len": 128}})
    (path / "config.json").write_text(text)
    return str(path)


@pytest.mark.parametrize("kind", STORED)
def test_codes_and_reconstructions(tmp_path, model_folder, monkeypatch, kind):
    sae = ours(folder(tmp_path / "d", kind), model_folder)
    x = torch.randn(200, D_IN)
    codes = sae.encode(x)
    acts, rebuilt = by_definition(kind, STORED[kind], x)
    assert 0 < (acts != 0).float().mean() < 1
    torch.testing.assert_close(dense(codes, D_SAE), acts, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(sae.decode(codes), rebuilt, atol=1e-5, rtol=1e-5)
    assert sae.k == (6 if kind == "AutoEncoderTopK" else None)
    assert sae.prepend_bos is None

    # sae_lens' own converter, its download replaced by the folder
    monkeypatch.setattr(
        pretrained_sae_loaders, "hf_hub_download", lambda repo_id, filename, **_: str(tmp_path / filename)
    )
    theirs = SAE.from_pretrained(
        "some/repo", "d", converter=pretrained_sae_loaders.dictionary_learning_sae_huggingface_loader_1
    )
    with torch.no_grad():
        torch.testing.assert_close(dense(codes, D_SAE), theirs.encode(x), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(sae.decode(codes), theirs.decode(theirs.encode(x)), atol=5e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("submodule", "hook"),
    [
        ("resid_post_layer_2", "blocks.2.hook_resid_post"),
        ("resid_out_layer2", "blocks.2.hook_resid_post"),
        ("mlp_out_layer_2", "blocks.2.hook_mlp_out"),
        ("attn_out_layer2", "blocks.2.hook_attn_out"),
    ],
)
def test_its_submodule_is_its_hookpoint(tmp_path, model_folder, submodule, hook):
    release = folder(tmp_path / "d", "AutoEncoder", submodule_name=submodule)
    assert ours(release, model_folder, hookpoint=hook).warnings == ()
    with pytest.raises(SaeError, match=f"use hookpoint=custom hookpoint.name={hook}"):
        ours(release, model_folder, layer=1)


def test_an_unknown_submodule_is_said(tmp_path, model_folder):
    sae = ours(folder(tmp_path / "d", "AutoEncoder", submodule_name=None), model_folder)
    assert any("does not say which hookpoint" in notice for notice in sae.warnings)


@pytest.mark.parametrize(
    ("kind", "trainer", "words"),
    [
        ("CrossCoder", {}, ["dictionary_learning format", "dict_class CrossCoder", "trainer SomeTrainer"]),
        ("IdentityDict", {}, ["dict_class IdentityDict", "not supported", "AutoEncoderTopK"]),
        ("AutoEncoderTopK", {"k": None}, ["no valid trainer.k"]),
        ("AutoEncoder", {"dict_size": 0}, ["no valid trainer.dict_size"]),
        ("AutoEncoder", {"dict_size": 50}, ["config says num_latents 50", "weights have 96"]),
        ("AutoEncoder", {"activation_dim": 64}, ["reads width 64"]),
    ],
)
def test_refused(tmp_path, model_folder, kind, trainer, words):
    release = folder(tmp_path / "d", kind, STORED["AutoEncoder"], **trainer)
    with pytest.raises(SaeError) as info:
        ours(release, model_folder)
    assert "\n" not in str(info.value)
    for word in words:
        assert word in str(info.value), info.value


def test_a_weight_that_is_not_there(tmp_path, model_folder):
    stored = {k: v for k, v in STORED["GatedAutoEncoder"].items() if k != "r_mag"}
    with pytest.raises(SaeError, match="has no r_mag"):
        ours(folder(tmp_path / "d", "GatedAutoEncoder", stored), model_folder)


class Malicious:
    """Unpickled without care, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "code ran")


@pytest.mark.parametrize("how", ["torch", "pickle"])
@pytest.mark.parametrize("forced", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, model_folder, monkeypatch, how, forced):
    trace = tmp_path / "trace"
    evil = {"encoder.weight": Malicious(trace)}
    release = folder(tmp_path / "d", "AutoEncoder")
    if how == "torch":
        torch.save(evil, tmp_path / "d" / "ae.pt")
    else:
        (tmp_path / "d" / "ae.pt").write_bytes(pickle.dumps(evil))
    if forced:  # the user's environment asks for careless loading
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(SaeError, match="would run code"):
        ours(release, model_folder)
    assert not trace.exists()
    if how == "torch":  # the file is as dangerous as it says
        torch.load(tmp_path / "d" / "ae.pt", weights_only=False)
        assert trace.read_text() == "code ran"


def test_a_folder_below(tmp_path, model_folder):
    folder(tmp_path / "all" / "resid_post_layer_2" / "trainer_0", "AutoEncoder")
    release = str(tmp_path / "all")
    with pytest.raises(SaeError, match=r"sae\.id: resid_post_layer_2/trainer_0"):
        ours(release, model_folder)
    assert ours(release, model_folder, id="resid_post_layer_2/trainer_0").num_latents == D_SAE
    shutil.rmtree(tmp_path / "all" / "resid_post_layer_2")
    (tmp_path / "all" / "config.json").write_text("{}")
    with pytest.raises(SaeError, match="holds no SAE in a known format"):
        ours(release, model_folder)
