"""`sae.repo=owner/name` through the genuine Hub client, against a server on loopback."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.hub import COMMIT, Fault, commit_of, serve

pytestmark = pytest.mark.timeout(900)  # every load is a fresh process that imports torch

NOBODY = "http://127.0.0.1:9"
SCRIPT = """
import json, logging, sys, torch
logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s")
from saescope.config import HubSae
from saescope.errors import SaescopeError
from saescope.sae import load
out = []
for repo, hookpoint, revision in json.loads(sys.argv[1]):
    try:
        cfg = HubSae(repo=repo, revision=revision)
        sae = load(cfg, d_in=32, hookpoint=hookpoint, model_sae_repo="me/known", model_name="m",
                   dtype=torch.float32)
        weights = float(sae.coder.encoder.weight.double().sum())
        out.append({"weights": weights, "k": sae.k, "warnings": sae.warnings, **sae.provenance()})
    except SaescopeError as error:
        out.append(str(error))
print(json.dumps(out))
"""


def environment(endpoint, cache, **values):
    """For a fresh process: the client reads its settings at import."""
    return os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **values,
    }


def ask(endpoint, cache, *asked, **values):
    """Load each (repo, hookpoint, revision) in a fresh process; returns what came of each, and the log."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(asked)],
        env=environment(endpoint, cache, **values),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all("\n" not in message for message in found if isinstance(message, str))
    return found, done.stderr


def weights_of(folder):
    return pytest.approx(float(load_file(folder / "sae.safetensors")["encoder.weight"].double().sum()))


def test_only_the_asked_hookpoint_is_downloaded_and_errors_name_what_is_there(sae_folder, tmp_path):
    with serve({"me/saes": sae_folder}) as (endpoint, seen):
        (found, missing, revision, repo, traversal), _ = ask(
            endpoint, tmp_path / "hf", ("me/saes", "layers.2", None), ("me/saes", "layers.7", None),
            ("me/saes", "layers.2", "v9"), ("me/nothing", "layers.2", None),
            ("me/saes/../../other", "layers.2", None),
        )  # fmt: skip
    assert (found["num_latents"], found["k"], found["folder"]) == (256, 8, "layers.2")
    assert found["weights"] == weights_of(sae_folder / "layers.2")
    assert found["commit"] == COMMIT
    assert missing.endswith("no SAE for layers.7; it has, nearest first: layers.2, layers.1, layers.2.mlp")
    assert revision == "Hub repository me/saes has no revision 'v9'; it has: main (or a commit)"
    assert repo == (
        "no Hub repository me/nothing (or it is private: log in with `hf auth login`); known for m: me/known"
    )
    assert "no path inside a repository" in traversal
    assert seen.files("me/saes") == {"layers.2/cfg.json", "layers.2/sae.safetensors"}


def test_revisions_are_pinned_and_the_resolved_commit_is_noted(sae_folder, tmp_path):
    other = tmp_path / "v1"
    shutil.copytree(sae_folder / "layers.1", other / "layers.2")
    asked = [("me/saes", "layers.2", name) for name in (None, "main", "v1", commit_of("v1"), COMMIT)]
    with serve({"me/saes": sae_folder}, revisions={"me/saes": {"v1": other}}) as (endpoint, seen):
        found, _ = ask(endpoint, tmp_path / "hf", *asked)
    main, v1 = weights_of(sae_folder / "layers.2"), weights_of(other / "layers.2")
    assert [f["weights"] for f in found] == [main, main, v1, v1, main]
    assert [f["commit"] for f in found] == [COMMIT, COMMIT, commit_of("v1"), commit_of("v1"), COMMIT]
    assert sum(path.startswith("/cdn") and method == "GET" for method, path in seen) == 2  # cached by content
    again, _ = ask(NOBODY, tmp_path / "hf", *asked, HF_HUB_OFFLINE="1")
    assert again == found


