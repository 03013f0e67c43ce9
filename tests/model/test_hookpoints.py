"""Every spelling of every position, in ten kinds of model, against values captured without our code."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch
import transformers as hf

from saescope.cli.main import main
from saescope.config import HookpointConfig
from saescope.errors import HookpointError
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve

LAYERS = 4
WIDE = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
SMALL = {**WIDE, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
NEOX = {**WIDE, "intermediate_size": 48}
GEMMA = {**SMALL, "sliding_window": 4, "query_pre_attn_scalar": 8}
MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**NEOX)),
    "neox-sequential": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**NEOX, use_parallel_residual=False)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=90, n_embd=32, n_layer=LAYERS, n_head=4)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**SMALL)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**SMALL)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GEMMA)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GEMMA)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SMALL)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**SMALL)),
}
ROOT = {"neox": "gpt_neox", "neox-sequential": "gpt_neox", "gpt2": "transformer"}
NAMES = {
    "neox": ("layers", "attention", "attention.dense", "mlp.dense_4h_to_h"),
    "gpt2": ("h", "attn", "attn.c_proj", "mlp.c_proj"),
    "other": ("layers", "self_attn", "self_attn.o_proj", "mlp.down_proj"),
}
"""Module list, and in a block: attention, last projection of attention, last projection of the MLP."""


@cache
def model(kind: str) -> torch.nn.Module:
    """Random weights, norms and biases too: a forgotten norm would show."""
    torch.manual_seed(len(kind))
    random_model = MODELS[kind]().eval().requires_grad_(False)
    for parameter in random_model.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return random_model


@cache
def ids() -> torch.Tensor:
    return torch.randint(0, 90, (3, 11), generator=torch.Generator().manual_seed(5))


def names(kind: str) -> tuple[str, str, str, str]:
    return NAMES.get(kind.split("-")[0], NAMES["other"])


@contextmanager
def watched(kind: str) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs and outputs of all modules in an ordinary forward pass, under `name` and `name.input`."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for name, module in model(kind).base_model.named_modules():

        def note(_module, args, kwargs, output, name=name):
            given = args[0] if args else kwargs.get("hidden_states")
            seen[name + ".input"] = given
            seen[name] = output[0] if isinstance(output, tuple) else output

        handles.append(module.register_forward_hook(note, with_kwargs=True))
    yield seen
    for handle in handles:
        handle.remove()


@cache
def truth(kind: str) -> tuple[dict[str, torch.Tensor], tuple[torch.Tensor, ...], torch.Tensor]:
    with watched(kind) as seen, torch.inference_mode():
        output = model(kind)(input_ids=ids(), output_hidden_states=True)
    return seen, output.hidden_states, output.logits


def captured(kind: str, name: str) -> torch.Tensor:
    point = resolve(HookpointConfig("custom", name=name), model(kind))
    with torch.inference_mode():
        return Capture(model(kind), point)(ids())


def spellings(kind: str, layer: int) -> dict[str, list[str]]:
    """Where a position lies (key, as in `watched`) → its spellings; by hand, from the models' source."""
    blocks, attention, last_attention, last_mlp = names(kind)
    root = ROOT.get(kind, "model")
    block, lens = f"{blocks}.{layer}", f"blocks.{layer}"
    table = {
        f"{block}.input": [f"{lens}.hook_resid_pre", f"{block}.input", f"layers.{layer}.input"],
        block: [f"{lens}.hook_resid_post", f"layers.{layer}", f"h.{layer}", block, f"{root}.{block}"],
        f"{block}.mlp": [
            f"layers.{layer}.mlp", f"h.{layer}.mlp", f"{root}.{block}.mlp", f"{lens}.mlp.hook_out",
        ],
        f"{block}.mlp.input": [
            f"layers.{layer}.mlp.input", f"{root}.{block}.mlp.input", f"{lens}.mlp.hook_in",
        ],
        f"{block}.{attention}": [
            f"layers.{layer}.attention", f"layers.{layer}.self_attn", f"h.{layer}.attn",
            f"{block}.{attention}", f"{root}.{block}.{attention}",
        ],
        f"{block}.{attention}.input": [f"layers.{layer}.attention.input"],
        f"{block}.{last_attention}.input": [f"{lens}.attn.hook_z", f"{root}.{block}.{last_attention}.input"],
        f"{block}.{last_mlp}.input": [f"{lens}.mlp.hook_post"],
    }  # fmt: skip
    if kind in ("gemma2", "gemma3"):
        table[f"{block}.post_attention_layernorm"] = [f"{lens}.hook_attn_out"]
        table[f"{block}.post_feedforward_layernorm"] = [f"{lens}.hook_mlp_out"]
        table[f"{block}.pre_feedforward_layernorm.input"] = [f"{lens}.hook_resid_mid", f"{lens}.hook_mlp_in"]
    else:
        table[f"{block}.{attention}"].append(f"{lens}.hook_attn_out")
        table[f"{block}.mlp"].append(f"{lens}.hook_mlp_out")
        before_mlp = "ln_2" if kind == "gpt2" else "post_attention_layernorm"
        table[f"{block}.{before_mlp}.input"] = [f"{lens}.hook_mlp_in"]
        if kind != "neox":
            table[f"{block}.{before_mlp}.input"].append(f"{lens}.hook_resid_mid")
    return table


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("kind", MODELS)
def test_every_spelling_gives_the_very_tensor(kind, layer):
    seen = truth(kind)[0]
    for where, spelled in spellings(kind, layer).items():
        points = [resolve(HookpointConfig("custom", name=name), model(kind)) for name in spelled]
        assert {point.label for point in points} == {where}
        assert len(set(points)) == 1, points
        assert (points[0].layer, points[0].num_layers) == (layer, LAYERS)
        for name in spelled:
            assert torch.equal(captured(kind, name), seen[where]), name


