"""The grid, and what its masks keep: of whole models, of padding, of prompts, of calibration."""

import pytest
import torch

from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.calibration import fitting_batch
from saescope.dynamic_k.implementations import sliced
from saescope.dynamic_k.mlp_summary import headline
from saescope.dynamic_k.mlps import edited
from saescope.dynamic_k.selectors import top_mask
from saescope.dynamic_k.variants import prompt_positions, variants
from saescope.errors import ConfigError

from .models import KINDS, F, batch, fitted_masks, logits, passes, tiny, windows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compensation", ["none", "mean"])
def test_all_kept_is_the_untouched_model_and_hooks_leave_nothing(kind, compensation):
    model, some = tiny(kind), batch((9, 9))
    before = logits(model, some.input_ids_BT)
    job = DynamicKConfig(target="mlp", k=(0.3, 1.0))
    for masks in fitted_masks(model, job, compensation):
        with masks.applied(some):
            inside = logits(model, some.input_ids_BT)
        assert torch.equal(inside, before) == (masks.variant.k == 1.0)
        assert torch.equal(logits(model, some.input_ids_BT), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["all", "generation"])
def test_padding_is_neither_kept_nor_counted_nor_seen(kind, phase):
    model = tiny(kind)
    job = DynamicKConfig(target="mlp", k=(0.3,), phase=phase)
    tight, wide = batch((9, 6)), batch((9, 6), extra=5)
    for masks, again in zip(fitted_masks(model, job), fitted_masks(model, job), strict=True):
        acts = []
        with masks.applied(wide), edited(masks.mlps, lambda mlp, a, acts=acts: acts.append(a) or a):
            padded = logits(model, wide.input_ids_BT)
        with again.applied(tight):
            plain = logits(model, tight.input_ids_BT)
        torch.testing.assert_close(padded[wide.real_BT], plain[tight.real_BT], rtol=1e-4, atol=1e-5)
        assert all((a[~wide.real_BT] == 0).all() for a in acts)
        sparse = 15 if masks.phase == "all" else 4 + 3  # second halves of 9 and 6
        assert masks.kept_neurons.total == again.kept_neurons.total == sparse * 2 * F
        assert masks.kept_neurons.count == again.kept_neurons.count
        if masks.variant.selector == "topk":
            assert masks.kept_neurons.count == sparse * 2 * round(0.3 * F)


@pytest.mark.parametrize("kind", KINDS)
def test_sequence_masks_come_from_the_prompt_alone(kind):
    """Dense prefill, then decoding with weights sliced to what the prompt used most: the same logits."""
    model, one = tiny(kind), batch((10,))
    (masks,) = fitted_masks(
        model, DynamicKConfig(target="mlp", k=(0.3,), granularities=("sequence",), scores=("abs_act",))
    )
    assert prompt_positions(one).sum() == 5
    with masks.applied(one):
        whole = logits(model, one.input_ids_BT)
    seen = {}
    with torch.inference_mode(), edited(masks.mlps, lambda mlp, acts: seen.update({mlp.layer: acts}) or acts):
        cache = model(input_ids=one.input_ids_BT[:, :5], use_cache=True).past_key_values
    keep = {layer: top_mask(acts[0, 1:].abs().mean(0), 0.3) for layer, acts in seen.items()}
    with torch.inference_mode(), sliced(masks.mlps, lambda mlp: keep[mlp.layer]):
        for at in range(5, 10):
            step = model(input_ids=one.input_ids_BT[:, at : at + 1], past_key_values=cache, use_cache=True)
            torch.testing.assert_close(step.logits[0, 0], whole[0, at], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_with_kv_cache_is_the_full_forward(kind):
    model, one = tiny(kind), batch((9,))
    job = DynamicKConfig(
        target="mlp", k=(0.3, 0.7), granularities=("token", "static"), scores=("abs_act", "abs_act_x_wnorm")
    )
    for masks in fitted_masks(model, job):
        with masks.applied(one):
            whole = logits(model, one.input_ids_BT)
        cache = None
        for at in range(9):
            step_batch = batch((9,))
            column = slice(at, at + 1)
            piece = type(one)(
                *(t[:, column] for t in (one.input_ids_BT, one.counted_BT, one.real_BT)), step_batch.window_B
            )
            with torch.inference_mode(), masks.applied(piece):
                step = model(input_ids=piece.input_ids_BT, past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            torch.testing.assert_close(step.logits[0, 0], whole[0, at], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("phase", ["all", "generation"])
def test_cuts_give_the_mean_k_in_the_sparse_model_itself(phase):
    """Later layers see other activations once earlier ones are sparse: cuts of the dense model are off."""
    model = tiny("llama")
    job = DynamicKConfig(target="mlp", k=(0.1, 0.3), granularities=("token",), phase=phase)
    fitted = fitting_batch(passes(model, windows()))
    for masks in fitted_masks(model, job):
        with masks.applied(fitted):
            logits(model, fitted.input_ids_BT)
        assert masks.kept_neurons.fraction == pytest.approx(masks.variant.k, abs=0.001)


def test_combinations_without_meaning_are_left_out():
    families = {v.family() for v in variants(DynamicKConfig(target="mlp", k=(0.5,)))}
    assert ("topk", "random", "token") in families
    assert ("topk", "random", "static") in families
    assert not {f for f in families if f[1] == "random" and (f[0] != "topk" or f[2] in ("task", "sequence"))}
    assert not {f for f in families if f[2] != "token" and f[0] != "topk"}
    assert len(families) == 2 * 4 + 1 + 2 + 2 + 2 + 1
    mixed = DynamicKConfig(target="mlp", scores=("random", "abs_act"), granularities=("task", "token"))
    assert headline(mixed) == ("topk", "abs_act", "task")
    for nothing in (
        DynamicKConfig(target="mlp", scores=("random",), granularities=("task",)),
        DynamicKConfig(target="mlp", selectors=("threshold",), granularities=("static",)),
    ):
        with pytest.raises(ConfigError, match="nothing to run"):
            variants(nothing)