def test_every_layout_is_found_on_the_hub(sae_folder, tmp_path):
    def repo(name, **folders):
        for source, target in folders.items():
            shutil.copytree(sae_folder / source.replace("_", "."), tmp_path / name / target)
        return tmp_path / name

    flat = {"layers_1": "layers.1", "layers_2": "layers.2", "layers_2_mlp": "layers.2.mlp"}
    repos = {
        "a/flat": repo("flat", **flat),
        "a/prefixed": repo("prefixed", **{k: f"gpt_neox.{v}" for k, v in flat.items()}),
        "a/nested": repo("nested", layers_2="baseline/layers.2"),
        "a/single": repo("single", layers_2=""),
        "a/two": repo("two", layers_2="baseline/layers.2", layers_1="cluster/layers.2"),
    }
    (tmp_path / "prefixed" / "cfg.json").write_text('{"layers": [1, 2], "batch_size": 8}')
    (tmp_path / "two" / "baseline" / "config.json").write_text('{"normalize_activations": 1.0}')
    with serve(repos) as (endpoint, seen):
        found, _ = ask(
            endpoint, tmp_path / "hf",
            ("a/flat", "layers.2", None), ("a/prefixed", "layers.2", None), ("a/nested", "layers.2", None),
            ("a/single", "layers.2", None), ("a/two/baseline", "layers.2", None),
            ("a/two/cluster/layers.2", "layers.2", None), ("a/two", "layers.2", None),
            ("a/two/none", "layers.2", None), ("a/two/cluster", "layers.1", None),
        )  # fmt: skip
    two, one = weights_of(sae_folder / "layers.2"), weights_of(sae_folder / "layers.1")
    assert [f["weights"] for f in found[:6]] == [two, two, two, two, two, one]
    assert [f["folder"] for f in found[:6]] == [
        "layers.2", "gpt_neox.layers.2", "baseline/layers.2", ".", "baseline/layers.2", "cluster/layers.2",
    ]  # fmt: skip
    assert seen.files("a/prefixed") == {
        "cfg.json", "gpt_neox.layers.2/cfg.json", "gpt_neox.layers.2/sae.safetensors",
    }  # fmt: skip
    assert [bool(f["warnings"]) for f in found[:6]] == [False] * 4 + [True, False]
    assert "normalize_activations: 1.0" in found[4]["warnings"][0]
    several, no_folder, inside = found[6:]
    copies = "baseline/layers.2, cluster/layers.2"
    assert several.endswith(f"several SAEs for layers.2: {copies}; choose one with sae.repo=a/two/baseline")
    assert no_folder == "Hub repository a/two has no folder none; it has: baseline, cluster"
    assert "folder cluster, has no SAE for layers.1; it has, nearest first: cluster/layers.2" in inside


BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}


def test_each_refusal_has_its_own_line(sae_folder, tmp_path):
    names = ["gated", "private", "token", "forbidden", "limited", "busy", "odd", "portal", "evil", "huge"]

    def listing(folder, size):
        files = [{"rfilename": f"{folder}/{name}", "size": size} for name in ("cfg.json", "sae.safetensors")]
        return json.dumps({"id": "a/b", "sha": COMMIT, "siblings": files}).encode()

    faults = [
        Fault("models/a/token", 99, 401, BAD_TOKEN),
        Fault("models/a/forbidden", 99, 403),
        Fault("models/a/limited", 99, 429, {"RateLimit": '"api";r=0;t=3600'}),
        Fault("models/a/busy", 99, 503, {"Retry-After": "0"}),
        Fault("models/a/odd", 99, 418),
        Fault("models/a/evil", 99, 200, body=listing("../../evil/layers.2", 100)),
        Fault("models/a/huge", 99, 200, body=listing("layers.2", 3_000_000)),
        Fault("models/a/portal", 99, 200, body=b"<html>please log in to this wifi</html>"),
    ]
    repos = {f"a/{name}": sae_folder for name in names}
    with serve(repos, gated={"a/gated"}, private={"a/private"}, faults=faults) as (endpoint, seen):
        found, log = ask(endpoint, tmp_path / "hf", *((f"a/{name}", "layers.2", None) for name in names))
    said = dict(zip(names, found, strict=True))
    assert said["gated"].startswith(f"Hub repository a/gated is gated: ask for access on {endpoint}/a/gated")
    assert "or it is private: log in with `hf auth login`" in said["private"]
    assert "refuses your token (401)" in said["token"]
    assert "refuses your token (403)" in said["forbidden"]
    assert "limits your requests (429) and asks to wait 3600 s" in said["limited"]
    assert "answers 503, also after 5 attempts; try again later" in said["busy"]
    assert "answers 418" in said["odd"]
    assert "does not answer like a Hub; check HF_ENDPOINT" in said["portal"]
    assert "holds no SAE in a known format" in said["evil"]
    assert "cfg.json in layers.2 of Hub repository a/huge has 3 MB" in said["huge"]
    assert len(set(found)) == len(names)
    asked = [path for _, path in seen]
    assert [asked.count(f"/api/models/a/{name}") for name in ("limited", "busy", "token")] == [1, 5, 1]
    assert log.count("trying again in 0 s") == 4


