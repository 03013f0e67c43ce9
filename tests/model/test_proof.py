"""The proof refuses what is wrong, whatever the names say, and leaves nothing behind."""

import time
from dataclasses import replace

import pytest
import torch
import transformers as hf
from torch import nn

from saescope.config import HookpointConfig, ModelConfig
from saescope.errors import HookpointError, ModelError, SaescopeError
from saescope.model.blocks import Blocks
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import load_model
from saescope.model.proof import proved_width
from tests.model.architectures import ARCHITECTURES, build_refused

PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])


def build(model_type: str):
    return next(a for a in ARCHITECTURES if a.model_type == model_type).build()


def at(model, chosen: str) -> Capture:
    kind, _, layer = chosen.partition(" ")
    cfg = HookpointConfig(kind, layer=int(layer)) if layer else HookpointConfig("custom", name=chosen)
    return Capture(model, resolve(cfg, model))


def hooks_left(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@PRECISIONS
@pytest.mark.parametrize(("model_type", "mlp"), [("bloom", "h.1.mlp"), ("mpt", "blocks.1.ffn")])
def test_an_mlp_that_holds_the_residual_is_not_what_it_adds(model_type, mlp, dtype, monkeypatch):
    model = build(model_type).to(dtype)
    assert proved_width(at(model, "mlp 1")) == 32
    assert at(model, "mlp 1").hookpoint.name != mlp
    # a model whose code does not say so in its signature
    monkeypatch.setattr(Blocks, "_writer", Blocks._sublayer)
    with pytest.raises(HookpointError, match=r"does not change by the output of .* alone; choose hookpoint="):
        proved_width(at(model, "mlp 1"))
    # by its own name it is the module as it is, as sparsify reads it
    monkeypatch.undo()
    assert (at(model, mlp).hookpoint.position, at(model, mlp).hookpoint.kind) == (None, "custom")
    assert proved_width(at(model, mlp)) == 32


@pytest.mark.parametrize(
    ("model_type", "chosen", "wrong", "words"),
    [
        ("gemma2", "blocks.1.hook_mlp_out", "layers.1.mlp", "does not change by"),
        ("gemma2", "blocks.1.hook_attn_out", "layers.1.self_attn", "does not change by"),
        ("olmo2", "blocks.1.hook_mlp_out", "layers.1.mlp", "does not change by"),
        ("llama", "mlp 1", "layers.1.self_attn", "does not change by"),
        ("llama", "mlp 1", "layers.1.post_attention_layernorm", "does not change by"),
        ("llama", "attention 0", "layers.0.mlp", "does not change by"),
        ("gpt_neox", "mlp 1", "layers.1.input_layernorm", "does not change by"),
        ("gpt2", "resid 0", "h.0.mlp", "is not what the next block reads"),
        ("gpt2", "resid 1", "h.1.attn", "nothing after the last block reads"),
        ("gpt2", "blocks.1.hook_resid_pre", "h.1.mlp", "is not what the next block reads"),
        ("gpt2", "blocks.1.hook_resid_mid", "h.1.ln_1", "does not change by"),
        ("llama", "blocks.1.attn.hook_z", "layers.1.self_attn.q_proj", "is more than what"),
        ("llama", "blocks.1.mlp.hook_post", "layers.1.mlp.up_proj", "is more than what"),
    ],
)
def test_a_wrong_row_of_names_is_refused(model_type, chosen, wrong, words, monkeypatch):
    """The names of a position are changed under the proof: it must not believe them."""
    model = build(model_type)
    assert proved_width(at(model, chosen))
    hookpoint = at(model, chosen).hookpoint
    right = Blocks.place

    def wrong_place(self, layer, position):
        place = right(self, layer, position)
        same = (place.name, place.side) == (hookpoint.name, hookpoint.side)
        return replace(place, name=wrong) if same else place

    monkeypatch.setattr(Blocks, "place", wrong_place)
    with pytest.raises(HookpointError, match=words) as info:
        proved_width(at(model, chosen))
    assert "\n" not in str(info.value)
    assert not hooks_left(model)


def test_a_stream_that_is_changed_between_blocks():
    model = build("llama")
    model.base_model.layers[1].register_forward_pre_hook(lambda _m, args: (2 * args[0], *args[1:]))
    for name in ("resid 0", "blocks.1.hook_resid_pre"):
        with pytest.raises(HookpointError, match="is not what the next block reads"):
            proved_width(at(model, name))
    assert proved_width(at(model, "resid 1"))


class Restless(nn.Module):
    """Gives something else every time, as dropout that is left on does."""

    def forward(self, x):
        return x + torch.rand_like(x)


class Overwrites(nn.Module):
    """Uses the memory of its input, as in-place operations do."""

    def forward(self, x):
        y = 2 * x
        x.zero_()
        return y


def test_a_module_that_overwrites_its_input():
    model = build("llama")
    model.base_model.layers[1].mlp = Overwrites()
    for name in ("layers.1.mlp.input", "mlp 1"):
        assert proved_width(at(model, name)) == 32


def test_a_block_that_scales_all_of_the_stream():
    """Gemma 4: the stream goes on with the block's factor, so an edit in its middle cannot be carried on."""
    model = build("gemma4_text")
    for block in model.base_model.layers:
        block.layer_scalar.fill_(0.5)
    for name in ("mlp 1", "attention 1", "resid 1", "blocks.1.hook_mlp_out"):
        assert proved_width(at(model, name)) == 32
    with pytest.raises(HookpointError, match="cannot be taken as resid_mid"):
        proved_width(at(model, "blocks.1.hook_resid_mid"))


def test_a_module_that_gives_something_else_every_time():
    model = build("llama")
    model.base_model.layers[0].mlp = Restless()
    with pytest.raises(HookpointError, match="other activations in a full pass than in one that stops there"):
        proved_width(at(model, "layers.0"))


@PRECISIONS
def test_a_model_that_sees_later_tokens(dtype):
    """Weights as they are drawn: the attention of BERT then changes the stream by little."""
    torch.manual_seed(0)
    cfg = hf.BertConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    two_sided = hf.BertLMHeadModel(cfg).eval().requires_grad_(False).to(dtype)
    with pytest.raises(ModelError, match=r"BertModel is not causal: at encoder\.layer\.0 .* choose a causal"):
        proved_width(at(two_sided, "resid 0"))
    cfg.is_decoder = True
    one_sided = hf.BertLMHeadModel(cfg).eval().requires_grad_(False).to(dtype)
    assert proved_width(at(one_sided, "resid 1")) == 32
    assert not hooks_left(two_sided)


@PRECISIONS
def test_a_mixture_of_experts_may_round_otherwise(dtype):
    """More tokens for one expert are another product, with other last bits: that is not sight."""
    model = build("mixtral").to(dtype)
    gate = model.base_model.layers[0].mlp

    def rounds(_module, args, output):
        tokens = args[0].shape[1]
        return output + (output[:, -1:] * 1e-3).sum().detach() * torch.finfo(dtype).eps * tokens

    gate.register_forward_hook(rounds)
    text = torch.arange(3, 11)[None]
    other = text.clone()
    other[:, 4:] += 9
    capture = at(model, "resid 0")
    if dtype is torch.float32:
        with torch.inference_mode():
            assert not torch.equal(capture(text)[:, :4], capture(other)[:, :4])
    assert proved_width(capture) == 32


def test_modules_that_text_does_not_reach():
    model = next(a for a in ARCHITECTURES if a.model_type == "gemma3").build()
    name = next(n for n, _ in model.base_model.named_modules() if "vision" in n and n.endswith("mlp"))
    with pytest.raises(HookpointError, match="the forward pass does not run vision"):
        proved_width(at(model, name))
    assert Blocks(model.base_model).prefix == "language_model.layers"


def test_a_model_that_does_not_run_on_text_alone():
    model = build("llama")
    model.base_model.register_forward_pre_hook(lambda _m, _args: (_ for _ in ()).throw(KeyError("no\nimage")))
    with pytest.raises(ModelError, match="LlamaModel does not run on a text of 8 tokens: 'no") as info:
        proved_width(at(model, "resid 0"))
    assert "\n" not in str(info.value)


def test_nan_is_left_to_the_pass_that_names_its_tokens():
    model = build("llama")
    model.base_model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    assert proved_width(at(model, "resid 1")) == 32


def test_it_costs_a_few_tokens():
    lm = load_model(ModelConfig("embedded"), torch.float32, 0)
    tokens: list[int] = []
    lm.model.get_input_embeddings().register_forward_pre_hook(lambda _m, args: tokens.append(args[0].numel()))
    capture = at(lm.model, "mlp 2")
    proved_width(capture)
    assert sum(tokens) <= 32
    started = time.perf_counter()
    proved_width(capture)
    assert time.perf_counter() - started < 0.3


@pytest.mark.parametrize("name", ["layers.*", "layers.[12]", "layers.?", "layers.1, layers.2", "[layers.1]"])
def test_one_hookpoint_a_job(name):
    with pytest.raises(SaescopeError, match=r"one hookpoint a job.*saescope -m hookpoint\.layer=0,1,2"):
        HookpointConfig("custom", name=name)


def test_refused_models_are_built_as_they_are_named():
    assert build_refused("deepseek_v4").config.model_type == "deepseek_v4"
