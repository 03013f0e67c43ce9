"""Releases by name: sae_lens' registry offline, and its own download against a Hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from saescope.errors import SaeError
from tests.sae.saelens.make import make, ours
from tests.sae.saelens.test_dictionary_learning import Malicious
from tests.sae.saelens.test_dictionary_learning import folder as dictionary
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
        sae = ours(release, model_folder, id=sae_id, **values)
        codes = sae.encode(torch.linspace(-2, 2, 5 * sae.d_in).reshape(5, -1))
        out.append({"sum": float(codes.acts.sum()), "notices": sae.warnings, **sae.provenance()})
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