@pytest.mark.slow
def test_a_busy_hub_is_asked_again_after_the_time_it_names(sae_folder, tmp_path):
    faults = [
        Fault("GET /api/models/me/saes", 1, 429, {"Retry-After": "1"}),
        Fault("HEAD /me/saes/resolve/main/layers.2/cfg.json", 1, 503, {"Retry-After": "0"}),
        Fault("GET /cdn/me/saes", 2, 503, {"Retry-After": "0"}),
    ]
    with serve({"me/saes": sae_folder}, faults=faults) as (endpoint, seen):
        (found,), log = ask(endpoint, tmp_path / "hf", ("me/saes", "layers.2", None))
    assert found["weights"] == weights_of(sae_folder / "layers.2")
    assert [f.times for f in faults] == [0, 0, 0]
    assert "list of files of me/saes: the Hub answers 429; trying again in 1 s (attempt 1 of 5)" in log
    assert log.count("me/saes/layers.2/sae.safetensors: the Hub answers 503; trying again in 0 s") == 2
    assert sum(method == "GET" and path.startswith("/cdn") for method, path in seen) == 3


def test_a_download_cut_in_mid_file_goes_on_where_it_ended(tmp_path):
    latents = 60_000
    torch.manual_seed(0)
    tensors = {"encoder.weight": torch.randn(latents, 32), "encoder.bias": torch.zeros(latents),
               "W_dec": torch.randn(latents, 32), "b_dec": torch.zeros(32)}  # fmt: skip
    folder = tmp_path / "repo" / "layers.2"
    folder.mkdir(parents=True)
    save_file(tensors, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": 32, "k": 4, "num_latents": latents}))
    size = (folder / "sae.safetensors").stat().st_size
    # the client keeps what it has in pieces of 10 MiB (huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE);
    # a reset it does not resume, so the file is asked for again
    faults = [
        Fault("GET /cdn/me/cut", 1, cut=11 * 2**20),
        Fault("GET /cdn/me/reset", 1, cut=5, reset=True),
        Fault("GET /cdn/me/gone", 99, 404),
    ]
    names = ["me/cut", "me/reset", "me/gone"]
    with serve(dict.fromkeys(names, tmp_path / "repo"), faults=faults) as (endpoint, seen):
        (cut, reset, gone), log = ask(
            endpoint, tmp_path / "hf", *((name, "layers.2", None) for name in names)
        )
    assert cut["weights"] == reset["weights"] == weights_of(folder)
    assert seen.ranges == [f"bytes={10 * 2**20}-"]
    recent = int(version("huggingface_hub").split(".")[0]) >= 2
    assert "Trying to resume download" in log or not recent
    assert f"layers.2/sae.safetensors, {size / 1e6:.0f} MB" in log
    assert (
        "me/reset/layers.2/sae.safetensors: [Errno 104] Connection reset by peer; trying again in 1 s" in log
    )
    assert "the Hub answers 404" in gone
    sent = (folder / "sae.safetensors").read_bytes()
    arrived = list((tmp_path / "hf").rglob("*.safetensors"))
    assert [path.read_bytes() == sent for path in arrived] == [True, True]
    left = list((tmp_path / "hf").rglob("*.incomplete"))
    # older clients begin a file before it is refused
    assert not [path for path in left if recent or "me--gone" not in str(path)]


@pytest.mark.slow
def test_without_a_network_the_cache_serves_or_a_message_says_what_is_missing(sae_folder, tmp_path):
    with serve({"me/saes": sae_folder}) as (endpoint, _):
        (online,), _ = ask(endpoint, tmp_path / "hf", ("me/saes", "layers.2", None))
    asked = [("me/saes", "layers.2", None), ("me/saes", "layers.1", None), ("me/new", "layers.2", None)]
    for values, why in (
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({}, "[Errno 111] Connection refused"),
    ):
        (cached, other, cold), log = ask(NOBODY, tmp_path / "hf", *asked, **values)
        assert cached == online
        assert f"Hub repository me/saes is read from the local cache only: {why}" in log
        assert other == (
            f"the local cache of Hub repository me/saes ({why}) has no SAE for layers.1; "
            "it has, nearest first: layers.2"
        )
        assert "Hub repository me/new is not in the local cache" in cold
        assert why in cold
    with serve({"me/saes": sae_folder}, faults=[Fault("/api/", 99, 503, {"Retry-After": "0"})]) as (
        endpoint,
        _,
    ):
        (down,), log = ask(endpoint, tmp_path / "hf", ("me/saes", "layers.2", None))
    assert down == online
    assert "from the local cache only: the Hub answers 503" in log


@pytest.fixture
def pythia(tmp_path, tokenizer_folder):
    """A GPT-NeoX of six layers, as many as pythia-70m has, as a Hub repository."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=6, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=128, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "pythia"
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.slow
def test_a_wrong_repository_and_a_wrong_layer_are_told_apart(pythia, sae_folder, probes, tmp_path):
    """A plan asked for sae-pythia-70m-32x at layers.10: neither exists."""

    def run(endpoint, *args):
        command = [
            sys.executable, "-m", "saescope", "model=pythia-70m", "tracking=disabled", "probes=folder",
            f"probes.path={probes}", "probes.ctx_len=64", "metrics=quick", *args,
        ]  # fmt: skip
        env = environment(endpoint, tmp_path / "hf")
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr.splitlines()

    wrong = "sae.repo=EleutherAI/sae-pythia-70m-32x"
    repos = {"EleutherAI/pythia-70m": pythia, "EleutherAI/sae-pythia-70m-32k": sae_folder}
    with serve(repos) as (endpoint, seen):
        code, (line,) = run(endpoint, wrong, "hookpoint.layer=10")
        assert code == 1
        assert line == (
            "saescope: hookpoint.layer=10: this model has layers 0–5; "
            "choose hookpoint.layer=5 or less, or hookpoint.depth"
        )
        code, (line,) = run(endpoint, wrong, "hookpoint.layer=3")
        assert code == 1
        assert line.startswith(
            "saescope: no Hub repository EleutherAI/sae-pythia-70m-32x (or it is private: log in with "
            "`hf auth login`); known for EleutherAI/pythia-70m: EleutherAI/sae-pythia-70m-32k"
        )
        assert not any("model.safetensors" in path for _, path in seen)  # said before weights are fetched
        code, err = run(endpoint, "hookpoint.layer=2", "metrics.lm_tokens=0", "hydra.run.dir=run")
        assert (code, err) == (0, [])
    asked = [path for _, path in seen if path == "/api/models/EleutherAI/sae-pythia-70m-32k"]
    assert len(asked) == 1  # found before the model was loaded, read after it
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["sae"]["repo"] == "EleutherAI/sae-pythia-70m-32k"
    assert provenance["sae"]["commit"] == COMMIT
