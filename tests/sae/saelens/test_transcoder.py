"""Transcoders and attention SAEs of sae_lens: read where they say, held against what they predict."""

import dataclasses
import json
import logging
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, Gemma2Config

from saescope.cli.main import main
from saescope.config import HookpointConfig, ModelConfig, ProbesConfig
from saescope.errors import SaeError
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import load_model
from saescope.sae.places import places_of
from saescope.text.windows import tokenize_probes
from tests.sae.saelens.make import D_IN, D_SAE, METADATA, dense, make, ours, saved

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty")

ARCHITECTURES = ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"]
INPUTS = {
    "blocks.2.mlp.hook_in": ("layers.2.mlp", "input"),
    "blocks.2.ln2.hook_normalized": ("layers.2.post_attention_layernorm", "input"),
    "blocks.2.hook_mlp_in": ("layers.2.post_attention_layernorm", "input"),  # of the norm
    "blocks.2.hook_resid_pre": ("layers.2", "input"),
}
OUT = "blocks.2.hook_mlp_out"


def transcoder(architecture="transcoder", hook="blocks.2.mlp.hook_in", d_in=D_IN, d_out=D_IN, **metadata):
    """At random; W_skip too."""
    places = {"hook_name": hook, "hook_name_out": OUT} | metadata
    return make(
        architecture,
        metadata={**METADATA, **places},
        d_in=d_in,
        d_out=d_out,
        apply_b_dec_to_input=False,
    )


def formula(architecture: str, w: dict, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and prediction, as sae_lens/saes/transcoder.py defines them (Dunefsky et al. 2024)."""
    pre = x @ w["W_enc"] + w["b_enc"]
    acts = torch.relu(pre)
    if "jumprelu" in architecture:
        acts = acts * (pre > w["threshold"])
    y = acts @ w["W_dec"] + w["b_dec"]
    return acts, y + x @ w["W_skip"].T if "skip" in architecture else y


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_codes_and_predictions_equal_the_formula(tmp_path, model_folder, architecture):
    inner = transcoder(architecture)
    sae = ours(saved(tmp_path / "s", inner), model_folder, hookpoint=OUT)
    x = torch.randn(200, D_IN)
    with torch.no_grad():
        acts, y = formula(architecture, inner.state_dict(), x)
        codes = sae.encode(x)
        assert 0 < (acts != 0).float().mean() < 1
        torch.testing.assert_close(dense(codes, D_SAE), acts, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(sae.reconstruct(x, codes), y, atol=1e-5, rtol=1e-6)
    assert sae.transcodes
    assert sae.provenance()["transcoder"] is True
    assert sae.provenance()["skip_connection"] is ("skip" in architecture)
    assert sae.provenance()["hook_name_out"] == OUT


def test_input_and_output_of_different_width(tmp_path, model_folder):
    inner = transcoder("skip_transcoder", hook="blocks.2.mlp.hook_post", d_in=64)
    sae = ours(saved(tmp_path / "s", inner), model_folder, hookpoint=OUT)
    x = torch.randn(20, 64)
    with torch.no_grad():
        _, y = formula("skip_transcoder", inner.state_dict(), x)
        torch.testing.assert_close(sae.reconstruct(x, sae.encode(x)), y, atol=1e-5, rtol=1e-6)
    assert (sae.d_in, sae.d_out) == (64, D_IN)


@pytest.mark.parametrize("hook", INPUTS)
def test_where_it_reads(tmp_path, model_folder, hook):
    sae = ours(saved(tmp_path / "s", transcoder(hook=hook)), model_folder, hookpoint=OUT)
    assert (sae.reads.name, sae.reads.side) == INPUTS[hook]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hookpoint": "layers.2"}, ["predicts blocks.2.hook_mlp_out", f"hookpoint.name={OUT}"]),
        ({"hookpoint": "blocks.2.mlp.hook_in"}, [f"use hookpoint=custom hookpoint.name={OUT}"]),
        ({"hookpoint": "layers.1.mlp"}, ["the hookpoint chosen is layers.1.mlp"]),
    ],
)
def test_another_target_names_the_one_to_use(tmp_path, model_folder, values, words):
    with pytest.raises(SaeError) as info:
        ours(saved(tmp_path / "s", transcoder()), model_folder, **values)
    for word in words:
        assert word in str(info.value)


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({"hook_name_out": None}, "metadata.hook_name_out"),
        ({"hook_name": None}, "metadata.hook_name"),
        ({"hook_name": "blocks.2.attn.hook_q"}, "blocks.2.attn.hook_q, which is no hookpoint of this model"),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": True}}, "center_writing_weights"),
    ],
)
def test_refused(tmp_path, model_folder, metadata, word):
    with pytest.raises(SaeError, match=word) as info:
        ours(saved(tmp_path / "s", transcoder(**metadata)), model_folder, hookpoint=OUT)
    assert "\n" not in str(info.value)


def test_the_output_has_the_width_of_the_hookpoint(tmp_path, model_folder):
    with pytest.raises(SaeError, match="predicts width 16"):
        ours(saved(tmp_path / "s", transcoder(d_out=16)), model_folder, hookpoint=OUT)


@pytest.fixture
def saescope(model_folder, probes, monkeypatch, capfd):
    def run(*args):
        common = [
            "model=local", f"model.name={model_folder}", "probes=folder", f"probes.path={probes}",
            "probes.ctx_len=64", "metrics=quick", "metrics.lm_tokens=100000", "tracking=disabled",
            "metrics.permutations=20", "metrics.bootstraps=20", "hydra.run.dir=run", "runtime.cache=cache",
            "runtime.dtype=float32", "sae=saelens", "hookpoint=custom",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["saescope", *common, *args])
        logging.getLogger().handlers.clear()
        code = main()
        return code, capfd.readouterr().err

    return run


def layer_norm(x: torch.Tensor) -> torch.Tensor:
    """hook_normalized: what LayerNorm gives before its gain and bias."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize(
    ("hook", "module", "before"),
    [
        pytest.param("blocks.2.mlp.hook_in", "layers.2.mlp", lambda x: x, marks=pytest.mark.slow),
        ("blocks.2.ln2.hook_normalized", "layers.2.post_attention_layernorm", layer_norm),
    ],
)
def test_a_job_measures_it_against_its_target(saescope, model_folder, probes, tmp_path, hook, module, before):
    inner = transcoder("jumprelu_skip_transcoder", hook=hook)
    with torch.no_grad():
        for p in inner.parameters():
            p.mul_(0.3)
    release = saved(tmp_path / "s", inner)
    code, err = saescope(f"sae.release={release}", f"hookpoint.name={OUT}")
    assert code == 0, err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())

    lm = load_model(ModelConfig(str(model_folder)), torch.float32, seed=0)
    windows = tokenize_probes(ProbesConfig("folder", path=str(probes), ctx_len=64), lm.tokenizer)
    base = lm.model.base_model
    outputs, predictions, ce, l0 = [], [], [], []
    for ids, mask in zip(windows.ids, windows.counted, strict=True):
        counted, seen = torch.from_numpy(mask), []

        def read(_module, args, seen=seen):
            seen.append(args[0])

        def replace(_module, _args, out, counted=counted, seen=seen):
            x = before(seen[-1][0, counted])
            made = inner.forward(x)
            l0.append((inner.encode(x) > 0).sum(1))
            outputs.append(out[0, counted].clone())
            predictions.append(made)
            new = out.clone()
            new[0, counted] = made
            return new

        handles = [
            base.get_submodule(module).register_forward_pre_hook(read),
            base.get_submodule("layers.2.mlp").register_forward_hook(replace),
        ]
        tokens = torch.from_numpy(ids.astype(np.int64))
        with torch.inference_mode():
            logits = lm.model(input_ids=tokens[None]).logits[0, :-1]
        for handle in handles:
            handle.remove()
        ce.append(cross_entropy(logits, tokens[1:], reduction="none")[counted[:-1]])
    y, made = (torch.cat(parts).double() for parts in (outputs, predictions))
    fvu = ((y - made).pow(2).sum() / (y - y.mean(0)).pow(2).sum()).item()
    assert metrics["sae/fvu"] == pytest.approx(fvu, rel=1e-4)
    assert metrics["sae/l0"] == pytest.approx(torch.cat(l0).double().mean().item(), rel=1e-4)
    assert metrics["lm/ce_spliced"] == pytest.approx(torch.cat(ce).double().mean().item(), rel=1e-4)
    assert metrics["cost/tokens"] == len(y)


