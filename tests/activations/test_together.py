"""One pass of the model fills the caches of several hookpoints: same values, shared work, bounded size."""

import dataclasses

import numpy as np
import pytest
import torch
from filelock import FileLock

from saescope.activations import ActivationStore, CachedActivations
from saescope.activations.shards import SHARD_BYTES
from saescope.config import HookpointConfig, ModelConfig, ProbesConfig, RuntimeConfig
from saescope.extraction.setup import Setup
from saescope.model.hookpoints import resolve
from saescope.model.load import load_model
from saescope.runtime.hardware import Hardware
from saescope.text.windows import tokenize_probes

CONFIGS = [
    HookpointConfig("resid", layer=1),
    HookpointConfig("mlp", layer=3),
    HookpointConfig("custom", name="layers.0.mlp.act"),  # twice as wide
    HookpointConfig("attention", layer=2),
]


@pytest.fixture(scope="module")
def lm(model_folder):
    return load_model(ModelConfig(str(model_folder)), torch.float32, seed=0)


@pytest.fixture
def passes(lm):
    """How often the model's embedding was read: once per forward pass."""
    calls = []
    handle = lm.model.base_model.embed_in.register_forward_hook(lambda _m, args, _o: calls.append(args[0]))
    yield calls
    handle.remove()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Several shards a hookpoint."""
    assert SHARD_BYTES > 20_000
    monkeypatch.setattr("saescope.activations.cached.SHARD_BYTES", 20_000)
    monkeypatch.setattr(CachedActivations.__init__, "__kwdefaults__", {"shard_bytes": 20_000})


def setup_of(lm, probes, cache, *, point=0, gb=1.0, companions=CONFIGS):
    points = [resolve(config, lm.model) for config in CONFIGS]
    windows = tokenize_probes(ProbesConfig("folder", path=str(probes), ctx_len=64), lm.tokenizer)
    others = tuple(resolve(config, lm.model) for config in companions)
    return Setup(
        lm,
        points[point],
        windows,
        Hardware("cpu", torch.float32, 600),
        ActivationStore(str(cache), gb, lm.model, torch.float32),
        RuntimeConfig("cpu"),
        companions=others,
    )


def read(setup, rows=None):
    opened = setup.probe_activations() if rows is None else setup.row_activations(rows, "text")
    with opened as source:
        return source.read(np.arange(len(source.sizes_R)))


ROWS = np.random.default_rng(0).integers(1, 300, size=(40, 32)).astype(np.int32)


@pytest.mark.parametrize("rows", [None, ROWS], ids=["probes", "training text"])
def test_one_pass_fills_all_of_equal_width(lm, probes, tmp_path, passes, rows):
    alone = [read(setup_of(lm, probes, tmp_path / f"{n}", point=n, companions=()), rows) for n in range(4)]
    tmp_path = tmp_path / "together"
    first = setup_of(lm, probes, tmp_path)
    passes.clear()
    assert torch.equal(read(first, rows), alone[0])
    at_once = len(passes)
    for point in (1, 3):
        setup = setup_of(lm, probes, tmp_path, point=point, companions=())
        assert setup.width == 32
        passes.clear()
        assert torch.equal(read(setup, rows), alone[point])
        assert not passes, "the cache has all of it"
    wide = setup_of(lm, probes, tmp_path, point=2)
    passes.clear()
    assert torch.equal(read(wide, rows), alone[2])
    assert len(passes) > 2, "another width has other shards, and a pass of its own"
    passes.clear()
    read(setup_of(lm, probes, tmp_path / "other", companions=()), rows)
    assert at_once <= len(passes) + 2, "as many passes as for one hookpoint, and those for the widths"


def test_a_shard_that_another_process_writes_is_left_to_it(lm, probes, tmp_path, passes):
    alone = read(
        setup_of(lm, probes, tmp_path, point=1, companions=())
    )  # and the folder, to lock a shard in it
    (folder,) = (path.parent for path in tmp_path.rglob("shard-00001.safetensors"))
    for file in folder.glob("shard-*"):
        file.unlink()
    with FileLock(folder / "shard-00001.lock"):
        read(setup_of(lm, probes, tmp_path))
    written = {file.name for file in folder.glob("shard-*.safetensors")}
    assert "shard-00000.safetensors" in written
    assert "shard-00001.safetensors" not in written
    assert torch.equal(read(setup_of(lm, probes, tmp_path, point=1, companions=())), alone)


@pytest.mark.parametrize(
    ("room", "passes_planned", "held", "hookpoints"),
    # three narrow hookpoints, and one twice as wide
    [(2.5, 3, "2 + 1 + 1 hookpoints", 2), (1.5, 4, "1 + 1 + 1 hookpoints, 1 too large by itself", 1)],
)
def test_no_more_hookpoints_than_the_cache_has_room_for(
    lm, probes, tmp_path, caplog, room, passes_planned, held, hookpoints
):
    with setup_of(lm, probes, tmp_path / "whole", companions=()).probe_activations() as source:
        size = source.layout.total_bytes
    setup = setup_of(lm, probes, tmp_path / "small", gb=room * size / 1e9)
    with caplog.at_level("INFO"):
        read(setup)
    assert ("one pass of the model for 2 hookpoints" in caplog.text) == (hookpoints == 2)
    assert (
        f"plan: activations of {setup.windows.num_tokens} tokens at 4 hookpoints of the sweep in "
        f"{passes_planned} passes of the model: {5 * size / 1e9:.3g} GB, "
        f"of which runtime.cache_gb={room * size / 1e9:g} holds a part at a time: {held}\n"
    ) in caplog.text
    assert "do not fit" not in caplog.text
    assert len({file.parent for file in (tmp_path / "small").rglob("shard-*.safetensors")}) == hookpoints


def test_the_plan_of_a_sweep(lm, probes, tmp_path, caplog):
    with caplog.at_level("INFO"):
        read(setup_of(lm, probes, tmp_path))
    assert "at 4 hookpoints of the sweep in 2 passes of the model" in caplog.text  # the wide one in its own
    assert "runtime.cache_gb=1 holds all at once" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        read(setup_of(lm, probes, tmp_path, point=1))
    assert "plan:" not in caplog.text, "nothing is missing"


def test_a_companion_the_model_does_not_run_is_left_out(lm, probes, tmp_path):
    point = dataclasses.replace(resolve(CONFIGS[0], lm.model), name="rotary_emb", side="input")
    setup = dataclasses.replace(setup_of(lm, probes, tmp_path), companions=(point,))
    assert torch.equal(read(setup), read(setup_of(lm, probes, tmp_path / "alone", companions=())))


def test_a_sweep_of_twelve_layers_reads_the_probes_in_one_pass(model_folder, probes, tmp_path):
    """As many batches as one hookpoint takes, and no second pass for any of the eleven others."""
    torch.manual_seed(0)
    base = load_model(ModelConfig(str(model_folder)), torch.float32, seed=0)
    config = base.model.config
    config.num_hidden_layers = 12
    deep = dataclasses.replace(base, model=type(base.model)(config).eval().requires_grad_(False))
    points = [resolve(HookpointConfig("resid", layer=layer), deep.model) for layer in range(12)]
    windows = tokenize_probes(ProbesConfig("folder", path=str(probes), ctx_len=64), deep.tokenizer)
    batches = []
    deep.model.base_model.embed_in.register_forward_hook(lambda _m, args, _o: batches.append(args[0].numel()))

    def job(layer, cache, companions):
        store = ActivationStore(str(cache), 1.0, deep.model, torch.float32)
        machine = Hardware("cpu", torch.float32, 600)
        setup = Setup(
            deep, points[layer], windows, machine, store, RuntimeConfig("cpu"), companions=companions
        )
        assert setup.width == 32  # told by a short pass, made now
        assert len(setup.companion_widths) == len(companions)
        batches.clear()
        values = read(setup)
        return values, sum(batches)

    alone = [job(layer, tmp_path / f"alone{layer}", ())[0] for layer in range(12)]
    once = job(0, tmp_path / "once", ())[1]
    assert once >= windows.num_tokens
    in_sweep = [
        job(layer, tmp_path / "sweep", tuple(points[:layer] + points[layer + 1 :])) for layer in range(12)
    ]
    assert [tokens for _, tokens in in_sweep] == [once] + [0] * 11
    for (values, _), other in zip(in_sweep, alone, strict=True):
        assert torch.equal(values, other)
