"""The private parts of other libraries do what saescope uses them for; one test for each."""

import contextlib
import importlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn.functional import embedding_bag

from saescope import compat
from saescope.sae import coder  # sets what sparsify reads at import
from saescope.stats.compat import louvain_moves, product


def test_errors_of_the_hub_and_of_the_network_have_one_base():
    from huggingface_hub import get_session
    from huggingface_hub.errors import HfHubHTTPError

    base = compat.hub_http_error()
    assert issubclass(HfHubHTTPError, base)
    library = importlib.import_module(base.__module__.split(".")[0])
    assert isinstance(get_session(), library.Client)
    with pytest.raises(base, match="refused"):  # not by the session, which is offline in tests
        library.get("http://127.0.0.1:9")


def test_louvain_moves_find_two_cliques():
    one = np.ones((4, 4)) - np.eye(4)
    dense = np.kron(np.eye(2), one)
    dense[0, 4] = dense[4, 0] = 0.5
    graph = sparse.csr_matrix(dense / dense.sum())
    strength = np.asarray(graph.sum(axis=1)).ravel()
    labels = louvain_moves(graph, strength, np.arange(8), 1.0, 1e-4)
    assert labels[:4].tolist() == [labels[0]] * 4
    assert labels[4:].tolist() == [labels[4]] * 4
    assert labels[0] != labels[4]
    # a large resolution leaves every node alone
    assert np.unique(louvain_moves(graph, strength, np.arange(8), 50.0, 1e-4)).size == 8


def test_product_is_that_of_scipy():
    rng = np.random.default_rng(0)
    left, right = (sparse.random(*shape, 0.2, "csr", rng=rng) for shape in ((9, 40), (40, 30)))
    left, right = (sparse.csr_matrix((some != 0).astype(np.int32)) for some in (left, right))
    found = product(left, right)
    assert found.dtype == np.int32
    assert found.nnz == (left @ right).nnz > 100
    np.testing.assert_array_equal(found.toarray(), (left @ right).toarray())
    assert product(left[:, :0], right[:0]).nnz == 0


def test_sample_weight_gradients_are_those_of_embedding_bag():
    torch.manual_seed(0)
    rows, grad = torch.randn(11, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    latents = torch.randint(0, 11, (7, 3))
    weights = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    embedding_bag(latents, rows, mode="sum", per_sample_weights=weights).backward(grad)
    torch.testing.assert_close(compat.sample_weight_gradients(grad, rows, latents), weights.grad)


def test_sparsify_decoder():
    torch.manual_seed(0)
    latents, acts, W_dec = torch.randint(0, 11, (7, 3)), torch.rand(7, 3), torch.randn(11, 5)
    assert coder.decoder_impl is compat.sparsify_decoder()
    found = coder.decoder_impl(latents, acts, W_dec.mT)
    torch.testing.assert_close(found, (acts[..., None] * W_dec[latents]).sum(1))


def test_sparsify_muon_steps_along_an_orthogonalised_gradient():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 6))
    before = weight.detach().clone()
    optimizer = compat.sparsify_muon()([weight], lr=0.1)
    assert isinstance(optimizer, torch.optim.Optimizer)
    weight.grad = torch.randn(8, 6) @ torch.diag(torch.tensor([100.0, 10, 5, 2, 1, 0.5]))
    optimizer.step()
    step = torch.linalg.svdvals(weight.detach() - before)
    assert step[0] > 0
    assert step[0] < 3 * step[-1]  # those of the gradient differ by a factor of about 200


def test_workspace_view_has_the_numbered_panels():
    pytest.importorskip("wandb_workspaces")
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panels = [wr.LinePlot(title="first", y=["loss"]), wr.BarPlot(title="second", metrics=["fvu"])]
    compat.number_panels(panels)
    view = compat.workspace_view(
        ws.Workspace(entity="me", project="p", name="mine", sections=[ws.Section(name="s", panels=panels)])
    )
    text = json.dumps(view)
    assert view["displayName"] == "mine"
    assert all(word in text for word in ("saescope000", "saescope001", "loss", "fvu"))


class TestSaeLens:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("sae_lens")

    def test_registry(self):
        releases = compat.sae_lens_releases()
        release = releases["gpt2-small-res-jb"]
        assert release.repo_id == "jbloom/GPT2-Small-SAEs-Reformatted"
        assert "blocks.8.hook_resid_pre" in release.saes_map
        assert release.conversion_func is None
        assert isinstance(release.norm_scaling_factor, dict)
        assert compat.sae_lens_releases_of(release.repo_id) == ["gpt2-small-res-jb"]

    def test_config_of_a_release(self, tmp_path, monkeypatch):
        """The download alone is replaced."""
        from sae_lens.loading import pretrained_sae_loaders as loaders

        stated = {"d_in": 768, "d_sae": 24576, "hook_name": "blocks.8.hook_resid_pre", "hook_layer": 8}
        (tmp_path / "cfg.json").write_text(json.dumps(stated | {"model_name": "gpt2-small"}))
        fetched = []

        def hub(repo_id, filename, **_):
            fetched.append((repo_id, filename))
            return shutil.copy(tmp_path / "cfg.json", tmp_path / "fetched.json")

        monkeypatch.setattr(loaders, "hf_hub_download", hub)
        cfg = compat.sae_lens_config("gpt2-small-res-jb", "blocks.8.hook_resid_pre", "sae_lens")
        assert fetched == [("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.8.hook_resid_pre/cfg.json")]
        assert (cfg["d_in"], cfg["d_sae"], cfg["hook_name"]) == (768, 24576, "blocks.8.hook_resid_pre")

    def test_defaults_of_an_old_config(self):
        old = {
            "d_in": 16,
            "d_sae": 64,
            "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": 4},
            "hook_name": "blocks.1.hook_resid_post",
        }
        now = compat.sae_lens_defaults(old)
        assert (now["architecture"], now["k"], now["d_in"], now["d_sae"]) == ("topk", 4, 16, 64)
        assert "architecture" not in old

    def test_training_architectures(self):
        assert compat.sae_lens_trains("batchtopk")
        assert not compat.sae_lens_trains("no such thing")


def test_the_registry_of_sae_lens_is_found_without_importing_it():
    import yaml

    path = compat.sae_lens_registry()
    if path is None:
        pytest.skip("sae_lens is not installed")
    releases = compat.sae_lens_releases()
    values = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert {name: release.repo_id for name, release in releases.items()} == {
        name: value["repo_id"] for name, value in values.items()
    }


def test_wandb_settings_come_without_the_service(monkeypatch):
    import wandb

    wandb.teardown()
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert compat.wandb_settings().project == "mine"
    assert "WANDB_SERVICE" not in os.environ
    wandb.teardown()
    monkeypatch.setenv("WANDB_PROJECT", "other")
    assert compat.wandb_settings().project == "other"
    wandb.teardown()


def test_wandb_reports_none_of_its_errors():
    from wandb.analytics import get_telemetry_recorder

    compat.no_wandb_reports()
    recorder = get_telemetry_recorder()
    assert recorder._open_telemetry_proxy is None
    with pytest.raises(ValueError, match="own"):
        recorder.reraise(ValueError("own"))


def test_the_death_of_wandbs_service_is_seen():
    import wandb

    wandb.teardown()
    assert not compat.wandb_service_died()
    service = wandb.setup()._connection._proc._process
    assert not compat.wandb_service_died()
    service.kill()
    service.wait()
    assert compat.wandb_service_died()
    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()
    assert not compat.wandb_service_died()
