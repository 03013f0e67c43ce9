"""A pre-trained SAE read at another hookpoint of the same width: said on the console and in the report."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

DOUBT = "does not belong here: it is of another hookpoint or model variant, or expects scaled activations"


@pytest.fixture(scope="module")
def offset_model(model_folder, tmp_path_factory):
    """The tiny model with a large mean in the residual stream, as real ones have."""
    folder = tmp_path_factory.mktemp("offset") / "model"
    shutil.copytree(model_folder, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.base_model.embed_in.weight.data += torch.randn(32, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def principal_saes(offset_model, probes, tmp_path_factory):
    """An SAE of layers.3: latents are its principal directions in both senses, the 4 largest active."""
    model = AutoModelForCausalLM.from_pretrained(offset_model)
    tokenizer = AutoTokenizer.from_pretrained(offset_model)
    seen = []
    handle = model.base_model.layers[3].register_forward_hook(lambda m, a, out: seen.append(out[0]))
    for line in (probes / "letters.jsonl").read_text().splitlines():
        with torch.inference_mode():
            model(input_ids=torch.tensor([tokenizer(json.loads(line)["text"])["input_ids"][:64]]))
    handle.remove()
    x = torch.cat([part.reshape(-1, 32) for part in seen])
    axes = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh
    both = torch.cat([axes, -axes]).contiguous()
    folder = tmp_path_factory.mktemp("pairing") / "layers.3"
    folder.mkdir()
    tensors = {
        "encoder.weight": both,
        "encoder.bias": torch.zeros(64),
        "W_dec": both.clone(),
        "b_dec": x.mean(0),
    }
    save_file(tensors, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": 32, "k": 4, "num_latents": 64}))
    return folder.parent


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        pytest.param(["hookpoint.layer=3", "sae.repo={}"], False, marks=pytest.mark.slow),
        (["hookpoint=mlp", "hookpoint.layer=0", "sae.repo={}/layers.3"], True),
        pytest.param(
            ["hookpoint=mlp", "hookpoint.layer=0", "sae=random", "sae.k=32"], None, marks=pytest.mark.slow
        ),
    ],
    ids=["right", "wrong", "control"],
)
def test_wrong_pairing(offset_model, principal_saes, probes, tmp_path, where, wrong):
    command = [
        sys.executable, "-m", "saescope", "model=local", f"model.name={offset_model}", "probes=folder",
        f"probes.path={probes}", "probes.ctx_len=64", "metrics=quick", "metrics.lm_tokens=0",
        "tracking=disabled", "hydra.run.dir=run", *(part.format(principal_saes) for part in where),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    run = tmp_path / "run"
    fvu = json.loads((run / "metrics.json").read_text())["sae/fvu"]
    assert (fvu > 1) == (wrong is not False)
    console = " ".join(done.stdout.split())
    assert (DOUBT in console) == bool(wrong)
    assert (DOUBT in (run / "report.html").read_text()) == bool(wrong)
    assert ("the SAE of layers.3 is read at layers.0.mlp" in console) == bool(wrong)
    warnings = json.loads((run / "status.json").read_text())["warnings"]
    warnings = [warning for warning in warnings if "permutations are few" not in warning]
    assert len(warnings) == (2 if wrong else 1 if wrong is None else 0)
