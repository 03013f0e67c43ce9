"""The passes through the model: sums against direct float64 computations, grafts, batch independence, DDP."""

import dataclasses
import resource
import threading

import numpy as np
import pytest
import torch

from saescope.activations import ActivationStore, LiveWindows
from saescope.analysis.reconstruction import loss_metrics, reconstruction_metrics, task_metrics
from saescope.config import HookpointConfig, HubSae, ModelConfig, ProbesConfig, RuntimeConfig
from saescope.errors import ModelError
from saescope.extraction.engine import Engine, splice_windows
from saescope.extraction.setup import Setup
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import load_model
from saescope.runtime.hardware import Hardware
from saescope.sae import load
from saescope.sae.neurons import NeuronBasis
from saescope.stats.resampling import document_groups
from saescope.text.windows import tokenize_probes


def make_engine(model_folder, sae, probes, *, batch_tokens=600, devices=1, layer=2, **probe_values):
    lm = load_model(ModelConfig(str(model_folder)), torch.float32, seed=0)
    hookpoint = resolve(HookpointConfig("resid", layer=layer), lm.model)
    windows = tokenize_probes(
        ProbesConfig("folder", path=str(probes), ctx_len=64, **probe_values), lm.tokenizer
    )
    source = LiveWindows(Capture(lm.model, hookpoint), windows, batch_tokens, "cpu", 32)
    machine = Hardware("cpu", torch.float32, batch_tokens)
    store = ActivationStore("off", 0.0, lm.model, torch.float32)
    setup = Setup(lm, hookpoint, windows, machine, store, RuntimeConfig("cpu", devices=devices))
    return Engine(setup, sae, source)


@pytest.fixture
def sae(sae_folder):
    return load(
        HubSae(repo=str(sae_folder)),
        d_in=32,
        hookpoint="layers.2",
        model_sae_repo=None,
        model_name="m",
        dtype=torch.float32,
    )


def all_activations(engine):
    """Activations of every counted token by plain forward passes, one window at a time, in document order."""
    rows = []
    for ids, counted in zip(engine.windows.ids, engine.windows.counted, strict=True):
        seen = []
        module = engine.model.base_model.get_submodule(engine.hookpoint.name)
        handle = module.register_forward_hook(lambda m, a, out, seen=seen: seen.append(out))
        with torch.inference_mode():
            engine.model(input_ids=torch.from_numpy(ids.astype(np.int64))[None])
        handle.remove()
        rows.append(seen[0][0][torch.from_numpy(counted)])
    return torch.cat(rows)


def test_codes_and_fvu_equal_a_direct_computation(model_folder, sae, probes):
    engine = make_engine(model_folder, sae, probes)
    codes, sums = engine.extract()
    x = all_activations(engine)
    with torch.inference_mode():
        expected = sae.encode(x)
        xhat = sae.decode(expected)
    assert codes.num_tokens == len(x) == engine.windows.num_tokens
    dense = codes.active_NF.toarray().astype(bool)
    wanted = np.zeros_like(dense)
    wanted[np.repeat(np.arange(len(x)), expected.sizes_N), expected.latents] = True
    # batched and single-window products differ in the last bit, which may swap near-tied latents
    assert (dense != wanted).mean() < 1e-5
    x64, err64 = x.double(), (x.double() - xhat.double())
    fvu = (err64.pow(2).sum() / (x64 - x64.mean(0)).pow(2).sum()).item()
    metrics = reconstruction_metrics(sums)
    assert metrics["sae/fvu"] == pytest.approx(fvu, rel=1e-6)
    assert metrics["sae/explained_variance"] == pytest.approx(1 - fvu, rel=1e-6)
    assert metrics["sae/l0"] == pytest.approx(expected.sizes_N.double().mean().item())
    assert metrics["sae/mse"] == pytest.approx(err64.pow(2).sum(1).mean().item(), rel=1e-6)
    cosine = torch.nn.functional.cosine_similarity(x64, xhat.double(), dim=1).mean().item()
    assert metrics["sae/cosine"] == pytest.approx(cosine, rel=1e-6)