def gemma2():
    """A random Gemma 2 of two layers whose norms have gains of their own."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, head_dim=12,
        num_key_value_heads=1, intermediate_size=24,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, p in model.named_parameters():
        if "norm" in name:
            p.data.normal_(0, 0.5)
    return model


def test_gemma_scope_transcoders_read_before_the_gain_and_predict_what_is_added():
    """Gemma Scope transcoders (arXiv 2408.05147, section 3.3): the norm's gain is part of the MLP there."""
    model = gemma2()
    meta = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    at = resolve(HookpointConfig("custom", name="blocks.1.hook_mlp_out"), model)
    places = places_of(meta, "t", at=at, model=model, transcoder=True)
    ids = torch.randint(0, 50, (2, 7))
    both = Capture(model, dataclasses.replace(at, side="both", reads=places.reads))
    with torch.no_grad():
        x, y = both(ids).split(16, dim=-1)
        block = model.base_model.layers[1]
        seen = {}
        handles = [
            block.pre_feedforward_layernorm.register_forward_hook(
                lambda m, a, o: seen.update(mid=a[0], normed=o)
            ),
            block.post_feedforward_layernorm.register_forward_hook(lambda m, a, o: seen.update(added=o)),
        ]
        model(ids)
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(x, seen["mid"])
    torch.testing.assert_close(y, seen["added"])
    normalized = places.normalised(x)
    torch.testing.assert_close(normalized * (1 + block.pre_feedforward_layernorm.weight), seen["normed"])


@pytest.mark.parametrize("normed_by", ["hf", "lens"])
def test_gemma_scope_2_transcoders_read_what_the_mlp_reads(normed_by):
    """sae_lens calls the input hook_mlp_in, in TransformerLens before the norm; the files say after."""
    model = gemma2()
    meta = {"hook_name": "blocks.1.hook_mlp_in", "hook_name_out": "blocks.1.hook_mlp_out"}
    if normed_by == "hf":
        meta["hf_hook_name"] = "model.layers.1.pre_feedforward_layernorm.output"
    at = resolve(HookpointConfig("custom", name="blocks.1.hook_mlp_out"), model)
    places = places_of(meta, "t", at=at, model=model, transcoder=True)
    name = "layers.1.mlp" if normed_by == "hf" else "layers.1.pre_feedforward_layernorm"
    assert (places.reads.name, places.reads.side) == (name, "input")
