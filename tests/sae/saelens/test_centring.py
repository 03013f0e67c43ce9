"""`center_writing_weights`: an SAE trained on TransformerLens' centred activations on plain ones."""

import pytest
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig

from saescope.config import HookpointConfig
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from tests.sae.saelens.make import D_SAE, METADATA, dense, make, ours, saved

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty")
CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


@pytest.fixture(scope="module")
def gpt2():
    """A random GPT-2 whose norms and biases are not trivial, and the same in TransformerLens, centred."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=60, n_positions=32, n_embd=32, n_layer=3, n_head=4)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1 + 0.05)
    cfg = HookedTransformerConfig(
        n_layers=3, d_model=32, n_ctx=32, d_head=8, n_heads=4, d_mlp=128, d_vocab=60, act_fn="gelu_new",
        normalization_type="LN", eps=config.layer_norm_epsilon,
    )  # fmt: skip
    lens = HookedTransformer(cfg)
    lens.load_and_process_state_dict(
        convert_gpt2_weights(model, cfg), fold_ln=False, center_writing_weights=True, center_unembed=False,
        fold_value_biases=False,
    )  # fmt: skip
    return model, lens


@pytest.mark.parametrize("hook", ["hook_resid_pre", "hook_resid_post", "hook_mlp_out", "hook_attn_out"])
def test_codes_and_errors_equal_those_on_the_centred_model(gpt2, tmp_path, hook):
    model, lens = gpt2
    model.config.save_pretrained(tmp_path / "model")
    name = f"blocks.1.{hook}"
    sae = make("jumprelu", metadata={**METADATA, **CENTRED, "hook_name": name})
    sae.threshold.data *= 0.2
    loaded = ours(saved(tmp_path / "sae", sae), tmp_path / "model", hookpoint=name)
    assert loaded.centred
    tokens = torch.randint(0, 60, (4, 20))
    with torch.no_grad():
        _, cache = lens.run_with_cache(tokens)
        theirs = cache[name].flatten(0, 1)
        plain = Capture(model, resolve(HookpointConfig("custom", name=name), model))(tokens).flatten(0, 1)
        assert (theirs - plain).abs().max() > 0.01  # the two do differ
        codes = loaded.encode(plain)
        wanted = sae.encode(theirs)
        assert (wanted != 0).any()
        torch.testing.assert_close(dense(codes, D_SAE), wanted, atol=1e-5, rtol=1e-4)
        errors = sae.decode(wanted) - theirs
        torch.testing.assert_close(loaded.decode(codes) - plain, errors, atol=1e-5, rtol=1e-4)


def test_rms_norm_models_are_not_centred(tmp_path):
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4
    )
    config.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(config.to_json_string())
    loaded = ours(
        saved(tmp_path / "sae", make("standard", metadata={**METADATA, **CENTRED})), tmp_path / "model"
    )
    assert not loaded.centred
    assert loaded.warnings == ()