def test_batch_size_does_not_change_the_result(model_folder, sae, probes):
    one, sums_one = make_engine(model_folder, sae, probes, batch_tokens=64).extract()
    many, sums_many = make_engine(model_folder, sae, probes, batch_tokens=5000).extract()
    assert np.array_equal(one.doc_N, many.doc_N)
    assert np.array_equal(one.position_N, many.position_N)
    assert (one.active_NF != many.active_NF).nnz <= 2
    for name in sums_one:
        np.testing.assert_allclose(sums_one[name], sums_many[name], rtol=1e-4, atol=1e-4)


def test_leaving_a_group_of_documents_out_equals_a_direct_computation(model_folder, sae, probes):
    engine = make_engine(model_folder, sae, probes)
    apart = dataclasses.replace(engine, document_groups=3)
    codes, sums = engine.extract()
    _, cells = apart.extract()
    for name, by_task in apart.strata.by_task(cells).items():
        np.testing.assert_allclose(by_task, sums[name], rtol=1e-9, atol=1e-9)
    mean = sums["x"].sum(0) / sums["tokens"].sum()
    losses, cell_losses = engine.splice(600, mean), apart.splice(600, mean)
    for name, by_task in apart.strata.by_task(cell_losses).items():
        np.testing.assert_allclose(by_task, losses[name], rtol=1e-9, atol=1e-9)
    x = all_activations(engine)
    with torch.inference_mode():
        error = (x - sae.decode(sae.encode(x))).double()
    group_N = document_groups(codes.task_D, 3)[codes.doc_N]
    assert set(group_N) >= {0, 1, 2}
    for group, without in enumerate(apart.strata.without_each_group(cells)):
        rest = torch.from_numpy(group_N != group)
        x64 = x[rest].double()
        fvu = (error[rest].pow(2).sum() / (x64 - x64.mean(0)).pow(2).sum()).item()
        assert reconstruction_metrics(without)["sae/fvu"] == pytest.approx(fvu, rel=1e-6)
    scored = apart.strata.without_each_group(cell_losses)
    assert sum(part["tokens_clean"].sum() for part in scored) <= 3 * losses["tokens_clean"].sum()
    assert all((part["tokens_clean"] <= losses["tokens_clean"]).all() for part in scored)


def test_document_order_and_meta(model_folder, sae, probes):
    engine = make_engine(model_folder, sae, probes)
    codes, _ = engine.extract()
    assert np.all(np.diff(codes.doc_N) >= 0)
    assert np.array_equal(np.unique(codes.doc_N), np.arange(len(codes.task_D)))
    assert np.all(np.diff(codes.indptr) <= 8)
    assert codes.position_N.min() == 1  # exclude_first
    assert codes.acts.min() > 0
    assert int(codes.doc_counts_DF.sum()) == len(codes.latents)
    assert np.array_equal(codes.count_F, np.asarray(codes.active_NF.sum(0)).ravel())


def test_identity_graft_changes_nothing(model_folder, probes):
    engine = make_engine(model_folder, NeuronBasis(32, k=32), probes)
    _, sums = engine.extract()
    losses = engine.splice(2000, sums["x"].sum(0) / sums["tokens"].sum())
    metrics = loss_metrics(losses)
    assert metrics["lm/kl"] == 0.0
    assert metrics["lm/ce_spliced"] == metrics["lm/ce"]
    assert metrics["lm/ce_score"] == 1.0
    assert reconstruction_metrics(sums)["sae/fvu"] == 0.0


