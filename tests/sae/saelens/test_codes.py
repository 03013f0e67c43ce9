"""Codes and reconstructions equal sae_lens' own, for every architecture and normalisation it has."""

import copy
import pickle

import pytest
import torch
from sae_lens import SAE

from saescope.errors import SaeError
from saescope.sae import base
from saescope.sae.decoder_rows import decoder_rows
from tests.sae.saelens.make import D_IN, D_SAE, dense, make, ours, saved

# sae_lens' advice to load the model with its own classes
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty")

KINDS = [
    ("standard", {}),
    ("standard", {"apply_b_dec_to_input": False}),
    ("gated", {}),
    ("jumprelu", {}),
    ("jumprelu", {"apply_b_dec_to_input": False}),
    ("topk", {"k": 7}),
    ("topk", {"k": 7, "rescale_acts_by_decoder_norm": True}),
    ("abstopk", {"k": 7}),
    ("matching_pursuit", {"max_iterations": 12}),
    ("matching_pursuit", {"max_iterations": 12, "apply_b_dec_to_input": False}),
    ("standard", {"normalize_activations": "layer_norm"}),
    ("jumprelu", {"normalize_activations": "layer_norm"}),
    ("topk", {"k": 7, "normalize_activations": "constant_norm_rescale"}),
    ("gated", {"normalize_activations": "constant_norm_rescale"}),
]
IDS = [f"{name}-{'-'.join(map(str, cfg.values())) or 'plain'}" for name, cfg in KINDS]


def inputs(n=301):
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(3)) * 1.5 + 0.4


@pytest.mark.parametrize(("architecture", "cfg"), KINDS, ids=IDS)
def test_codes_and_reconstructions_equal_sae_lens(tmp_path, model_folder, monkeypatch, architecture, cfg):
    monkeypatch.setattr(base, "PRE_ACTS_BYTES", 4 * D_SAE * 100)  # four chunks
    release = saved(tmp_path / "sae", make(architecture, **cfg))
    sae = ours(release, model_folder)
    theirs = SAE.load_from_disk(release, dtype="float32")
    x = inputs()
    with torch.no_grad():
        wanted = theirs.encode(x)
        rebuilt = theirs.decode(wanted)
        codes = sae.encode(x)
        ours_rebuilt = sae.decode(codes)
    assert 0 < (wanted != 0).float().mean() < 1  # neither dead nor dense: the comparison says something
    assert torch.equal(dense(codes, D_SAE) != 0, wanted != 0)
    torch.testing.assert_close(dense(codes, D_SAE), wanted, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours_rebuilt, rebuilt, atol=1e-6, rtol=1e-6)
    assert codes.acts.dtype == torch.float32
    assert sae.k == cfg.get("k")
    assert sae.num_latents == D_SAE


def test_active_latents_vary_from_token_to_token_where_there_is_no_k(tmp_path, model_folder):
    for architecture in ("standard", "gated", "jumprelu"):
        sae = ours(saved(tmp_path / architecture, make(architecture)), model_folder)
        assert sae.k is None
        assert len(sae.encode(inputs()).sizes_N.unique()) > 5


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
@pytest.mark.parametrize("k", [1, 3, 11])
def test_another_k_reads_the_same_sae(tmp_path, model_folder, caplog, architecture, k):
    release = saved(tmp_path / "sae", make(architecture, k=7))
    sae = ours(release, model_folder, k=k)
    theirs = make(architecture, k=k)  # the same weights, made with that k
    x = inputs()
    with torch.no_grad():
        torch.testing.assert_close(dense(sae.encode(x), D_SAE), theirs.encode(x), atol=1e-6, rtol=1e-6)
    assert (sae.k, sae.provenance()["trained_k"]) == (k, 7)
    assert ("trained with" in caplog.text) == (k > 7)


def test_bfloat16_weights_are_read_in_float32(tmp_path, model_folder):
    sae = make("jumprelu").to(torch.bfloat16)
    sae.cfg.dtype = "bfloat16"
    loaded = ours(saved(tmp_path / "sae", sae), model_folder)
    with torch.no_grad():
        wanted = sae.to(torch.float32).encode(inputs())
    torch.testing.assert_close(dense(loaded.encode(inputs()), D_SAE), wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_no_tokens(tmp_path, model_folder, normalize):
    sae = ours(saved(tmp_path / "sae", make("standard", normalize_activations=normalize)), model_folder)
    codes = sae.encode(torch.zeros(0, D_IN))
    assert len(codes.sizes_N) == 0
    assert sae.decode(codes).shape == (0, D_IN)


def test_a_token_without_active_latents_is_rebuilt_by_the_bias(tmp_path, model_folder):
    inner = make("jumprelu")
    inner.threshold.data.fill_(1e6)
    sae = ours(saved(tmp_path / "sae", inner), model_folder)
    codes = sae.encode(inputs(5))
    assert codes.sizes_N.tolist() == [0] * 5
    torch.testing.assert_close(sae.decode(codes), inner.b_dec.data.expand(5, D_IN))


def test_per_token_normalisation_is_undone_for_the_right_tokens_only(tmp_path, model_folder):
    sae = ours(saved(tmp_path / "sae", make("standard", normalize_activations="layer_norm")), model_folder)
    first = sae.encode(inputs(5))
    sae.encode(inputs(5) * 100)
    with pytest.raises(AssertionError, match="returned last"):
        sae.decode(first)
    assert sae.decodes_latest_only
    plain = ours(saved(tmp_path / "plain", make("standard")), model_folder)
    plain.encode(inputs(5))
    assert not plain.decodes_latest_only


@pytest.mark.parametrize("architecture", ["jumprelu", "topk", "gated", "matching_pursuit"])
def test_it_goes_to_another_process(tmp_path, model_folder, architecture):
    cfg = {"k": 5} if architecture == "topk" else {}
    sae = ours(saved(tmp_path / "sae", make(architecture, **cfg)), model_folder, **({"k": 3} if cfg else {}))
    for twin in (pickle.loads(pickle.dumps(sae)), copy.deepcopy(sae)):
        codes = twin.encode(inputs())
        assert all(torch.equal(a, b) for a, b in zip(codes, sae.encode(inputs()), strict=True))
        assert torch.equal(twin.decode(codes), sae.decode(sae.encode(inputs())))
        assert twin.provenance() == sae.provenance()


def test_nan_weights_are_refused(tmp_path, model_folder):
    inner = make("standard")
    inner.b_enc.data[3] = float("nan")
    with pytest.raises(SaeError, match="NaN or infinite weights in b_enc"):
        ours(saved(tmp_path / "sae", inner), model_folder)


@pytest.mark.parametrize("normalize", ["layer_norm", "constant_norm_rescale"])
def test_tokens_of_their_own_scale_are_known_before_any_is_encoded(tmp_path, model_folder, normalize):
    """Where other processes encoded, this one has no token to undo the scale of."""
    sae = ours(saved(tmp_path / "sae", make("jumprelu", normalize_activations=normalize)), model_folder)
    assert sae.decodes_latest_only
    with pytest.raises(SaeError, match="no rows of its own"):
        decoder_rows(sae)
