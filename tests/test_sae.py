"""Codes and reconstructions equal sparsify's own; folders that cannot be trusted are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from sparsify import Sae as SparsifySae

from saescope.config import SaeConfig
from saescope.errors import SaeError
from saescope.sae import base, load
from saescope.sae.neurons import NeuronBasis


def hub(folder: Path, hookpoint: str = "layers.2", d_in: int = 32, **values):
    return load(
        SaeConfig("hub", repo=str(folder), **values),
        d_in=d_in,
        hookpoint=hookpoint,
        model_sae_repo=None,
        model_name="m",
        dtype=torch.float32,
    )


def dense(codes: base.SparseCodes, num_latents: int) -> torch.Tensor:
    out = torch.zeros(len(codes.sizes_N), num_latents)
    rows = torch.repeat_interleave(torch.arange(len(codes.sizes_N)), codes.sizes_N)
    out[rows, codes.latents] = codes.acts
    return out


@pytest.mark.parametrize("k", [None, 1, 4, 8])
def test_codes_equal_sparsify(sae_folder, k, monkeypatch):
    monkeypatch.setattr(base, "PRE_ACTS_BYTES", 4 * 256 * 100)  # several chunks
    x = torch.randn(777, 32)
    ours = hub(sae_folder, k=k)
    theirs = SparsifySae.load_from_disk(sae_folder / "layers.2")
    theirs.cfg.k = k or 8
    expected = theirs.encode(x)
    codes = ours.encode(x)
    wanted = torch.zeros(777, 256).scatter_(1, expected.top_indices, expected.top_acts)
    assert torch.equal(dense(codes, 256), wanted)
    assert torch.equal(dense(codes, 256) > 0, wanted > 0)
    torch.testing.assert_close(ours.decode(codes), theirs.decode(expected.top_acts, expected.top_indices))


def test_slots_with_activation_zero_are_not_active(sae_folder):
    sae = hub(sae_folder)
    sae.coder.encoder.bias.data.fill_(-100.0)
    codes = sae.encode(torch.randn(5, 32))
    assert codes.sizes_N.tolist() == [0] * 5
    assert len(codes.latents) == 0
    torch.testing.assert_close(sae.decode(codes), sae.coder.b_dec.expand(5, 32))


def test_empty_batch(sae_folder):
    assert len(hub(sae_folder).encode(torch.zeros(0, 32)).sizes_N) == 0


def test_neurons_keep_the_largest_magnitudes_with_their_sign():
    x = torch.tensor([[0.1, -3.0, 2.0, 0.0], [0.0, 0.0, 0.0, 5.0]])
    sae = NeuronBasis(4, k=2)
    codes = sae.encode(x)
    assert codes.sizes_N.tolist() == [2, 1]  # an entry of 0 is not active
    torch.testing.assert_close(sae.decode(codes), torch.tensor([[0, -3.0, 2.0, 0], [0, 0, 0, 5.0]]))


def test_random_sae_depends_on_its_seed_only():
    def make(seed):
        cfg = SaeConfig("random", k=4, expansion_factor=2, init_seed=seed)
        return load(cfg, d_in=16, hookpoint="h", model_sae_repo=None, model_name="m", dtype=torch.float32)

    x = torch.randn(9, 16)
    torch.manual_seed(5)
    first = make(0).encode(x)
    torch.manual_seed(6)
    assert torch.equal(first.latents, make(0).encode(x).latents)
    assert not torch.equal(first.latents, make(1).encode(x).latents)


@pytest.mark.parametrize("layout", ["gpt_neox.layers.2", "baseline/layers.2", "a/b/layers.2"])
def test_prefixed_and_nested_folders(sae_folder, tmp_path, layout):
    shutil.copytree(sae_folder / "layers.2", tmp_path / "repo" / layout)
    (tmp_path / "repo" / ".cache").mkdir()
    (tmp_path / "repo" / "cfg.json").write_text('{"run": "config, not an SAE"}')
    assert hub(tmp_path / "repo").num_latents == 256


def test_missing_hookpoint_lists_what_is_there_nearest_first(sae_folder):
    with pytest.raises(
        SaeError, match=r"no SAE for layers\.3; it has, nearest first: layers\.2, layers\.1, layers\.2\.mlp"
    ):
        hub(sae_folder, hookpoint="layers.3")


def edited(sae_folder: Path, tmp_path: Path, **changes) -> Path:
    folder = tmp_path / "edited"
    shutil.copytree(sae_folder / "layers.2", folder / "layers.2")
    path = folder / "layers.2" / "cfg.json"
    cfg = json.loads(path.read_text())
    cfg = {key: value for key, value in (cfg | changes).items() if value is not None}
    path.write_text(json.dumps(cfg))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signed": True}, "signed"),
        ({"jumprelu": True}, "jumprelu"),
        ({"transcode": True}, "transcode"),
        ({"k": None}, "no valid k"),
        ({"d_in": None}, "no valid d_in"),
        ({"d_in": 64}, "reads width 64"),
        ({"num_latents": 0, "expansion_factor": None}, "neither num_latents nor expansion_factor"),
    ],
)
def test_refused(sae_folder, tmp_path, changes, message):
    with pytest.raises(SaeError, match=message) as info:
        hub(edited(sae_folder, tmp_path, **changes))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("changes", [{"signed": False}, {"num_latents": 0}, {"some_new_key": 3}])
def test_harmless_legacy_keys(sae_folder, tmp_path, changes):
    assert hub(edited(sae_folder, tmp_path, **changes)).num_latents == 256


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": 1000}, "exceeds its 256 latents"),
        ({"expansion_factor": 16}, "has 256 latents"),
        ({"num_latents": 512}, "has 256"),
    ],
)
def test_contradictions(sae_folder, values, message):
    with pytest.raises(SaeError, match=message):
        hub(sae_folder, **values)


def test_larger_k_is_allowed_with_a_warning(sae_folder, caplog):
    assert hub(sae_folder, k=20).k == 20
    assert "trained with" in caplog.text


@pytest.mark.parametrize("damage", ["truncate", "nan", "remove"])
def test_damaged_weights(sae_folder, tmp_path, damage):
    folder = edited(sae_folder, tmp_path)
    path = folder / "layers.2" / "sae.safetensors"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "remove":
        path.unlink()
    else:
        from safetensors.torch import load_file, save_file

        tensors = load_file(path)
        tensors["b_dec"][0] = float("nan")
        save_file(tensors, path)
    with pytest.raises(SaeError) as info:
        hub(folder)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("repo", ["./nowhere", "/nowhere", "not a repo"])
def test_no_such_folder(repo):
    with pytest.raises(SaeError, match="no such folder"):
        hub(Path(repo)) if repo != "not a repo" else load(
            SaeConfig("hub", repo=repo),
            d_in=32,
            hookpoint="layers.2",
            model_sae_repo=None,
            model_name="m",
            dtype=torch.float32,
        )


def test_bfloat16_weights_with_float32_input(sae_folder, tmp_path):
    coder = SparsifySae.load_from_disk(sae_folder / "layers.2").to(torch.bfloat16)
    coder.save_to_disk(tmp_path / "bf16" / "layers.2")
    codes = hub(tmp_path / "bf16").encode(torch.randn(10, 32))
    assert codes.acts.dtype == torch.float32