def test_losses_equal_a_direct_computation(model_folder, sae, probes):
    engine = make_engine(model_folder, sae, probes)
    _, sums = engine.extract()
    mean = sums["x"].sum(0) / sums["tokens"].sum()
    losses = engine.splice(600, mean)
    chosen = splice_windows(engine.windows, 600)
    ce, zero = [], []
    module = engine.model.base_model.get_submodule("layers.2")
    for w in chosen:
        ids = torch.from_numpy(engine.windows.ids[w].astype(np.int64))[None]
        counted = torch.from_numpy(engine.windows.counted[w])

        def ablate(m, a, out, counted=counted):
            out = out.clone()
            out[:, counted] = 0
            return out

        for target, hook in ((ce, None), (zero, ablate)):
            handle = module.register_forward_hook(hook) if hook else None
            with torch.inference_mode():
                logits = engine.model(input_ids=ids).logits[0, :-1]
            if handle:
                handle.remove()
            loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            target.append(loss[counted[:-1]])
    metrics = loss_metrics(losses)
    assert metrics["lm/ce"] == pytest.approx(torch.cat(ce).double().mean().item(), rel=1e-5)
    assert metrics["lm/ce_zero"] == pytest.approx(torch.cat(zero).double().mean().item(), rel=1e-5)
    assert metrics["lm/kl"] > 0
    assert len(engine.windows.tasks) == len({engine.windows.task_D[engine.windows.doc_W[w]] for w in chosen})


def test_task_metrics_add_up(model_folder, sae, probes):
    engine = make_engine(model_folder, sae, probes)
    codes, sums = engine.extract()
    metrics = task_metrics(codes.tasks, sums, None, codes.tokens_D, codes.task_D)
    assert sum(metrics[f"task/{t}/tokens"] for t in codes.tasks) == codes.num_tokens
    assert all(metrics[f"task/{t}/docs"] == 30 for t in codes.tasks)
    assert all(metrics[f"task/{t}/ce"] is None for t in codes.tasks)


@pytest.mark.slow  # two processes on two cores take half a minute
def test_two_processes_give_the_result_of_one(model_folder, sae, probes):
    single, double = (make_engine(model_folder, sae, probes, devices=n) for n in (1, 2))
    one, sums_one = single.extract()
    two, sums_two = double.extract()
    mean = sums_one["x"].sum(0) / sums_one["tokens"].sum()
    losses_one, losses_two = (engine.splice(300, mean) for engine in (single, double))
    assert np.array_equal(one.latents, two.latents)
    # one thread or two: products may differ in the last bit
    np.testing.assert_allclose(one.acts, two.acts, rtol=1e-5)
    assert np.array_equal(one.doc_N, two.doc_N)
    for name in sums_one:
        np.testing.assert_allclose(sums_one[name], sums_two[name], rtol=1e-5, atol=1e-5)
    for name in losses_one:
        np.testing.assert_allclose(losses_one[name], losses_two[name], rtol=1e-5, atol=1e-5)


def test_nan_activations_are_a_user_error(model_folder, sae, probes):
    engine = make_engine(model_folder, sae, probes)
    engine.model.base_model.get_submodule("layers.1.mlp.dense_4h_to_h").bias.data[0] = float("nan")
    with pytest.raises(ModelError, match=r"NaN or infinite activations at layers\.2"):
        engine.extract()


def test_a_pass_that_fails_stops_its_clock(model_folder, sae, probes, monkeypatch):
    """Else its thread would go on logging beside whatever comes next."""

    def clocks():
        return [thread for thread in threading.enumerate() if thread.name == "clock of extract"]

    def fail(*_args):
        started.extend(clocks())
        raise RuntimeError("no")

    engine, started = make_engine(model_folder, sae, probes), []
    monkeypatch.setattr(type(engine.source), "read", fail)
    with pytest.raises(RuntimeError, match="no"):
        engine.extract()
    started[0].join(timeout=5)
    assert not clocks()


def test_one_process_writes_no_file(model_folder, sae, probes):
    """A full temporary folder costs no pass."""
    engine = make_engine(model_folder, sae, probes)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        codes, sums = engine.extract()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert codes.num_tokens > 0
    assert sums["tokens"].sum() > 0