@pytest.mark.parametrize("kind", MODELS)
def test_positions_are_those_of_the_residual_stream(kind):
    """By what they must add up to, and by `output_hidden_states`: no module name is used here."""
    _, states, _ = truth(kind)
    for i in range(LAYERS):
        pre, post, attention, mlp = (
            captured(kind, f"blocks.{i}.{hook}")
            for hook in ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
        )
        assert torch.equal(pre, states[i])
        if i < LAYERS - 1:
            assert torch.equal(post, states[i + 1])
        else:
            norm = next(
                m for m in reversed(list(model(kind).base_model.children())) if "Norm" in str(type(m))
            )
            assert torch.equal(norm(post), states[i + 1])
        if kind == "neox":
            assert torch.equal(post, mlp + attention + pre)
        else:
            middle = captured(kind, f"blocks.{i}.hook_resid_mid")
            assert torch.equal(middle, pre + attention)
            assert torch.equal(post, middle + mlp)
            assert not torch.allclose(middle, pre, atol=1e-3)


@pytest.mark.parametrize("kind", MODELS)
def test_inner_positions_give_the_outputs(kind):
    _, _, last_attention, last_mlp = names(kind)
    for i in range(LAYERS):
        block = model(kind).base_model.get_submodule(f"{names(kind)[0]}.{i}")
        heads, hidden = (captured(kind, f"blocks.{i}.{hook}") for hook in ("attn.hook_z", "mlp.hook_post"))
        # the shared spelling: the module's own output, before a norm that may follow
        assert torch.equal(
            block.get_submodule(last_attention)(heads), captured(kind, f"layers.{i}.attention")
        )
        assert torch.equal(block.get_submodule(last_mlp)(hidden), captured(kind, f"layers.{i}.mlp"))


@pytest.mark.parametrize("kind", MODELS)
def test_the_embeddings_are_those_of_the_tokens(kind):
    """TransformerLens' hook_embed: scaled as the model scales them, positions not added."""
    point = resolve(HookpointConfig("custom", name="hook_embed"), model(kind))
    embedded = captured(kind, "hook_embed")
    scale = 32**0.5 if "gemma" in kind else 1.0
    torch.testing.assert_close(embedded, model(kind).get_input_embeddings().weight[ids()] * scale)
    assert (point.layer, point.kind, point.side) == (None, "custom", "output")
    if kind != "gpt2":
        assert torch.equal(embedded, truth(kind)[1][0])


@pytest.mark.parametrize("kind", MODELS)
def test_a_kind_with_a_layer_is_the_module_itself(kind):
    blocks, attention, *_ = names(kind)
    for where, name in (("resid", ""), ("mlp", ".mlp"), ("attention", f".{attention}")):
        point = resolve(HookpointConfig(where, layer=2), model(kind))
        assert (point.kind, point.side, point.name) == (where, "output", f"{blocks}.2{name}")


