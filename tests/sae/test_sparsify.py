"""Codes and reconstructions equal sparsify's own; folders that cannot be trusted are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sparsify import Sae as SparsifySae

from saescope.config import HubSae, RandomSae
from saescope.errors import SaeError
from saescope.sae import base, load
from saescope.sae.neurons import NeuronBasis


def hub(folder: Path, hookpoint: str = "layers.2", d_in: int = 32, **values):
    return load(
        HubSae(repo=str(folder), **values),
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
    x = torch.randn(777, 32, generator=torch.Generator().manual_seed(0))
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
        cfg = RandomSae(k=4, expansion_factor=2, init_seed=seed)
        return load(cfg, d_in=16, hookpoint="h", model_sae_repo=None, model_name="m", dtype=torch.float32)

    x = torch.randn(9, 16)
    torch.manual_seed(5)
    first = make(0).encode(x)
    torch.manual_seed(6)
    assert torch.equal(first.latents, make(0).encode(x).latents)
    assert not torch.equal(first.latents, make(1).encode(x).latents)


def test_missing_hookpoint_lists_what_is_there_nearest_first(sae_folder):
    with pytest.raises(
        SaeError, match=r"no SAE for layers\.3; it has, nearest first: layers\.2, layers\.1, layers\.2\.mlp"
    ):
        hub(sae_folder, hookpoint="layers.3")


def test_the_input_of_a_module_is_not_its_output(sae_folder):
    """hook_resid_pre of block 2 resolves to the input of layers.2; the SAE of layers.2 reads its output."""
    with pytest.raises(SaeError, match=r"no SAE for layers\.2\.input; it has"):
        hub(sae_folder, hookpoint="layers.2.input")


def test_training_can_go_on_with_the_settings_of_the_file(sae_folder, tmp_path):
    cfg = hub(edited(sae_folder, tmp_path, multi_topk=True, normalize_decoder=False)).coder.cfg
    assert (cfg.multi_topk, cfg.normalize_decoder, cfg.num_latents, cfg.k) == (True, False, 256, 8)


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
        ({"skip_connection": True}, "there is no W_skip"),
        ({"normalize_activations": 1.0}, "normalize_activations"),
        ({"activation": "relu"}, "activation: relu; only topk and groupmax"),
        ({"activation": "groupmax", "k": 7}, "which groupmax cannot do"),
        ({"k": None}, "no valid k"),
        ({"k": 0}, "no valid k"),
        ({"k": True}, "no valid k"),
        ({"k": "8"}, "no valid k"),
        ({"k": 257}, "k: 257 with 256 latents"),
        ({"d_in": None}, "no valid d_in"),
        ({"d_in": 64}, "reads width 64"),
        ({"num_latents": 10**9}, r"encoder.weight is 256 × 32, 1000000000 × 32 expected"),
        ({"num_latents": -1}, "no valid num_latents"),
        ({"num_latents": 0, "expansion_factor": None}, "neither num_latents nor expansion_factor"),
    ],
)
def test_refused(sae_folder, tmp_path, changes, message):
    with pytest.raises(SaeError, match=message) as info:
        hub(edited(sae_folder, tmp_path, **changes))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"signed": False},
        {"num_latents": 0},
        {"jumprelu": False, "jumprelu_bandwidth": 0.001, "init_b_dec_as_zeros": True},
        {"normalize_activations": "none"},
    ],
)
def test_harmless_legacy_keys(sae_folder, tmp_path, changes, caplog):
    assert hub(edited(sae_folder, tmp_path, **changes)).num_latents == 256
    assert "unknown keys" not in caplog.text


def test_unknown_keys_are_named(sae_folder, tmp_path, caplog):
    assert hub(edited(sae_folder, tmp_path, some_new_key=3, another={})).num_latents == 256
    assert "unknown keys are ignored: another, some_new_key" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is no SAE config"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"k": 1, "x": "' + "y" * 2**21 + '"}', "has 2 MB; an SAE config has less than 1 MB"),
    ],
    ids=["list", "broken", "deep", "huge"],
)
def test_cfg_files_that_are_none(sae_folder, tmp_path, text, message):
    folder = edited(sae_folder, tmp_path)
    (folder / "layers.2" / "cfg.json").write_text(text)
    with pytest.raises(SaeError, match=message) as info:
        hub(folder)
    assert len(str(info.value)) < 400


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


def test_another_k_of_a_groupmax_sae_is_another_sae(sae_folder, tmp_path):
    folder = edited(sae_folder, tmp_path, activation="groupmax")
    assert hub(folder, k=8).k == 8
    with pytest.raises(SaeError, match="GroupMax SAE of 8 groups"):
        hub(folder, k=4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncate", "cannot be loaded"),
        ("nan", "NaN or infinite weights in b_dec"),
        ("remove", "layers.2 of folder .* has no sae.safetensors"),
        ("pickle", r"has no sae.safetensors \(it has cfg.json, sae.pt\); .* safetensors only"),
        ("integers", "weights of type float32, int64; floating-point"),
        ("skip", "there is also W_skip"),
        ("lens", r"there is no encoder.weight \(it has W_dec, W_enc, b_dec, b_enc\)"),
    ],
)
def test_damaged_weights(sae_folder, tmp_path, damage, message):
    folder = edited(sae_folder, tmp_path)
    path = folder / "layers.2" / "sae.safetensors"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "remove":
        path.unlink()
    elif damage == "pickle":
        torch.save(load_file(path), path.with_suffix(".pt"))
        path.unlink()
    else:
        tensors = load_file(path)
        if damage == "nan":
            tensors["b_dec"][0] = float("nan")
        elif damage == "integers":
            tensors["b_dec"] = tensors["b_dec"].long()
        elif damage == "skip":
            tensors["W_skip"] = torch.zeros(32, 32)
        else:
            tensors = {"W_enc": tensors["encoder.weight"], "b_enc": tensors["encoder.bias"],
                       "W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"]}  # fmt: skip
        save_file(tensors, path)
    with pytest.raises(SaeError, match=message) as info:
        hub(folder)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("repo", ["./nowhere", "/nowhere", "not a repo"])
def test_no_such_folder(repo):
    with pytest.raises(SaeError, match="no such folder"):
        hub(Path(repo)) if repo != "not a repo" else load(
            HubSae(repo=repo),
            d_in=32,
            hookpoint="layers.2",
            model_sae_repo=None,
            model_name="m",
            dtype=torch.float32,
        )


def test_a_path_out_of_the_folder_is_refused(sae_folder):
    for hookpoint in ("../layers.2", "layers.2/../layers.1", "/layers.2", "..\\layers.2"):
        with pytest.raises(SaeError, match="no path inside a repository"):
            hub(sae_folder / "layers.2", hookpoint=hookpoint)


def test_deduped_pythia_is_another_model(sae_folder, tmp_path):
    values = {"d_in": 32, "hookpoint": "layers.2", "dtype": torch.float32}
    with pytest.raises(SaeError, match="no pre-trained SAE repository is known for E/pythia-70m-deduped"):
        load(HubSae(), model_sae_repo="E/sae-pythia-70m", model_name="E/pythia-70m-deduped", **values)
    repo = tmp_path / "sae-pythia-70m-deduped-32k"
    shutil.copytree(sae_folder, repo)
    cfg = HubSae(repo=str(repo))
    (warning,) = load(cfg, model_sae_repo=None, model_name="E/pythia-70m", **values).warnings
    assert "another variant of Pythia" in warning
    assert load(cfg, model_sae_repo=None, model_name="E/pythia-70m-deduped", **values).warnings == ()
