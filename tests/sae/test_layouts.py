"""SAE folders of every layout seen in public repositories: codes equal the formula, computed here."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from saescope.config import HubSae
from saescope.errors import SaeError
from saescope.sae import load
from saescope.sae.base import SparseCodes

D, F, K = 24, 120, 6

# cfg.json as the repositories have it, at our sizes
ELEUTHER = {
    "expansion_factor": 32,
    "normalize_decoder": True,
    "num_latents": F,
    "k": K,
    "signed": False,
    "d_in": D,
}
GROUP_SAE = {
    "expansion_factor": 5, "normalize_decoder": True, "num_latents": 0, "k": K, "multi_topk": False,
    "jumprelu": False, "jumprelu_init_threshold": 0.001, "jumprelu_bandwidth": 0.001,
    "jumprelu_target_l0": None, "jumprelu_per_layer_l0": False, "init_enc_as_dec_transpose": True,
    "init_b_dec_as_zeros": False, "d_in": D,
}  # fmt: skip
LAWSON = {
    "expansion_factor": 5,
    "normalize_decoder": True,
    "num_latents": 0,
    "k": K,
    "multi_topk": False,
    "d_in": D,
}
SPARSIFY = {
    "activation": "topk", "expansion_factor": 5, "normalize_decoder": True, "num_latents": F, "k": K,
    "multi_topk": True, "skip_connection": False, "transcode": False, "d_in": D,
}  # fmt: skip

LAYOUTS = {
    "flat": ("layers.3", "layers.3", ELEUTHER),
    "mlp": ("layers.3.mlp", "layers.3.mlp", ELEUTHER),
    "attention": ("layers.3.attention", "layers.3.attention", ELEUTHER),
    "embedding": ("embed_in", "embed_in", ELEUTHER),
    "two digits": ("layers.13", "layers.13", ELEUTHER),
    "gpt_neox": ("gpt_neox.layers.3", "layers.3", LAWSON),
    "gpt_neox mlp": ("gpt_neox.layers.3.mlp", "layers.3.mlp", LAWSON),
    "gpt2": ("transformer.h.3", "h.3", SPARSIFY),
    "models": ("models.layers.3", "layers.3", SPARSIFY),
    "first versions": ("layer_3", "layers.3", LAWSON),
    "nested": ("baseline/layers.3", "layers.3", GROUP_SAE),
    "nested, named by k": ("k32-sae-4k/layers.3", "layers.3", LAWSON),
    "deep": ("sae-ckpts/run/gpt_neox.layers.3", "layers.3", SPARSIFY),
    "one seed": ("layers.3/seed0", "layers.3", SPARSIFY),
    "single": ("", "layers.3", SPARSIFY),
}


def weights(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def write(
    folder: Path, cfg: dict, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(cfg))
    tensors = weights(seed, dtype)
    save_file(tensors, folder / "sae.safetensors")
    return tensors


def read(repo: Path, hookpoint: str, dtype: torch.dtype = torch.float32, **values):
    cfg = HubSae(repo=str(repo), **values)
    return load(cfg, d_in=D, hookpoint=hookpoint, model_sae_repo=None, model_name="m", dtype=dtype)


def formula(x: torch.Tensor, tensors: dict[str, torch.Tensor], k: int) -> torch.Tensor:
    """z = TopK(ReLU(W_enc (x − b_dec) + b_enc)), Gao et al. 2024, dense [N, F]."""
    pre = torch.relu(
        (x - tensors["b_dec"].float()) @ tensors["encoder.weight"].float().T + tensors["encoder.bias"]
    )
    kept = torch.zeros_like(pre)
    for row, values in zip(kept, pre, strict=True):
        best = sorted(range(F), key=lambda i: -values[i].item())[:k]
        row[best] = values[best]
    return kept


def dense(codes: SparseCodes) -> torch.Tensor:
    out = torch.zeros(len(codes.sizes_N), F)
    rows = torch.repeat_interleave(torch.arange(len(codes.sizes_N)), codes.sizes_N)
    out[rows, codes.latents] = codes.acts
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_codes_equal_the_formula(tmp_path, layout):
    folder, hookpoint, cfg = LAYOUTS[layout]
    tensors = write(tmp_path / "sae-name-says-64k-k99" / folder, cfg)
    for seed, other in enumerate(("layers.1", "layers.2.mlp", "gpt_neox.layers.30", "other/layers.33")):
        if folder:
            write(tmp_path / "sae-name-says-64k-k99" / other, cfg, seed=seed + 1)
    (tmp_path / "sae-name-says-64k-k99" / ".cache" / "layers.3").mkdir(parents=True)
    sae = read(tmp_path / "sae-name-says-64k-k99", hookpoint)
    assert (sae.num_latents, sae.k, sae.d_in, sae.warnings) == (F, K, D, ())
    assert sae.provenance()["folder"] == (folder or ".")
    x = torch.randn(40, D)
    codes, expected = sae.encode(x), formula(x, tensors, K)
    assert torch.equal(dense(codes) > 0, expected > 0)
    torch.testing.assert_close(dense(codes), expected)
    torch.testing.assert_close(sae.decode(codes), expected @ tensors["W_dec"] + tensors["b_dec"])


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_other_types_of_weights_and_inputs(tmp_path, stored, given):
    tensors = write(tmp_path / "layers.3", ELEUTHER, dtype=stored)
    x = torch.randn(40, D).to(given)
    sae = read(tmp_path, "layers.3")
    codes = sae.encode(x)
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    expected = formula(x.float(), tensors, K)
    assert codes.acts.dtype == torch.float32
    torch.testing.assert_close(dense(codes), expected)
    torch.testing.assert_close(sae.decode(codes), expected @ tensors["W_dec"] + tensors["b_dec"])
    assert sae.provenance()["stored_dtype"] == str(stored).removeprefix("torch.")


def test_weights_of_mixed_types_are_read_exactly(tmp_path):
    """sparsify would take the type of the first tensor in the file for all of them."""
    write(tmp_path / "layers.3", ELEUTHER)
    mixed = weights(0) | {"W_dec": weights(0, torch.bfloat16)["W_dec"]}
    save_file(mixed, tmp_path / "layers.3" / "sae.safetensors")
    sae = read(tmp_path, "layers.3")
    assert torch.equal(sae.coder.encoder.weight, mixed["encoder.weight"])
    assert torch.equal(sae.coder.W_dec, mixed["W_dec"].float())
    assert sae.provenance()["stored_dtype"] == "bfloat16/float32"


def test_groupmax_codes_equal_the_formula(tmp_path):
    tensors = write(tmp_path / "layers.3", SPARSIFY | {"activation": "groupmax"})
    x = torch.randn(40, D)
    pre = torch.relu((x - tensors["b_dec"]) @ tensors["encoder.weight"].T + tensors["encoder.bias"])
    expected = torch.zeros_like(pre)
    for group in range(K):  # the largest of each run of F/K latents
        at = slice(group * F // K, (group + 1) * F // K)
        best = pre[:, at].argmax(1) + group * F // K
        expected[torch.arange(40), best] = pre[torch.arange(40), best]
    torch.testing.assert_close(dense(read(tmp_path, "layers.3").encode(x)), expected)


def test_the_nearer_folder_goes_before_nested_copies(tmp_path):
    write(tmp_path / "checkpoints" / "layers.3", ELEUTHER, seed=1)
    write(tmp_path / "gpt_neox.layers.3", ELEUTHER, seed=2)
    assert read(tmp_path, "layers.3").provenance()["folder"] == "gpt_neox.layers.3"
    exact = write(tmp_path / "layers.3", ELEUTHER, seed=3)
    sae = read(tmp_path, "layers.3")
    assert sae.provenance()["folder"] == "layers.3"
    assert torch.equal(sae.coder.encoder.weight, exact["encoder.weight"])


@pytest.mark.parametrize(
    ("folders", "advice"),
    [
        (("baseline/layers.3", "cluster/layers.3"), "/baseline"),
        (("layers.3/seed0", "layers.3/seed1"), "/layers.3/seed0"),
        (("gpt_neox.layers.3", "model.layers.3"), "/gpt_neox.layers.3"),
    ],
)
def test_several_copies_are_listed_and_the_advice_works(tmp_path, folders, advice):
    saved = [write(tmp_path / folder, ELEUTHER, seed=seed) for seed, folder in enumerate(folders)]
    with pytest.raises(SaeError, match="several SAEs for") as info:
        read(tmp_path, "layers.3")
    assert str(info.value).endswith(f"{', '.join(folders)}; choose one with sae.repo={tmp_path}{advice}")
    sae = read(f"{tmp_path}{advice}", "layers.3")
    assert torch.equal(sae.coder.encoder.weight, saved[0]["encoder.weight"])
    assert sae.warnings == ()


def test_an_sae_folder_given_itself_is_taken_with_a_warning_when_its_name_is_another(tmp_path):
    write(tmp_path / "layers.3", ELEUTHER)
    assert read(tmp_path / "layers.3", "layers.3").warnings == ()
    assert "layers.3 is read at layers.2.mlp" in read(tmp_path / "layers.3", "layers.2.mlp").warnings[0]


@pytest.mark.parametrize("place", ["config.json", "cfg.json", "baseline/config.json"])
def test_scaled_activations_in_the_config_of_the_run_are_a_warning(tmp_path, place):
    """group-sae notes normalize_activations there only, and the weights may or may not contain the scale."""
    write(tmp_path / "baseline" / "layers.3", GROUP_SAE)
    write(tmp_path / "cluster" / "layers.4", GROUP_SAE)
    (tmp_path / place).write_text(json.dumps({"normalize_activations": None, "layers": [3]}))
    assert read(tmp_path, "layers.3").warnings == ()
    (tmp_path / place).write_text(json.dumps({"normalize_activations": 4.9, "layers": [3]}))
    (warning,) = read(tmp_path, "layers.3").warnings
    assert "normalize_activations: 4.9" in warning
    assert bool(read(tmp_path, "layers.4").warnings) == (not place.startswith("baseline"))


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("blocks.3.hook_resid_post/sae_weights.safetensors", "holds SAELens format: use sae=saelens"),
        ("resid_post_layer_3/trainer_0/ae.pt", "pickled weights of an unknown layout"),
        ("pythia-dun-mlp-tc3/sae.json", "holds sae.json transcoders"),
        ("sae_layer03_final.pt", "pickled weights of an unknown layout, which are not read"),
        ("README.md", r"holds no SAE in a known format; .*its files: README\.md$"),
    ],
)
def test_other_formats_are_named(tmp_path, file, named):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(SaeError, match=named):
        read(tmp_path, "layers.3")