@pytest.mark.parametrize("kind", MODELS)
def test_kinds(kind):
    hooks = {
        "hook_resid_pre": "resid", "hook_resid_post": "resid", "hook_mlp_out": "mlp",
        "hook_attn_out": "attention", "mlp.hook_post": "custom", "attn.hook_z": "custom",
    }  # fmt: skip
    for hook, expected in hooks.items():
        hookpoint = resolve(HookpointConfig("custom", name=f"blocks.1.{hook}"), model(kind))
        assert hookpoint.kind == expected
        again = resolve(HookpointConfig("custom", name=hookpoint.label), model(kind))
        assert again == hookpoint, "what is printed can be typed"


@pytest.mark.parametrize("kind", [k for k in MODELS if k != "neox"])
def test_an_edit_between_attention_and_mlp_changes_the_stream(kind):
    """The rest of the block is computed here from the edited stream with the model's own parts."""
    block = model(kind).base_model.get_submodule(f"{names(kind)[0]}.1")
    point = resolve(HookpointConfig("custom", name="blocks.1.hook_resid_mid"), model(kind))
    capture = Capture(model(kind), point)
    moved = captured(kind, "blocks.1.hook_resid_mid") * 0.5 + 1.0
    norm = model(kind).base_model.get_submodule(point.name)
    with torch.inference_mode():
        added = block.mlp(norm(moved))
        expected = moved + (
            block.post_feedforward_layernorm(added) if kind in ("gemma2", "gemma3") else added
        )
        with capture.replaced(lambda x, _: x * 0.5 + 1.0):
            after = captured(kind, "blocks.1.hook_resid_post")
        with capture.replaced(lambda x, _: x.clone()):
            assert torch.equal(model(kind)(input_ids=ids()).logits, truth(kind)[2])
    torch.testing.assert_close(after, expected, atol=2e-5, rtol=1e-5)
    assert torch.equal(captured(kind, "blocks.1.hook_resid_post"), truth(kind)[0][f"{names(kind)[0]}.1"])


