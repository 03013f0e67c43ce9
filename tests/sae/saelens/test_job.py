"""A job on the embedded model through the command line, against sae_lens' own evaluation on the same tokens.

sae_lens evaluates Hugging Face models through its `HookedProxyLM`; its functions take the tokens from an
object with `get_batch_tokens`. Every position is counted here (`exclude_first=0`), as its functions do.
"""

import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from sae_lens.evals import get_downstream_reconstruction_metrics, get_sparsity_and_variance_metrics
from sae_lens.load_model import HookedProxyLM
from sae_lens.saes.sae import SAE
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import saescope
from saescope.cli.main import main
from saescope.config import ProbesConfig
from saescope.text.windows import tokenize_probes
from tests.conftest import write_probes
from tests.sae.saelens.make import make, saved

ASSETS = Path(saescope.__file__).parent / "assets"
HOOK = "gpt_neox.layers.3"
METADATA = {
    "hook_name": HOOK,
    "prepend_bos": False,
    "model_class_name": "AutoModelForCausalLM",
    "model_from_pretrained_kwargs": {},
}
CFG = {
    "standard": {},
    "gated": {},
    "jumprelu": {"normalize_activations": "layer_norm"},
    "topk": {"k": 16},
    "matching_pursuit": {"max_iterations": 8},
}


