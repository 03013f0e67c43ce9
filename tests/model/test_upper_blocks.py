"""The upper part of a model: the logits of the whole, no block below runs; what cannot be entered is said."""

import dataclasses

import pytest
import torch
import transformers as hf

from saescope.config import HookpointConfig
from saescope.model.blocks import Blocks
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.losses import edit_at, scored_logits
from saescope.model.upper_blocks import UpperBlocks, entered_at, top, upper_blocks

LAYERS = 4
SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS = {
    "neox": lambda: hf.GPTNeoXForCausalLM(
        hf.GPTNeoXConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"})
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=90, n_embd=32, n_layer=LAYERS, n_head=4)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**SMALL, head_dim=8, sliding_window=4, final_logit_softcapping=5.0)
    ),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**SMALL, num_local_experts=4)),
    "bloom": lambda: hf.BloomForCausalLM(
        hf.BloomConfig(vocab_size=90, hidden_size=32, n_layer=LAYERS, n_head=4)
    ),
}
IDS = torch.randint(3, 90, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def block_passes(model):
    """How often each block computes something, counted by the calls of its first norm or projection."""
    counts = [0] * LAYERS
    for number, block in enumerate(Blocks(model.base_model).modules):
        part = next(module for module in block.modules() if not list(module.children()))

        def count(_module, _args, number=number):
            counts[number] += 1

        part.register_forward_pre_hook(count)
    return counts


@pytest.mark.parametrize("entry", range(1, LAYERS + 1))
@torch.inference_mode()
def test_same_logits_and_no_block_below_runs(model, entry):
    upper = UpperBlocks(model, entry)
    with upper.recorded() as streams:
        whole = model(input_ids=IDS, use_cache=False).logits
    counts = block_passes(model)
    with upper.entered(streams[0]):
        entered = model(input_ids=IDS, use_cache=False).logits
    assert torch.equal(whole, entered)
    assert counts == [0] * entry + [1] * (LAYERS - entry)
    assert torch.equal(model(input_ids=IDS, use_cache=False).logits, whole), "the model is as before"


@pytest.mark.parametrize(
    ("hookpoint", "entry"),
    [
        (HookpointConfig("resid", layer=1), 2),
        (HookpointConfig("custom", name="blocks.1.hook_resid_pre"), 1),
        (HookpointConfig("attention", layer=2), 2),
        (HookpointConfig("resid", layer=LAYERS - 1), LAYERS),
    ],
)
@torch.inference_mode()
def test_an_edit_gives_the_same_logits_from_its_block_on(model, hookpoint, entry):
    point = resolve(hookpoint, model)
    upper = upper_blocks(model, point, IDS)
    assert len(upper.below) == entry
    scored = torch.ones(3, 11, dtype=torch.bool)
    edit = edit_at(torch.ones(3, 12, dtype=torch.bool), lambda _x, old: 0.5 * old.roll(1, 0))
    with upper.recorded() as streams:
        clean = scored_logits(model, IDS, scored)
    with Capture(model, point).replaced(edit):
        whole = scored_logits(model, IDS, scored)
    with upper.entered(streams[0]), Capture(model, point).replaced(edit):
        entered = scored_logits(model, IDS, scored)
    assert torch.equal(whole, entered)
    assert not torch.equal(clean, entered)


def test_nothing_below():
    model = MODELS["llama"]().eval()
    assert upper_blocks(model, resolve(HookpointConfig("mlp", layer=0), model), IDS) is None
    assert upper_blocks(model, resolve(HookpointConfig("custom", name="embed_tokens"), model), IDS) is None
    assert entered_at(model, [top(model)], IDS)[LAYERS] is not None


@torch.inference_mode()
def test_several_entries_are_checked_against_one_whole_pass():
    model = MODELS["llama"]().eval()
    counts = block_passes(model)
    assert all(entered_at(model, [2, LAYERS], IDS).values())
    assert counts == [1, 1, 2, 2]


def test_a_block_that_reads_another_block_is_noticed(caplog):
    """Block 3 adds what block 0 left aside, as models with shared keys or value residuals do."""
    model = MODELS["llama"]().eval()
    blocks = model.base_model.layers
    left = []
    blocks[0].register_forward_hook(lambda _m, _a, out: left.append(out))
    blocks[3].register_forward_hook(lambda _m, _a, out: out + left.pop())
    with caplog.at_level("INFO"):
        assert upper_blocks(model, resolve(HookpointConfig("resid", layer=1), model), IDS) is None
    assert "cannot be entered at block 2" in caplog.text


def test_a_model_that_fails_in_the_middle_is_noticed():
    model = MODELS["llama"]().eval()
    blocks = model.base_model.layers
    kept = {}

    blocks[0].input_layernorm.register_forward_hook(lambda _m, _a, out: kept.update(keys=out))
    blocks[3].register_forward_hook(lambda _m, _a, out: out + kept.pop("keys"))
    assert upper_blocks(model, resolve(HookpointConfig("resid", layer=1), model), IDS) is None


def test_an_edit_that_reads_a_lower_block_needs_the_blocks_between():
    """As that of a cross-layer transcoder does."""
    model = MODELS["llama"]().eval()
    point = resolve(HookpointConfig("mlp", layer=2), model)
    below = resolve(HookpointConfig("custom", name="layers.1.mlp.input"), model)
    same = resolve(HookpointConfig("custom", name="layers.2.mlp.input"), model)
    assert upper_blocks(model, dataclasses.replace(point, side="both", reads=below), IDS) is None
    assert len(upper_blocks(model, dataclasses.replace(point, side="both", reads=same), IDS).below) == 2