@pytest.mark.parametrize(
    ("kind", "name", "first"),
    [
        ("neox", "layers.2.mpl", "layers.2.mlp"),
        ("neox", "layer.2.mlp", "layers.2.mlp"),
        ("neox", "transformer.h.1", "layers.1"),
        ("neox", "model.layers.3.mlp", "layers.3.mlp"),
        ("neox", "gpt_neox.layers.1.atention", "layers.1.attention"),
        ("neox", "blocks.2.hook_mlp_output", "blocks.2.hook_mlp_out"),
        ("neox", "blocks.2.resid_post", "blocks.2.hook_resid_post"),
        ("neox", "embed", "embed_in"),
        ("gpt2", "gpt_neox.layers.3", "h.3"),
        ("gpt2", "transformer.h.2.atn", "h.2.attn"),
        ("llama", "model.layers.0.self_atn", "layers.0.self_attn"),
        ("gemma2", "layers.1.post_feedforward_norm", "layers.1.post_feedforward_layernorm"),
        ("qwen3", "blocks.3.attn.hook_zz", "blocks.3.attn.hook_z"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_first(kind, name, first):
    with pytest.raises(HookpointError) as info:
        resolve(HookpointConfig("custom", name=name), model(kind))
    text = str(info.value)
    assert f"hookpoint.name={name} is not in" in text
    assert f"did you mean '{first}'? valid, nearest first: {first}, " in text
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("layers.9", "layers.3"),
        ("h.4.mlp", "h.3.mlp"),
        ("blocks.10.hook_resid_post", "blocks.3.hook_resid_post"),
        ("gpt_neox.layers.4.attention", "gpt_neox.layers.3.attention"),
        ("gpt_neox.layers.12.mlp.input", "gpt_neox.layers.3.mlp.input"),
        ("layrs.7.mlp", "layrs.3.mlp"),
    ],
)
def test_a_layer_out_of_range(name, nearest):
    with pytest.raises(HookpointError, match="this model has layers 0–3") as info:
        resolve(HookpointConfig("custom", name=name), model("neox"))
    assert str(info.value).endswith(f"nearest: hookpoint.name={nearest}")
    for kind in ("resid", "mlp", "attention"):
        with pytest.raises(
            HookpointError, match=r"hookpoint\.layer=10: this model has layers 0–3; .*=3 or less"
        ):
            resolve(HookpointConfig(kind, layer=10), model("neox"))


def test_positions_a_model_does_not_have_are_explained():
    with pytest.raises(
        HookpointError, match=r"layers\.2 has no resid_mid: .*parallel residual.*hook_resid_pre"
    ):
        resolve(HookpointConfig("custom", name="blocks.2.hook_resid_mid"), model("neox"))
    torch.manual_seed(0)
    bloom = hf.BloomForCausalLM(hf.BloomConfig(vocab_size=90, hidden_size=32, n_layer=2, n_head=4))
    mamba = hf.MambaForCausalLM(hf.MambaConfig(vocab_size=90, hidden_size=16, num_hidden_layers=2))
    for hook in ("hook_mlp_out", "hook_resid_mid"):
        with pytest.raises(HookpointError, match=r"layers\.1 has no mlp module; its parts are norm, mixer"):
            resolve(HookpointConfig("custom", name=f"blocks.1.{hook}"), mamba)
    assert resolve(HookpointConfig("custom", name="blocks.1.hook_resid_pre"), bloom).label == "h.1.input"
    assert resolve(HookpointConfig("attention", layer=1), bloom).name == "h.1.self_attention.dense"
    assert resolve(HookpointConfig("custom", name="h.1.self_attention"), bloom).kind == "custom"


def test_modules_without_an_activation_are_refused():
    with pytest.raises(HookpointError, match=r"embed_in\.input holds token ids"):
        resolve(HookpointConfig("custom", name="embed_in.input"), model("neox"))
    with pytest.raises(HookpointError, match="is not in GPTNeoXForCausalLM"):
        resolve(HookpointConfig("custom", name="layers"), model("neox"))
    heads = resolve(HookpointConfig("custom", name="layers.1.self_attn.q_norm"), model("qwen3"))
    with pytest.raises(HookpointError, match=r"q_norm gives torch.float32 of shape \[1, 2, 4, 8\]"):
        Capture(model("qwen3"), heads).width()


@pytest.mark.parametrize(
    ("layers", "expected"), [(6, [1, 3, 4]), (12, [3, 6, 9]), (24, [6, 12, 18]), (100, [25, 50, 75])]
)
def test_the_same_depth_in_models_of_several_sizes(layers, expected):
    with torch.device("meta"):
        neox = hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**{**NEOX, "num_hidden_layers": layers}))
    layers_at_depth = [
        resolve(HookpointConfig("resid", depth=depth), neox).layer for depth in (0.25, 0.5, 0.75)
    ]
    assert layers_at_depth == expected
    assert resolve(HookpointConfig("mlp", depth=29 / 100), neox).layer == 29 * layers // 100
    assert resolve(HookpointConfig("mlp", depth=1.0), neox).layer == layers - 1


@pytest.mark.slow
def test_a_sweep_over_depths(tmp_path, model_folder, probes, monkeypatch):
    args = [
        "-m", "hookpoint.depth=0.25,0.5,0.75", "model=local", f"model.name={model_folder}", "sae=neurons",
        "sae.k=8", "probes=folder", f"probes.path={probes}", "probes.ctx_len=64", "metrics=quick",
        "metrics.lm_tokens=0", "probes.max_tokens_per_task=600", "tracking=disabled",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["saescope", *args])
    assert main() == 0
    runs = [json.loads((tmp_path / "sweep" / str(i) / "provenance.json").read_text()) for i in range(3)]
    assert [run["hookpoint"]["name"] for run in runs] == ["layers.1", "layers.2", "layers.3"]


def test_the_resolved_hookpoint_is_logged(caplog):
    caplog.set_level(logging.INFO, "saescope")
    resolve(HookpointConfig("custom", name="blocks.2.hook_mlp_out"), model("gemma2"))
    resolve(HookpointConfig("attention", depth=0.5), model("gpt2"))
    assert caplog.messages == [
        "blocks.2.hook_mlp_out is the output of module layers.2.post_feedforward_layernorm "
        "(mlp, layer 2 of 0–3)",
        "attention at depth 0.5 is the output of module h.2.attn (attention, layer 2 of 0–3)",
    ]
