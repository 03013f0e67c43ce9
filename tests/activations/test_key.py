import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from saescope.activations import (
    ActivationCache,
    CachedActivations,
    LiveActivations,
    LiveWindows,
    activation_key,
    model_digest,
    row_order,
)
from saescope.config import HookpointConfig, ModelConfig, ProbesConfig
from saescope.model import load as models
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.text.windows import tokenize_probes

ROWS = np.random.default_rng(0).integers(0, 400, (9, 16)).astype(np.int32)


def load(folder: Path, **values):
    dtype = values.pop("dtype", torch.float32)
    seed = values.pop("seed", 0)
    return models.load_model(ModelConfig(name=str(folder), **values), dtype, seed).model


def test_the_model_digest_follows_the_weights(model_folder: Path):
    first, same = load(model_folder), load(model_folder)
    assert model_digest(first) == model_digest(same)
    with torch.no_grad():
        same.gpt_neox.layers[0].mlp.dense_h_to_4h.bias[3] += 1e-6
    digests = {
        "as it is": model_digest(first),
        "one weight": model_digest(same),
        "bfloat16": model_digest(load(model_folder, dtype=torch.bfloat16)),
        "random 2": model_digest(load(model_folder, random_init=True, seed=2)),
        "random 1": model_digest(load(model_folder, random_init=True, seed=1)),
    }
    assert len(set(digests.values())) == 5
    again = load(model_folder, random_init=True, seed=1)
    assert digests["random 1"] == model_digest(again)
    again.config.rotary_emb_base = 77
    again.config.hidden_act = "relu"
    assert digests["random 1"] != model_digest(again)


def test_every_part_changes_the_address(model_folder: Path):
    model = load(model_folder)
    block = resolve(HookpointConfig("resid", layer=1), model)
    before = resolve(HookpointConfig("custom", name="blocks.1.hook_resid_pre"), model)
    other_rows = ROWS.copy()
    other_rows[3, 3] += 1
    base = ("m", block, ROWS, 32, torch.float32)
    keys = [
        activation_key(*base),
        activation_key("other", *base[1:]),
        activation_key("m", before, *base[2:]),
        activation_key("m", block, other_rows, 32, torch.float32),
        activation_key("m", block, ROWS[:8], 32, torch.float32),
        activation_key("m", block, ROWS.reshape(18, 8), 32, torch.float32),
        activation_key(*base[:4], torch.bfloat16),
    ]
    both = dataclasses.replace(block, side="both")  # a transcoder's, reading three different places
    for reads in (None, before, block):
        keys.append(activation_key("m", dataclasses.replace(both, reads=reads), *base[2:]))
    assert len({key.digest for key in keys}) == len(keys)
    assert activation_key(*base).digest == keys[0].digest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_live_activations_can_be_trained_on(model_folder: Path, dtype: torch.dtype):
    model = load(model_folder, dtype=dtype)
    capture = Capture(model, resolve(HookpointConfig("resid", layer=1), model))
    live = LiveActivations(capture, ROWS, 4, "cpu")
    assert (live.sizes_R.tolist(), live.d_in) == ([16] * 9, 32)
    values = live.read(np.array([8, 0, 3, 3, 5]))
    assert values.dtype is dtype
    wanted = capture(torch.from_numpy(ROWS[[8, 0, 3, 3, 5]].astype(np.int64)))
    torch.testing.assert_close(values, wanted.flatten(0, 1))
    weight = torch.zeros(32, 4, requires_grad=True, dtype=dtype)
    (values @ weight).sum().backward()
    assert weight.grad is not None
    assert live.read(np.array([], dtype=np.int64)).shape == (0, 32)


def test_windows_are_rows_of_any_length(model_folder: Path, probes: Path, tmp_path: Path):
    """Cached and live give the counted tokens of each window, in the order asked for."""
    model = load(model_folder)
    hookpoint = resolve(HookpointConfig("resid", layer=1), model)
    tokenizer = models.load_tokenizer(ModelConfig(name=str(model_folder)))
    windows = tokenize_probes(ProbesConfig("folder", path=str(probes), ctx_len=48), tokenizer)
    windows.counted[3][:] = False
    live = LiveWindows(Capture(model, hookpoint), windows, 200, "cpu", 32)
    order = np.random.default_rng(0).permutation(len(windows.ids))[:40]
    wanted = []
    for w in order:
        ids = torch.from_numpy(windows.ids[w].astype(np.int64))[None]
        with torch.inference_mode():
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[2][0]
        wanted.append(hidden[torch.from_numpy(windows.counted[w])])
    values = live.read(order)
    torch.testing.assert_close(values, torch.cat(wanted))
    key = activation_key("m", hookpoint, windows, 32, torch.float32)
    for _ in range(2):
        cache = ActivationCache(tmp_path, 1)
        with CachedActivations(cache, key, live, shard_bytes=20_000) as source:
            assert source.layout.num_shards > 5
            torch.testing.assert_close(source.read(order), values)
            assert source.sizes_R[3] == 0
    assert source.built == 0
    assert windows.counted[5][[0, -1]].tolist() == [False, True]
    windows.counted[5][[0, -1]] = True, False  # as many tokens, others
    assert activation_key("m", hookpoint, windows, 32, torch.float32).digest != key.digest


def test_row_order():
    first = row_order(100, 5)
    assert sorted(first.tolist()) == list(range(100))
    assert (first == row_order(100, 5)).all()
    assert not (first == row_order(100, 6)).all()
    assert not (first == row_order(100, 5, epoch=1)).all()