def trained(architecture: str, **metadata):
    """The packaged sparsify SAE's weights in a sae_lens architecture; biases of its own kind at random."""
    weights = load_file(ASSETS / "saes" / "layers.3" / "sae.safetensors")
    sae = make(architecture, d_in=128, d_sae=1024, metadata={**METADATA, **metadata}, **CFG[architecture])
    known = {
        "W_enc": weights["encoder.weight"].T.contiguous(),
        "W_dec": weights["W_dec"],
        "b_enc": weights["encoder.bias"],
        "b_dec": weights["b_dec"],
    }
    state = sae.state_dict()
    shift = {"b_gate": -0.6, "b_mag": -0.4, "r_mag": 0.0, "threshold": 0.5}
    for name, value in state.items():
        if name in known:
            state[name] = known[name]
        else:
            state[name] = value * 0.1 + shift[name]
    if architecture == "standard":
        state["b_enc"] = state["b_enc"] - 0.6
    sae.load_state_dict(state)
    return sae


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Runs `saescope ARGS` on small probes; returns metrics, status and stdout."""
    probes = write_probes(tmp_path / "probes", documents=6)

    def run(*args: str, name="run"):
        given = [
            "saescope", "tracking=disabled", "metrics=quick", "metrics.lm_tokens=1000000",
            "hookpoint.layer=3", "probes=folder", f"probes.path={probes}", "probes.ctx_len=64",
            "probes.exclude_first=0", "probes.prepend_bos=false", "runtime=cpu", "runtime.dtype=float32",
            f"hydra.run.dir={name}", *args,
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", given)
        logging.getLogger().handlers.clear()
        assert main() == 0
        folder = tmp_path / name
        return [
            json.loads((folder / f"{file}.json").read_text()) for file in ("metrics", "status", "provenance")
        ]

    run.probes = probes
    return run


class Tokens:
    """The windows of the job, one at a time."""

    def __init__(self, probes: Path, tokenizer) -> None:
        cfg = ProbesConfig("folder", path=str(probes), ctx_len=64, exclude_first=0, prepend_bos=False)
        self.windows = tokenize_probes(cfg, tokenizer).ids
        self.at = 0

    def get_batch_tokens(self, _size: int) -> torch.Tensor:
        self.at += 1
        return torch.from_numpy(self.windows[(self.at - 1) % len(self.windows)]).long()[None]


def by_sae_lens(sae, probes: Path) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "model")
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "model", dtype=torch.float32).eval()
    hooked, tokens, scaler = (
        HookedProxyLM(model, tokenizer, [HOOK]),
        Tokens(probes, tokenizer),
        ActivationScaler(),
    )
    n = len(tokens.windows)
    with torch.no_grad():
        quality, _ = get_sparsity_and_variance_metrics(
            sae, hooked, tokens, scaler, n_batches=n, compute_l2_norms=True, compute_sparsity_metrics=True,
            compute_variance_metrics=True, compute_featurewise_density_statistics=False,
            eval_batch_size_prompts=1, model_kwargs={},
        )  # fmt: skip
        losses = get_downstream_reconstruction_metrics(
            sae, hooked, tokens, scaler, compute_kl=False, compute_ce_loss=True, n_batches=n,
            eval_batch_size_prompts=1, ignore_tokens=[-1],  # none; but windows may then differ in length
        )  # fmt: skip
    return quality | losses


OURS = {
    "sae/explained_variance": "explained_variance",
    "sae/l0": "l0",
    "sae/mse": "mse",
    "sae/cosine": "cossim",
    "sae/l2_ratio": "l2_ratio",
    "lm/ce": "ce_loss_without_sae",
    "lm/ce_spliced": "ce_loss_with_sae",
    "lm/ce_zero": "ce_loss_with_ablation",
    "lm/ce_score": "ce_loss_score",
}


@pytest.mark.parametrize("architecture", CFG)
def test_metrics_equal_sae_lens_evaluation(job, tmp_path, architecture):
    release = saved(tmp_path / "sae", trained(architecture))
    # no latent is supported, so no time is spent on SI and Q
    metrics, status, provenance = job("sae=saelens", f"sae.release={release}", "metrics.min_count=100000")
    wanted = by_sae_lens(SAE.load_from_disk(release, dtype="float32"), job.probes)
    for key, theirs in OURS.items():
        assert metrics[key] == pytest.approx(wanted[theirs], rel=2e-5, abs=2e-5), key
    assert 1 < metrics["sae/l0"] < 200
    assert metrics["sae/explained_variance"] > 0.2
    assert metrics["lm/ce_score"] > 0.3
    assert metrics["features/num_latents"] == 1024
    (thin,) = status["warnings"]  # that the six documents a task are few; nothing about the SAE
    assert "has 6 documents, fewer than 20" in thin
    assert provenance["sae"]["architecture"] == architecture


def test_the_same_topk_sae_in_both_layouts_gives_the_same_numbers(job, tmp_path):
    release = saved(tmp_path / "sae", trained("topk"))
    lens, *_ = job("sae=saelens", f"sae.release={release}", "sae.k=5", name="lens")
    hub, *_ = job("sae=hub", f"sae.repo={ASSETS / 'saes'}", "sae.k=5", name="hub")
    for key in hub:
        if hub[key] is None:
            assert lens[key] is None
        elif not key.startswith("cost/"):
            assert lens[key] == pytest.approx(hub[key], rel=1e-4, abs=1e-5), key


def test_what_differs_from_its_training_is_said(job, tmp_path):
    release = saved(tmp_path / "sae", trained("topk", prepend_bos=True, seqpos_slice=[3, None]))
    args = ("sae=saelens", f"sae.release={release}", "metrics.lm_tokens=0")
    _, status, _ = job(*args, "sae.k=4", name="without")
    read, bos, positions, documents, permutations = status["warnings"]
    assert "read at k=4, trained at k=16" in read
    assert "trained with a BOS token" in bos
    assert "probes.prepend_bos=true" in bos
    assert "positions [3, None]" in positions
    assert "has 6 documents, fewer than 20" in documents
    assert permutations.startswith("100 permutations are few: ")
    _, status, _ = job(*args, "probes.prepend_bos=true", name="with")
    assert not any("BOS" in warning for warning in status["warnings"])


@pytest.mark.slow
def test_an_edited_sae_folder_makes_another_run(job, tmp_path, capfd):
    args = ("sae=saelens", f"sae.release={saved(tmp_path / 'sae', trained('topk'))}", "metrics.lm_tokens=0")
    first, *_ = job(*args, name="first")
    job(*args, name="again")
    assert "finished result" in capfd.readouterr().out
    edited = trained("topk")
    edited.b_enc.data += 0.5
    saved(tmp_path / "sae", edited)
    other, *_ = job(*args, name="edited")
    assert other["sae/fvu"] != first["sae/fvu"]


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(job, tmp_path):
    args = ("sae=saelens", f"sae.release={saved(tmp_path / 'sae', trained('jumprelu'))}")
    one, *_ = job(*args, name="one")
    two, *_ = job(*args, "runtime.devices=2", "force=true", name="two")
    for key, value in one.items():
        if not key.startswith("cost/"):
            expected = None if value is None else pytest.approx(value, rel=1e-4, abs=1e-4)
            assert two[key] == expected, key
