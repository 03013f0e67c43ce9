"""Losses that all SAEs at a hookpoint share: measured once, the same numbers, nothing run twice."""

import dataclasses

import numpy as np
import pytest
import torch

from saescope.activations import ActivationStore
from saescope.extraction.engine import Engine, splice_windows
from saescope.sae.neurons import NeuronBasis
from tests.extraction.test_engine import make_engine

LAYER, LAYERS = 2, 4
CHECKS = {0: 1, LAYERS - 1: 2}
"""Runs of the first and the last block to find out where the model can be entered: one pass from the start,
one from the hookpoint."""


def cached(engine, folder, sae=None):
    """The same engine with a cache in `folder`."""
    store = ActivationStore(str(folder), 1.0, engine.model, torch.float32)
    setup = dataclasses.replace(engine.setup, store=store)
    assert setup.width == 32  # a short pass, made now: tests count those that follow
    return Engine(setup, sae or engine.sae, engine.source)


@pytest.fixture
def engine(model_folder, probes):
    return make_engine(model_folder, NeuronBasis(32, k=8), probes, layer=LAYER)


@pytest.fixture
def mean(engine):
    _, sums = engine.extract()
    return sums["x"].sum(0) / sums["tokens"].sum()


@pytest.fixture
def runs(engine):
    """Numbers of the blocks that were run, in order."""
    numbers = []
    for number, block in enumerate(engine.model.base_model.layers):
        block.mlp.register_forward_pre_hook(lambda _m, _a, number=number: numbers.append(number))
    return numbers


def test_a_second_sae_runs_the_upper_blocks_once(engine, mean, runs, tmp_path):
    batches = len(engine._batches(splice_windows(engine.windows, 600)))
    expected = engine.splice(600, mean)
    first_engine, second_engine = cached(engine, tmp_path), cached(engine, tmp_path)
    runs.clear()

    first = first_engine.splice(600, mean)
    assert runs.count(0) == batches + CHECKS[0]
    assert runs.count(LAYERS - 1) == 4 * batches + CHECKS[LAYERS - 1]
    runs.clear()

    again = second_engine.splice(600, mean)
    assert runs.count(0) == CHECKS[0]
    assert runs.count(LAYERS - 1) == batches + CHECKS[LAYERS - 1]
    for name in expected:
        np.testing.assert_array_equal(first[name], expected[name])
        np.testing.assert_array_equal(again[name], expected[name])
    runs.clear()

    other = NeuronBasis(32, k=4)
    reused = cached(engine, tmp_path, other).splice(600, mean)
    direct = dataclasses.replace(engine, sae=other).splice(600, mean)
    for name in direct:
        np.testing.assert_array_equal(reused[name], direct[name])
    assert reused["kl_spliced"].sum() > first["kl_spliced"].sum()


@pytest.mark.parametrize("damage", ["cut", "flip", "junk"])
def test_a_damaged_file_is_measured_again(engine, mean, tmp_path, caplog, damage):
    expected = cached(engine, tmp_path).splice(600, mean)
    (file,) = tmp_path.rglob("losses-*.safetensors")
    data = bytearray(file.read_bytes())
    match damage:
        case "cut":
            data = data[: len(data) // 2]
        case "flip":
            data[-5] ^= 1
        case "junk":
            data = bytearray(b"not a tensor")
    file.write_bytes(data)
    losses = cached(engine, tmp_path).splice(600, mean)
    assert "is damaged" in caplog.text
    for name in expected:
        np.testing.assert_array_equal(losses[name], expected[name])
    caplog.clear()
    cached(engine, tmp_path).splice(600, mean)
    assert "is damaged" not in caplog.text


def test_other_windows_and_other_models_share_nothing(engine, mean, runs, tmp_path):
    cached(engine, tmp_path).splice(600, mean)
    other = cached(engine, tmp_path)
    runs.clear()
    other.splice(300, mean)
    assert runs.count(0) > CHECKS[0]
    cached(engine, tmp_path).splice(600, mean, without=np.array([0]))
    assert len(list(tmp_path.rglob("losses-*.safetensors"))) == 3
    engine.model.base_model.layers[3].mlp.dense_4h_to_h.weight.data *= 2
    cached(engine, tmp_path).splice(600, mean)
    assert len(list(tmp_path.rglob("losses-*.safetensors"))) == 4


def test_a_model_that_cannot_be_entered_gives_the_same_losses(engine, mean, tmp_path, caplog):
    left = []
    blocks = engine.model.base_model.layers
    blocks[0].register_forward_hook(lambda _m, _a, out: left.append(out))
    blocks[3].register_forward_hook(lambda _m, _a, out: out + left.pop())
    with caplog.at_level("INFO"):
        first = cached(engine, tmp_path).splice(600, mean)
    assert "cannot be entered" in caplog.text
    again = cached(engine, tmp_path).splice(600, mean)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_a_full_cache_stores_nothing(engine, mean, tmp_path):
    expected = engine.splice(600, mean)
    small = cached(engine, tmp_path)
    small.setup.store.cache.cap_bytes = 10_000
    losses = small.splice(600, mean)
    assert not list(tmp_path.rglob("losses-*.safetensors"))
    for name in expected:
        np.testing.assert_array_equal(losses[name], expected[name])


@pytest.mark.parametrize("layer", [0, 3])
def test_the_last_block_has_one_stream(model_folder, probes, tmp_path, layer):
    """Above the last block, where the SAE is read there, is the same stream as at it."""
    plain = make_engine(model_folder, NeuronBasis(32, k=8), probes, layer=layer)
    _, sums = plain.extract()
    mean = sums["x"].sum(0) / sums["tokens"].sum()
    expected = plain.splice(600, mean)
    for _ in range(2):
        losses = cached(plain, tmp_path).splice(600, mean)
        for name in expected:
            np.testing.assert_array_equal(losses[name], expected[name])


def test_six_saes_at_one_hookpoint_run_few_blocks(engine, tmp_path):
    """A sweep makes at most 0.3 of the block passes of six jobs that begin with an empty cache each."""
    saes = [NeuronBasis(32, k=k) for k in (1, 2, 4, 8, 16, 32)]
    tokens = []
    for block in engine.model.base_model.layers:
        block.mlp.register_forward_pre_hook(lambda _m, args: tokens.append(args[0][..., 0].numel()))

    def job(sae, folder):
        whole = cached(engine, folder, sae)
        with whole.setup.probe_activations() as source:
            whole = dataclasses.replace(whole, source=source)
            _, sums = whole.extract()
        return whole.splice(600, sums["x"].sum(0) / sums["tokens"].sum())

    alone = [job(sae, tmp_path / f"alone-{number}") for number, sae in enumerate(saes)]
    cold = sum(tokens)
    tokens.clear()
    in_sweep = [job(sae, tmp_path / "sweep") for sae in saes]
    assert sum(tokens) <= 0.3 * cold
    for one, other in zip(alone, in_sweep, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
