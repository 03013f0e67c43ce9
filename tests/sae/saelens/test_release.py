"""Releases by name: sae_lens' registry offline, and its own download against a Hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from safetensors.torch import save_file

from saescope.errors import SaeError
from tests.sae.formats.test_dictionary_learning import Malicious
from tests.sae.formats.test_dictionary_learning import folder as dictionary
from tests.sae.saelens.make import make, ours
from tests.support.hub import serve

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty")

SCRIPT = """
import json, sys, torch
from saescope.errors import SaeError
from tests.sae.saelens.make import dense, ours
model_folder, requests = json.loads(sys.argv[1])
out = []
for release, sae_id, values in requests:
    try:
        sae = ours(release, values.pop("model_folder", model_folder), id=sae_id, **values)
        x = torch.linspace(-2, 2, 5 * sae.d_in).reshape(5, -1)
        codes = sae.encode(x)
        out.append({"sum": float(codes.acts.sum()), "notices": sae.warnings, **sae.provenance()})
        out[-1] |= {"acts": dense(codes, sae.num_latents).tolist(), "out": sae.reconstruct(x, codes).tolist()}
        out[-1]["reads"] = sae.reads and sae.reads.label
    except SaeError as error:
        out.append(str(error))
print(json.dumps(out))
"""
ROOT = Path(__file__).parents[3]


def run_loads(endpoint, cache, model_folder, *requests, **env):
    """Load each (release, id, values) in a fresh process: the Hub client reads its settings at import."""
    env = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **env,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([str(model_folder), requests])],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("release", "sae_id", "first"),
    [
        ("gpt2-small-res-jbb", "x", "nearest first: gpt2-small-res-jb, "),
        ("pythia-70m-res-sm", "x", "nearest first: pythia-70m-deduped-res-sm, "),
        ("gpt2-small-res-jb", "blocks.8.hook_resid", "nearest first: blocks.8.hook_resid_pre, "),
        ("gpt2-small-res-jb", "blocks.88.hook_resid_pre", "has no sae.id=blocks.88.hook_resid_pre; nearest"),
        ("gpt2-small-res-jb", None, "needs sae.id; nearest first: blocks.0.hook_resid_pre, "),
        ("jbloom/GPT2-Small-SAEs-Reformatted", "x", "give one of them: gpt2-small-res-jb"),
        ("someone/unregistered", None, "needs sae.id, the folder of the SAE"),
        ("a/b/c", "x", "no release of sae_lens, no folder, and no Hub id"),
    ],
)
def test_unknown_names_list_the_nearest_first(model_folder, release, sae_id, first):
    with pytest.raises(SaeError) as info:
        ours(release, model_folder, id=sae_id)
    assert first in str(info.value)
    assert "\n" not in str(info.value)


def test_offline_is_one_line(model_folder):
    with pytest.raises(SaeError, match="cannot be reached and is not in the local cache") as info:
        ours("gpt2-small-res-jb", model_folder, id="blocks.8.hook_resid_pre")
    assert "\n" not in str(info.value)


@pytest.mark.slow  # the Hub client tries again for half a minute
def test_a_dead_endpoint_is_one_line(model_folder, tmp_path):
    (answer,) = run_loads(
        "http://127.0.0.1:9", tmp_path, model_folder, ("gpt2-small-res-jb", "blocks.8.hook_resid_pre", {})
    )
    assert "cannot be reached and is not in the local cache; check the network" in answer


@pytest.mark.slow
def test_loading_through_sae_lens_own_download(model_folder, tmp_path):
    """Registered releases of two formats, an unregistered repository; old configs as they lie on the Hub."""
    known = get_pretrained_saes_directory()
    repos = {
        name: tmp_path / "hub" / name.replace("/", "--")
        for name in (
            known["gpt2-small-res-jb"].repo_id,
            "canrager/lm_sae",
            "me/mine",
            "EleutherAI/sae-pythia-70m-32k",
        )
    }
    res_jb = make("standard", d_in=32)
    place = repos[known["gpt2-small-res-jb"].repo_id] / "blocks.2.hook_resid_pre"
    res_jb.save_model(place)
    old = {"d_in": 32, "d_sae": 96, "dtype": "torch.float32", "device": "mps", "model_name": "gpt2-small"}
    old |= {"hook_point": "blocks.2.hook_resid_pre", "prepend_bos": True, "context_size": 128}
    (place / "cfg.json").write_text(json.dumps(old))

    bench = known["sae_bench_pythia70m_sweep_topk_ctx128_0730"]
    bench_id, bench_path = next(iter(bench.saes_map.items()))
    layer = {"layer": int(bench_id.split(".")[1])}
    dictionary(repos["canrager/lm_sae"] / bench_path, "AutoEncoderTopK", **layer)
    evil_id, evil_path = list(bench.saes_map.items())[1]
    dictionary(repos["canrager/lm_sae"] / evil_path, "AutoEncoderTopK", **layer)
    trace = tmp_path / "trace"
    torch.save({"encoder.weight": Malicious(trace)}, repos["canrager/lm_sae"] / evil_path / "ae.pt")

    inner = make("jumprelu")
    inner.save_model(repos["me/mine"] / "layer_2")
    repos["EleutherAI/sae-pythia-70m-32k"].mkdir(parents=True)

    requests = [
        ("gpt2-small-res-jb", "blocks.2.hook_resid_pre", {"hookpoint": "blocks.2.hook_resid_pre"}),
        ("gpt2-small-res-jb", "blocks.2.hook_resid_pre", {"layer": 3}),
        ("sae_bench_pythia70m_sweep_topk_ctx128_0730", bench_id, layer),
        ("sae_bench_pythia70m_sweep_topk_ctx128_0730", evil_id, layer),
        ("me/mine", "layer_2", {"layer": 2}),
        ("me/mine", "layer_3", {"layer": 2}),
        ("me/missing", "layer_2", {"layer": 2}),
        ("EleutherAI/sae-pythia-70m-32k", "layers.2", {"layer": 2}),
    ]
    with serve(repos) as (endpoint, seen):
        found = run_loads(
            endpoint, tmp_path / "cache", model_folder, *requests, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"
        )
        weights = [path for _, path in seen if path.endswith("sae_weights.safetensors")]
        wrong = run_loads(endpoint, tmp_path / "empty", model_folder, requests[1])
        assert [p for _, p in seen if p.endswith("sae_weights.safetensors")] == weights  # config only
    offline = run_loads(endpoint, tmp_path / "cache", model_folder, *requests[:3], HF_HUB_OFFLINE="1")
    assert offline == found[:3]
    jb, mismatch, topk, evil, own, no_id, no_repo, sparsify = found

    x = torch.linspace(-2, 2, 5 * 32).reshape(5, -1)
    with torch.no_grad():
        centred = res_jb.encode(x - x.mean(-1, keepdim=True)).sum().item()
        assert jb["sum"] == pytest.approx(centred, rel=1e-5)
        assert own["sum"] == pytest.approx(inner.encode(x).sum().item(), rel=1e-5)
    assert jb["centred_input"] is True  # the registry says center_writing_weights for this release
    assert any("center_writing_weights" in notice for notice in jb["notices"])
    assert (jb["prepend_bos"], jb["repo"]) == (True, known["gpt2-small-res-jb"].repo_id)
    assert "use hookpoint=custom hookpoint.name=blocks.2.hook_resid_pre" in mismatch
    assert wrong == [mismatch]
    assert (topk["k"], topk["architecture"], topk["format"]) == (6, "topk", "dictionary_learning_1")
    assert "would run code" in evil
    assert not trace.exists()
    assert own["architecture"] == "jumprelu"
    assert "no SAE in SAELens layout" in no_id
    assert "no such repository" in no_repo
    assert sparsify.endswith("sae=hub sae.repo=EleutherAI/sae-pythia-70m-32k")
    assert all("\n" not in answer for answer in found if isinstance(answer, str))


def config_folder(folder: Path, model_type: str, **values) -> str:
    """A model folder with a config and nothing else, width 32, four layers."""
    sizes = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 12}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **sizes, **values}))
    return str(folder)


def random_weights(seed: int, **shapes) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=noise) * 0.3 for name, shape in shapes.items()}
    return {name: w.abs() if "threshold" in name else w for name, w in made.items()}


@pytest.mark.slow
def test_transcoders_and_attention_saes_through_sae_lens_own_download(model_folder, tmp_path):
    """In the layouts of their repositories; codes and predictions equal to formulas written out here."""
    known = get_pretrained_saes_directory()
    hub = {name: tmp_path / "hub" / name.replace("/", "--") for name in (
        "mwhanna/qwen3-4b-transcoders", "mntss/clt-gemma-2-2b-2.5M", "google/gemma-scope-2-270m-pt",
    )}  # fmt: skip
    for folder in hub.values():
        folder.mkdir(parents=True)
    D, F, H = 32, 96, 48

    qwen = random_weights(1, W_enc=(F, D), b_enc=(F,), W_dec=(F, D), b_dec=(D,))
    place = hub["mwhanna/qwen3-4b-transcoders"]
    save_file(qwen, place / "layer_2.safetensors")
    (place / "config.yaml").write_text("model_name: Qwen/Qwen3-4B\n")
    (place / "wandb-config.yaml").write_text(
        f"d_model: {{value: {D}}}\nd_feature: {{value: {F}}}\nbatch_size: {{value: 128}}\n"
    )

    clt = random_weights(2, W_enc_1=(F, D), b_enc_1=(F,), b_dec_1=(D,))
    clt_dec = random_weights(3, W_dec_1=(F, 3, D))
    place = hub["mntss/clt-gemma-2-2b-2.5M"]
    save_file(clt, place / "W_enc_1.safetensors")
    save_file(clt_dec, place / "W_dec_1.safetensors")
    (place / "config.yaml").write_text(
        "model_name: google/gemma-2-2b\nfeature_input_hook: hook_resid_mid\n"
        "feature_output_hook: hook_mlp_out\n"
    )

    place = hub["google/gemma-scope-2-270m-pt"]
    gemma, gemma_ids = {}, {}
    for number, (kind, release, width) in enumerate(
        [
            ("transcoder_all", "transcoders-all", D),
            ("attn_out_all", "att-all", H),
            ("resid_post_all", "res-all", D),
        ]
    ):
        name = f"gemma-scope-2-270m-pt-{release}"
        tail = "_affine" if number == 0 else ""
        gemma_ids[kind] = (name, f"layer_0_width_16k_l0_small{tail}")
        folder = place / known[name].saes_map[gemma_ids[kind][1]]
        shapes = {
            "w_enc": (width, F),
            "w_dec": (F, width),
            "b_enc": (F,),
            "b_dec": (width,),
            "threshold": (F,),
        }
        if number == 0:
            shapes["affine_skip_connection"] = (D, D)
        gemma[kind] = random_weights(4 + number, **shapes)
        folder.mkdir(parents=True)
        save_file(gemma[kind], folder / "params.safetensors")
        before, after = (
            "model.layers.0.pre_feedforward_layernorm.output",
            "model.layers.0.post_feedforward_layernorm",
        )
        cfg = {
            "architecture": "jump_relu",
            "model_name": "google/gemma-3-270m-pt",
            "hf_hook_point_in": before,
        }
        if number == 0:
            cfg |= {"hf_hook_point_out": f"{after}.output", "affine_connection": True}
        (folder / "config.json").write_text(json.dumps(cfg))

    qwen3 = config_folder(tmp_path / "m" / "qwen3", "qwen3")
    gemma2 = config_folder(tmp_path / "m" / "gemma2", "gemma2")
    gemma3 = config_folder(tmp_path / "m" / "gemma3", "gemma3_text")
    requests = [
        ("mwhanna-qwen3-4b-transcoders", "layer_2", {"model_folder": qwen3, "hookpoint": "layers.2.mlp"}),
        ("mntss-gemma-2-2b-2.5m-clt-as-per-layer", "layer_1",
         {"model_folder": gemma2, "hookpoint": "blocks.1.hook_mlp_out"}),
        (*gemma_ids["transcoder_all"], {"model_folder": gemma3, "hookpoint": "blocks.0.hook_mlp_out"}),
        (*gemma_ids["attn_out_all"],
         {"model_folder": gemma3, "hookpoint": "blocks.0.attn.hook_z", "d_in": H}),
        (*gemma_ids["resid_post_all"], {"model_folder": gemma3, "layer": 0}),
        (*gemma_ids["transcoder_all"], {"model_folder": gemma3, "hookpoint": "layers.0.mlp"}),
    ]  # fmt: skip
    with serve(hub) as (endpoint, _):
        found = run_loads(endpoint, tmp_path / "cache", model_folder, *requests)
    assert all(isinstance(answer, dict) for answer in found[:5]), found
    assert [answer["transcoder"] for answer in found[:5]] == [True, True, True, False, False]
    assert [answer["reads"] for answer in found[:5]] == [
        "layers.2.mlp.input", "layers.1.pre_feedforward_layernorm.input", "layers.0.mlp.input", None, None,
    ]  # fmt: skip
    assert "use hookpoint=custom hookpoint.name=blocks.0.hook_mlp_out" in found[5]
    assert any("cross-layer transcoder" in notice for notice in found[1]["notices"])
    assert not any("cross-layer" in notice for answer in found[2:5] for notice in answer["notices"])

    x, wide = (torch.linspace(-2, 2, 5 * width).reshape(5, -1) for width in (D, H))
    relu = torch.relu(x @ qwen["W_enc"].T + qwen["b_enc"])
    clt_acts = torch.relu(x @ clt["W_enc_1"].T + clt["b_enc_1"])
    wanted = [
        (relu, relu @ qwen["W_dec"] + qwen["b_dec"]),
        (clt_acts, clt_acts @ clt_dec["W_dec_1"].sum(1) + clt["b_dec_1"]),
    ]
    for kind, inputs in (("transcoder_all", x), ("attn_out_all", wide), ("resid_post_all", x)):
        # arXiv 2407.14435, equation 2; the affine connection of Gemma Scope 2 is stored (d_in, d_out)
        w = gemma[kind]
        pre = inputs @ w["w_enc"] + w["b_enc"]
        acts = pre * (pre > w["threshold"]) * (pre > 0)
        out = acts @ w["w_dec"] + w["b_dec"]
        wanted.append((acts, out + inputs @ w["affine_skip_connection"] if kind == "transcoder_all" else out))
    for answer, (acts, out) in zip(found[:5], wanted, strict=True):
        assert 0 < (acts != 0).float().mean() < 1
        torch.testing.assert_close(torch.tensor(answer["acts"]), acts, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(torch.tensor(answer["out"]), out, atol=1e-5, rtol=1e-6)


@pytest.mark.slow
def test_the_embedding_saes_of_gemma_scope_are_the_same_by_both_ways(model_folder, tmp_path):
    """Trained on the rows of the embedding matrix, which Gemma multiplies by the root of the width."""
    repo, sae_id, d, f = "google/gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6", 2304, 4096
    folder = tmp_path / "gemma-scope-2b-pt-res" / sae_id
    folder.mkdir(parents=True)
    w = random_weights(9, W_enc=(d, f), W_dec=(f, d), b_enc=(f,), b_dec=(d,), threshold=(f,))
    np.savez(folder / "params.npz", **{name: (tensor * 0.1).numpy() for name, tensor in w.items()})
    gemma = config_folder(tmp_path / "m", "gemma2", hidden_size=d)
    place = {"model_folder": gemma, "hookpoint": "hook_embed", "d_in": d}
    with serve({repo: tmp_path / "gemma-scope-2b-pt-res"}) as (endpoint, _):
        (answer,) = run_loads(
            endpoint, tmp_path / "cache", model_folder, ("gemma-scope-2b-pt-res", sae_id, place)
        )
    x = torch.linspace(-2, 2, 5 * d).reshape(5, -1)
    w = {name: tensor * 0.1 for name, tensor in w.items()}
    pre = x / d**0.5 @ w["W_enc"] + w["b_enc"]
    acts = torch.relu(pre) * (pre > w["threshold"])
    out = (acts @ w["W_dec"] + w["b_dec"]) * d**0.5
    torch.testing.assert_close(torch.tensor(answer["acts"]), acts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.tensor(answer["out"]), out, atol=1e-3, rtol=1e-5)
    native = ours(str(folder), gemma, hookpoint="hook_embed", d_in=d)  # the folder, without sae_lens
    torch.testing.assert_close(native.reconstruct(x, native.encode(x)), out, atol=1e-3, rtol=1e-5)
