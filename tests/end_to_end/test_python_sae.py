"""`sae=python` as users type it: a job with an SAE of their own, and another one when its file changes."""

import json
import sys

import yaml

from saescope.cli.main import main

MODULE = """
import torch

class Mine:
    num_latents = 48
    def __init__(self, d_in, k):
        self.weight = torch.randn(d_in, 48, generator=torch.Generator().manual_seed(0)) / d_in**0.5
        self.k = k
    def encode(self, x):
        return torch.relu(x @ self.weight).topk(self.k)
    def decode(self, top_acts, top_indices):
        return (self.weight.T[top_indices] * top_acts[..., None]).sum(1)

def make(d_in, k=4):
    return Mine(d_in, k)
"""


def test_a_job_with_the_user_s_own_sae(monkeypatch, capfd, tmp_path, model_folder, probes):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    (tmp_path / "own_sae.py").write_text(MODULE)

    def saescope(*args: str) -> str:
        fixed = [
            "model=local", f"model.name={model_folder}", "hookpoint.layer=2", "probes=folder",
            f"probes.path={probes}", "probes.ctx_len=64", "metrics=quick", "metrics.lm_tokens=600",
            "tracking=disabled", "sae=python", "sae.target=own_sae:make",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["saescope", *fixed, *args])
        code = main()
        out, err = capfd.readouterr()
        assert (code, err) == (0, "")
        return out

    assert "extracted" in saescope("hydra.run.dir=one", "+sae.options.k=3")
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert (metrics["features/num_latents"], metrics["sae/l0"]) == (48, 3.0)
    assert metrics["lm/ce_spliced"] is not None
    config = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    assert config["sae"] == {"source": "python", "target": "own_sae:make", "options": {"k": 3}}
    assert "finished result" in saescope("hydra.run.dir=two", "+sae.options.k=3")
    (tmp_path / "own_sae.py").write_text(MODULE.replace("48", "64"))
    assert "extracted" in saescope("hydra.run.dir=three", "+sae.options.k=3")
    assert json.loads((tmp_path / "three" / "metrics.json").read_text())["features/num_latents"] == 64
