"""Capture stops at the hookpoint and sees exactly what a full forward pass computes there."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from saescope.config import HookpointConfig
from saescope.errors import HookpointError
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve


def neox(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=90, n_embd=32, n_layer=3, n_head=4, n_positions=64)).eval()


def llama():
    torch.manual_seed(0)
    cfg = LlamaConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64
    )
    return LlamaForCausalLM(cfg).eval()


def full_forward_output(model, module, ids):
    """What the module returns in an ordinary full forward pass."""
    seen = []
    handle = module.register_forward_hook(
        lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    model(input_ids=ids)
    handle.remove()
    return seen[0]


def count_block_runs(model, prefix, layers):
    runs = [0] * layers
    blocks = model.base_model.get_submodule(prefix)
    for i, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda m, a, i=i: runs.__setitem__(i, runs[i] + 1))
    model.get_output_embeddings().register_forward_pre_hook(lambda m, a: runs.append(1))
    return runs


@pytest.mark.parametrize("kind", ["resid", "mlp", "attention"])
@pytest.mark.parametrize("architecture", ["neox", "gpt2", "llama"])
def test_every_layer_equals_a_full_forward_bit_for_bit(architecture, kind, model_folder):
    model = neox(model_folder) if architecture == "neox" else {"gpt2": gpt2, "llama": llama}[architecture]()
    prefix = {"neox": "layers", "gpt2": "h", "llama": "layers"}[architecture]
    layers = model.config.num_hidden_layers
    ids = torch.randint(0, 90, (3, 17))
    with torch.inference_mode():
        for layer in range(layers):
            hookpoint = resolve(HookpointConfig(kind, layer=layer), model)
            module = model.base_model.get_submodule(hookpoint.name)
            expected = full_forward_output(model, module, ids)
            assert torch.equal(Capture(model, hookpoint)(ids), expected)
    runs = count_block_runs(model, prefix, layers)
    with torch.inference_mode():
        Capture(model, resolve(HookpointConfig(kind, layer=1), model))(ids)
    assert runs == [1, 1] + [0] * (layers - 2), "a later block or the LM head ran"


def test_last_block_is_not_what_output_hidden_states_gives(model_folder):
    model = neox(model_folder)
    ids = torch.randint(0, 400, (2, 9))
    last = resolve(HookpointConfig("resid", layer=3), model)
    inner = resolve(HookpointConfig("resid", layer=2), model)
    with torch.inference_mode():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        assert torch.equal(Capture(model, inner)(ids), states[3])
        assert not torch.allclose(Capture(model, last)(ids), states[4])


def test_padding_does_not_change_real_tokens(model_folder):
    model = neox(model_folder)
    hookpoint = resolve(HookpointConfig("resid", layer=3), model)
    short, long = torch.randint(0, 400, (1, 6)), torch.randint(0, 400, (1, 20))
    padded = torch.zeros(2, 20, dtype=torch.long)
    padded[0, :6], padded[1] = short, long
    with torch.inference_mode():
        together = Capture(model, hookpoint)(padded)
        alone = Capture(model, hookpoint)(short)
    torch.testing.assert_close(together[0, :6], alone[0], atol=1e-6, rtol=1e-5)


def test_block_input_is_the_previous_output(model_folder):
    model = neox(model_folder)
    ids = torch.randint(0, 400, (2, 9))
    before = resolve(HookpointConfig("custom", name="blocks.2.hook_resid_pre"), model)
    after = resolve(HookpointConfig("custom", name="blocks.1.hook_resid_post"), model)
    assert (before.side, before.name, after.name) == ("input", "layers.2", "layers.1")
    with torch.inference_mode():
        assert torch.equal(Capture(model, before)(ids), Capture(model, after)(ids))


@pytest.mark.parametrize(
    ("name", "expected", "kind"),
    [
        ("layers.3", "layers.3", "resid"),
        ("gpt_neox.layers.3", "layers.3", "resid"),
        ("layers.3.mlp", "layers.3.mlp", "mlp"),
        ("gpt_neox.layers.3.attention", "layers.3.attention", "attention"),
        ("blocks.3.hook_mlp_out", "layers.3.mlp", "mlp"),
        ("blocks.3.hook_attn_out", "layers.3.attention", "attention"),
        ("layers.3.mlp.act", "layers.3.mlp.act", "custom"),
        ("embed_in", "embed_in", "custom"),
    ],
)
def test_spellings(name, expected, kind, model_folder):
    hookpoint = resolve(HookpointConfig("custom", name=name), neox(model_folder))
    assert (hookpoint.name, hookpoint.kind) == (expected, kind)


@pytest.mark.parametrize(("depth", "layer"), [(0.0, 0), (0.25, 1), (0.5, 2), (0.75, 3), (1.0, 3)])
def test_depth(depth, layer, model_folder):
    assert resolve(HookpointConfig("resid", depth=depth), neox(model_folder)).layer == layer


@pytest.mark.parametrize("name", ["layers.9", "blocks.9.hook_resid_post", "layers.1.mpl", "transformer.h.1"])
def test_unknown_hookpoints_name_what_is_there(name, model_folder):
    with pytest.raises(HookpointError, match=r"layers 0–3|layers\.0 to layers\.3") as info:
        resolve(HookpointConfig("custom", name=name), neox(model_folder))
    assert "\n" not in str(info.value)


def test_width(model_folder):
    model = neox(model_folder)
    assert Capture(model, resolve(HookpointConfig("custom", name="layers.0.mlp.act"), model)).width() == 64


def test_hooks_are_removed_after_an_error(model_folder):
    model = neox(model_folder)
    capture = Capture(model, resolve(HookpointConfig("resid", layer=1), model))
    with pytest.raises(IndexError), torch.inference_mode():
        capture(torch.full((1, 4), 99_999))
    assert not capture.module._forward_hooks
