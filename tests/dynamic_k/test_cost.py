"""FLOP and byte fractions: closed forms, and PyTorch's own counter on a form it can count."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from saescope.dynamic_k.cost import cost, macs_of, saving_of
from saescope.dynamic_k.implementations import sliced
from saescope.dynamic_k.mlps import edited, find_mlps, masked, weight_in_out
from saescope.dynamic_k.selectors import top_mask

from .models import KINDS, D, F, batch, tiny

PYTHIA = {
    # name: width, layers, heads, vocabulary; share of the down-projections in all weight products, in percent
    "70m": (512, 6, 8, 50304, 14.1),
    "410m": (1024, 24, 16, 50304, 28.5),
    "6.9b": (4096, 32, 32, 50432, 32.3),
}


@pytest.mark.parametrize("name", PYTHIA)
def test_pythia_closed_forms(name):
    width, layers, heads, vocabulary, share = PYTHIA[name]
    with torch.device("meta"):
        model = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                intermediate_size=4 * width, vocab_size=vocabulary,
            )
        )  # fmt: skip
    macs = macs_of(model, find_mlps(model), context=0)
    square = width * width
    assert (macs.up, macs.down, macs.attention) == (4 * square * layers,) * 3
    assert macs.unembedding == width * vocabulary
    assert macs.total == macs.weights == 12 * square * layers + width * vocabulary
    nearly_none = cost(macs, "gather", 0.0)
    assert 100 * (1 - nearly_none["total_flops_frac"]) == pytest.approx(share, abs=0.05)
    assert nearly_none["mlp_flops_frac"] == pytest.approx(0.5)  # the up-projection chooses, and is computed
    assert cost(macs, "sliced", 0.3)["mlp_flops_frac"] == pytest.approx(0.3)
    assert 1 - cost(macs, "sliced", 0.0)["total_flops_frac"] == pytest.approx(2 * share / 100, abs=1e-3)
    at_2048 = macs_of(model, find_mlps(model), context=2048)
    assert at_2048.scores == 2 * 2048 * width * layers
    assert cost(at_2048, "gather", 0.3)["total_flops_frac"] > cost(macs, "gather", 0.3)["total_flops_frac"]
    assert cost(at_2048, "gather", 0.3)["weight_bytes_frac"] == cost(macs, "gather", 0.3)["weight_bytes_frac"]
    for impl in ("mask", "gather", "sliced"):
        assert set(cost(macs, impl, 1.0).values()) == {1.0}


def test_layers_left_dense_are_in_the_denominator():
    model = tiny("gpt_neox")
    half = macs_of(model, find_mlps(model, (1,)), context=0)
    assert cost(half, "sliced", 0.5)["mlp_flops_frac"] == pytest.approx(0.75)


def counted(model, ids):
    """Without the angles of the rotary embedding, which only older versions of PyTorch count."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False)
    with torch.inference_mode(), FlopCounterMode(display=False) as angles:
        if rotary := getattr(model.base_model, "rotary_emb", None):
            rotary(torch.zeros(1), torch.arange(ids.shape[1])[None])
    return counter.get_total_flops() - angles.get_total_flops()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0.1, 0.5, 1.0])
def test_analytic_flops_are_those_pytorch_counts(kind, k):
    """Dense and sliced models as they are; the gathered down-projection in its `mm` form, one token."""
    model = tiny(kind)
    model.set_attn_implementation("eager")  # the counter does not know the fused product of the CPU
    mlps = find_mlps(model)
    length = 9
    ids = batch((length, length)).input_ids_BT
    macs = macs_of(model, mlps, context=length)
    dense = counted(model, ids)
    assert dense == 2 * 2 * length * macs.total
    with sliced(mlps, lambda mlp: top_mask(torch.rand(F), k)):
        assert counted(model, ids) == pytest.approx(dense * cost(macs, "sliced", k)["total_flops_frac"])
    with masked(mlps, lambda mlp, acts: top_mask(acts.abs(), k)):
        assert counted(model, ids) == dense  # a masked product saves nothing
    with FlopCounterMode(display=False) as counter:
        acts = torch.randn(1, F)
        kept = top_mask(acts.abs(), k)[0].nonzero().squeeze(-1)
        acts[:, kept] @ weight_in_out(mlps[0].down)[kept]
    up = sum(m.weight.numel() for m in mlps[0].projections[:-1])
    mine = cost(macs, "gather", k)["mlp_flops_frac"] * (up + F * D) * 2
    assert counter.get_total_flops() == pytest.approx(mine - 2 * up)


def test_weight_bytes_are_those_of_the_sliced_model():
    model = tiny("llama")
    macs = macs_of(model, find_mlps(model), context=100)

    def matrices():
        inside = [p.numel() for n, p in model.model.layers.named_parameters() if p.ndim == 2]
        return sum(inside) + model.lm_head.weight.numel()

    dense = matrices()
    assert dense == macs.weights
    with sliced(find_mlps(model), lambda mlp: top_mask(torch.rand(F), 0.25)):
        assert matrices() / dense == pytest.approx(cost(macs, "sliced", 0.25)["weight_bytes_frac"])
    with edited(find_mlps(model), lambda mlp, acts: acts):
        assert matrices() == dense


def test_what_is_realised():
    assert {g: saving_of(g, "mask") for g in ("token", "sequence", "task", "static")} == dict.fromkeys(
        ("token", "sequence", "task", "static"), "oracle"
    )
    assert saving_of("token", "gather") == "realised"
    assert {saving_of(g, "sliced") for g in ("sequence", "task", "static")} == {"realised"}
    with pytest.raises(AssertionError):
        saving_of("static", "gather")
