"""`sae.repo=owner/name` through the genuine Hub client, against a server on loopback."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.hub import serve

SCRIPT = """
import json, sys, torch
from saescope.config import SaeConfig
from saescope.errors import SaeError
from saescope.sae import load
out = []
for repo, hookpoint, revision in json.loads(sys.argv[1]):
    try:
        cfg = SaeConfig("hub", repo=repo, revision=revision)
        sae = load(cfg, d_in=32, hookpoint=hookpoint, model_sae_repo=None, model_name="m",
                   dtype=torch.float32)
        out.append([sae.num_latents, sae.k, float(sae.coder.encoder.weight.sum())])
    except SaeError as error:
        out.append(str(error))
print(json.dumps(out))
"""


def ask(endpoint, cache, *asked, offline=False):
    """Load each (repo, hookpoint, revision) in a fresh process; the client reads its settings at import."""
    env = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(asked)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_only_the_asked_hookpoint_is_downloaded_and_errors_name_what_is_there(sae_folder, tmp_path):
    from sparsify import Sae

    with serve({"me/saes": sae_folder}) as (endpoint, seen):
        found, missing, revision, repo = ask(
            endpoint, tmp_path / "hf", ("me/saes", "layers.2", None), ("me/saes", "layers.7", None),
            ("me/saes", "layers.2", "v9"), ("me/nothing", "layers.2", None),
        )  # fmt: skip
    local = Sae.load_from_disk(sae_folder / "layers.2")
    assert found == [256, 8, pytest.approx(float(local.encoder.weight.detach().sum()))]
    assert "no SAE for layers.7; it has, nearest first: layers.2, layers.1" in missing
    assert "no revision 'v9'" in revision
    assert "no Hub repository me/nothing" in repo
    assert not any("\n" in message for message in (missing, revision, repo))
    fetched = {path.split("/", 5)[-1] for method, path in seen if method == "GET" and "/resolve/" in path}
    assert fetched == {"layers.2/cfg.json", "layers.2/sae.safetensors"}

    (again,) = ask("http://127.0.0.1:9", tmp_path / "hf", ("me/saes", "layers.2", None), offline=True)
    assert again == found
    (cold,) = ask("http://127.0.0.1:9", tmp_path / "empty", ("me/saes", "layers.2", None), offline=True)
    assert "cannot be reached and is not in the local cache" in cold
