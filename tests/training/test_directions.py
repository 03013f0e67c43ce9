"""PCA and random directions: numpy's eigh on the same rows, TopK of coefficients, and as users type it."""

import json
import logging
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from saescope.cli.main import main
from saescope.sae.coder import CoderSae, SparseCoder
from saescope.training.directions import (
    both_signs,
    coder_of,
    moments_of,
    principal_components,
    random_directions,
)

D, N = 12, 500


def rows(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Activations with a mean far from 0, as residual streams have."""
    torch.manual_seed(3)
    return (torch.randn(N, D) @ torch.randn(D, D) + 100 * torch.randn(D)).to(dtype)


def batches(x_ND: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from x_ND.split(37)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_and_components_are_numpy_s(dtype):
    x_ND = rows(dtype)
    x = x_ND.double().numpy()
    moments = moments_of(batches(x_ND), covariance=True)
    assert moments.tokens == N
    covariance = np.cov(x.T, bias=True)
    np.testing.assert_allclose(moments.mean_D, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance_DD, covariance, rtol=1e-11, atol=1e-11)

    variances, columns = np.linalg.eigh(covariance)
    components = principal_components(moments).numpy()
    assert (np.diff(variances) > 1e-3).all()
    np.testing.assert_allclose(np.abs(components @ columns[:, ::-1]), np.eye(D), atol=1e-9)
    np.testing.assert_allclose(np.var((x - x.mean(0)) @ components.T, axis=0), variances[::-1], rtol=1e-8)
    assert (components[np.arange(D), np.abs(components).argmax(1)] > 0).all()


def test_pca_codes_are_the_largest_coefficients_and_all_of_them_give_the_activation_back():
    x_ND = rows()
    moments = moments_of(batches(x_ND), covariance=True)
    directions_FD = both_signs(principal_components(moments))
    coefficients = (x_ND.double() - moments.mean_D) @ principal_components(moments).T
    sae = CoderSae(coder_of(directions_FD, moments.mean_D, 4), torch.float32, {"source": "pca"}, control=True)
    assert (sae.num_latents, sae.k, sae.d_in) == (2 * D, 4, D)
    codes = sae.encode(x_ND)
    dense_NF = torch.zeros(N, 2 * D)
    dense_NF[torch.repeat_interleave(torch.arange(N), codes.sizes_N), codes.latents] = codes.acts
    top = coefficients.abs().topk(4, dim=1)
    expected_ND = torch.zeros_like(coefficients).scatter(1, top.indices, coefficients.gather(1, top.indices))
    torch.testing.assert_close(
        (dense_NF[:, :D] - dense_NF[:, D:]).double(), expected_ND, rtol=1e-3, atol=1e-3
    )
    assert (dense_NF[:, :D] * dense_NF[:, D:]).count_nonzero() == 0
    error = (sae.decode(codes).double() - x_ND).pow(2).sum()
    fvu = error / (x_ND - x_ND.double().mean(0)).pow(2).sum()
    left = 1 - top.values.pow(2).sum() / coefficients.pow(2).sum()
    torch.testing.assert_close(fvu, left, rtol=0, atol=1e-5)
    whole = CoderSae(coder_of(directions_FD, moments.mean_D, D), torch.float32, {"source": "pca"})
    torch.testing.assert_close(whole.decode(whole.encode(x_ND)), x_ND, rtol=0, atol=1e-3)


def test_random_directions_are_uniform_on_the_sphere_and_reproducible():
    directions_FD = random_directions(4000, D, seed=1)
    torch.testing.assert_close(torch.linalg.vector_norm(directions_FD, dim=1), torch.ones(4000).double())
    assert torch.equal(directions_FD, random_directions(4000, D, seed=1))
    assert not torch.equal(directions_FD, random_directions(4000, D, seed=2))
    np.testing.assert_allclose(directions_FD.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(directions_FD.T @ directions_FD / 4000, np.eye(D) / D, atol=0.01)


@pytest.fixture
def saescope(model_folder, probes, tmp_path, monkeypatch, capfd):
    from tests.conftest import write_probes

    corpus = write_probes(tmp_path / "corpus", documents=100, words=80, seed=7)

    def run(*args):
        common = [
            "model=local", f"model.name={model_folder}", "probes=folder", f"probes.path={probes}",
            "probes.ctx_len=64", "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20",
            "metrics.lm_tokens=0", "tracking=disabled", "runtime.cache=cache", "runtime.dtype=float32",
            "corpus=local", f"corpus.path={corpus}", "corpus.ctx_len=64", "hookpoint.layer=2",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["saescope", *common, *args])
        logging.getLogger().handlers.clear()
        code = main()
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.mark.slow
def test_pca_from_the_command_line_reads_what_a_training_captured(saescope, tmp_path):
    training = ["sae=train", "sae.batch_tokens=512", "sae.expansion_factor=4"]
    assert saescope(*training, "sae.tokens=6000", "sae.k=4", "hydra.run.dir=trained")[0] == 0
    code, out, err = saescope("sae=pca", "sae.tokens=6000", "sae.k=4", "hydra.run.dir=pca")
    assert (code, err) == (0, "")
    assert (out.count("cache: hit"), out.count("cache: miss")) == (2, 0)  # training text and probes
    metrics = {
        name: json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("trained", "pca")
    }
    assert metrics["pca"]["features/num_latents"] == 64
    assert metrics["pca"]["sae/l0"] == 4
    assert metrics["pca"]["sae/fvu"] < 1
    provenance = json.loads((tmp_path / "pca/provenance.json").read_text())["sae"]
    assert (provenance["source"], provenance["folder"]) == ("pca", "sae/layers.2")
    assert "sae=pca is a control" in json.loads((tmp_path / "pca/status.json").read_text())["warnings"][0]
    assert SparseCoder.load_from_disk(tmp_path / "pca/sae/layers.2").num_latents == 64
    assert saescope("sae.repo=pca/sae", "hydra.run.dir=read")[0] == 0
    again = json.loads((tmp_path / "read/metrics.json").read_text())
    assert {k for k in again if again[k] != metrics["pca"][k]} <= {k for k in again if k.startswith("cost/")}

    code, out, err = saescope("sae=directions", "sae.tokens=6000", "sae.k=4", "hydra.run.dir=directions")
    assert (code, err) == (0, "")
    assert (out.count("cache: hit"), out.count("cache: miss")) == (2, 0)
    drawn = SparseCoder.load_from_disk(tmp_path / "directions/sae/layers.2")
    assert drawn.num_latents == 256
    torch.testing.assert_close(drawn.b_dec, SparseCoder.load_from_disk(tmp_path / "pca/sae/layers.2").b_dec)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sae=pca", "sae.k=33"], ["sae.k=33", "32 principal components", "1 to 32"]),
        (["sae=pca", "sae.tokens=30", "corpus.ctx_len=16"], ["sae.tokens=30", "32 tokens", "make it larger"]),
        (["sae=directions", "sae.k=300"], ["sae.k=300", "256 latents"]),
    ],
)
def test_errors_are_one_line(saescope, args, words):
    code, _, err = saescope(*args)
    assert code == 1
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err
