"""Masked, gathered and sliced MLPs are one model; the untouched one comes back."""

import pytest
import torch
from torch import nn

from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.calibration import calibrate, fitting_batch
from saescope.dynamic_k.execute import gathered, gathered_top, sliced
from saescope.dynamic_k.mlps import abs_act, edited, find_mlps, masked
from saescope.dynamic_k.passes import Passes
from saescope.dynamic_k.selectors import kept_count, top_mask
from saescope.dynamic_k.variants import Masks, phase_of, prompt_positions, variants
from saescope.errors import ConfigError
from saescope.text.windows import Windows

from .models import KINDS, F, batch, logits, tiny

GRID = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def windows(documents=12):
    """Two tasks of different tokens, windows of unequal length."""
    generator = torch.Generator().manual_seed(1)
    ids, counted = [], []
    for number in range(documents):
        low = 1 + 24 * (number % 2)
        ids.append(
            torch.randint(low, low + 24, (6 + number % 5,), generator=generator).numpy().astype("int32")
        )
        counted.append(torch.arange(len(ids[-1])).numpy() > 0)
    zeros = torch.zeros(documents, dtype=torch.long).numpy()
    doc = torch.arange(documents).numpy()
    return Windows(ids, counted, doc, zeros, doc % 2, ("low", "high"), 0, {})


def passes(model, token_windows):
    return Passes(model, token_windows, torch.arange(len(token_windows.ids)).numpy(), 32, "cpu")


def every_masks(model, job, compensation="none"):
    mlps = find_mlps(model)
    calibration = calibrate(mlps, passes(model, windows()), 0)
    made = [
        Masks(v, mlps, calibration, calibration.task_W, phase_of(v.granularity, job.phase), compensation, 0)
        for v in variants(job)
    ]
    for masks in made:
        masks.fit(model, fitting_batch(passes(model, windows())))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_mlps_are_found_by_structure(kind):
    mlps = find_mlps(tiny(kind))
    assert [(mlp.layer, mlp.d_ff) for mlp in mlps] == [(0, F), (1, F)]
    assert all((mlp.gate is not None) == (kind == "llama") for mlp in mlps)
    seen = []
    with edited(mlps, lambda mlp, acts: seen.append((mlp.layer, acts.shape)) or acts):
        logits(tiny(kind), batch().input_ids_BT)
        assert seen == []  # another model is untouched
    assert [mlp.layer for mlp in find_mlps(tiny(kind), (1,))] == [1]
    with pytest.raises(ConfigError, match="layers 0–1"):
        find_mlps(tiny(kind), (2,))


def test_a_model_without_mlps_is_one_line():
    model = tiny("llama")
    for block in model.model.layers:
        block.mlp = nn.Identity()
    with pytest.raises(ConfigError, match="up- and a down-projection") as error:
        find_mlps(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compensation", ["none", "mean"])
def test_all_kept_is_the_untouched_model_and_hooks_leave_nothing(kind, compensation):
    model, some = tiny(kind), batch((9, 9))
    before = logits(model, some.input_ids_BT)
    job = DynamicKConfig(target="mlp", k=(0.3, 1.0))
    for masks in every_masks(model, job, compensation):
        with masks.opens(some):
            inside = logits(model, some.input_ids_BT)
        assert torch.equal(inside, before) == (masks.variant.k == 1.0)
        assert torch.equal(logits(model, some.input_ids_BT), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", GRID)
def test_mask_gather_and_sliced_agree(kind, k):
    model, ids = tiny(kind), batch((9, 9)).input_ids_BT
    mlps = find_mlps(model)
    before = logits(model, ids)

    def top(mlp, acts):
        return top_mask(acts.abs(), k)

    def fixed(mlp):
        return top_mask(torch.rand(F, generator=torch.Generator().manual_seed(mlp.layer)), k)

    with masked(mlps, top):
        reference = logits(model, ids)
    with gathered(mlps, top):
        torch.testing.assert_close(logits(model, ids), reference, rtol=1e-4, atol=1e-4)
    with gathered_top(mlps, lambda mlp: kept_count(k, mlp.d_ff), abs_act):
        torch.testing.assert_close(logits(model, ids), reference, rtol=1e-4, atol=1e-4)

    def uneven(mlp, acts):
        return acts.abs() >= acts.abs().quantile(1 - k) if k < 1 else torch.ones_like(acts, dtype=torch.bool)

    with masked(mlps, uneven):
        reference = logits(model, ids)
    with gathered(mlps, uneven):
        torch.testing.assert_close(logits(model, ids), reference, rtol=1e-4, atol=1e-4)

    with masked(mlps, lambda mlp, acts: fixed(mlp)):
        reference = logits(model, ids)
    with sliced(mlps, fixed):
        assert all(
            mlp.module.get_submodule(n).weight.numel() == round(k * F) * 16
            for mlp in mlps
            for n in [_down(mlp)]
        )
        torch.testing.assert_close(logits(model, ids), reference, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(model, ids), before)


def _down(mlp):
    return next(n for n, _ in mlp.module.named_children() if n in ("dense_4h_to_h", "c_proj", "down_proj"))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_kept_leaves_the_bias_and_compensation_is_in_it(kind):
    model, ids = tiny(kind), batch((9, 9)).input_ids_BT
    mlps = find_mlps(model)
    dropped = {mlp.layer: torch.randn(F, generator=torch.Generator().manual_seed(9)) for mlp in mlps}
    constant = {mlp.layer: mlp.down(dropped[mlp.layer]) for mlp in mlps}
    handles = [
        mlp.module.register_forward_hook(lambda m, a, out, c=constant[mlp.layer]: c.expand(out.shape))
        for mlp in mlps
    ]
    expected = logits(model, ids)
    for handle in handles:
        handle.remove()
    nothing = torch.zeros(F, dtype=torch.bool)
    with gathered(mlps, lambda mlp, acts: nothing, dropped):
        torch.testing.assert_close(logits(model, ids), expected, rtol=1e-4, atol=1e-4)
    with sliced(mlps, lambda mlp: nothing, dropped):
        torch.testing.assert_close(logits(model, ids), expected, rtol=1e-4, atol=1e-4)
    with edited(mlps, lambda mlp, acts: torch.zeros_like(acts) + dropped[mlp.layer]):
        torch.testing.assert_close(logits(model, ids), expected, rtol=1e-4, atol=1e-4)


def test_a_failing_pass_leaves_the_model_whole():
    model, ids = tiny("llama"), batch().input_ids_BT
    before = logits(model, ids)
    for opened in (
        masked(find_mlps(model), lambda mlp, acts: 1 / 0),
        gathered(find_mlps(model), lambda mlp, acts: 1 / 0),
    ):
        with pytest.raises(ZeroDivisionError), opened:
            logits(model, ids)
    assert torch.equal(logits(model, ids), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["all", "generation"])
def test_padding_is_neither_kept_nor_counted_nor_seen(kind, phase):
    model = tiny(kind)
    job = DynamicKConfig(target="mlp", k=(0.3,), phase=phase)
    tight, wide = batch((9, 6)), batch((9, 6), extra=5)
    for masks, again in zip(every_masks(model, job), every_masks(model, job), strict=True):
        acts = []
        with masks.opens(wide), edited(masks.mlps, lambda mlp, a, acts=acts: acts.append(a) or a):
            padded = logits(model, wide.input_ids_BT)
        with again.opens(tight):
            plain = logits(model, tight.input_ids_BT)
        torch.testing.assert_close(padded[wide.real_BT], plain[tight.real_BT], rtol=1e-4, atol=1e-5)
        assert all((a[~wide.real_BT] == 0).all() for a in acts)
        sparse = 15 if masks.phase == "all" else 4 + 3  # second halves of 9 and 6
        assert masks.kept.seen == again.kept.seen == sparse * 2 * F
        assert masks.kept.kept == again.kept.kept
        if masks.variant.selector == "topk":
            assert masks.kept.kept == sparse * 2 * round(0.3 * F)


@pytest.mark.parametrize("kind", KINDS)
def test_sequence_masks_come_from_the_prompt_alone(kind):
    """Dense prefill, then decoding with weights sliced to what the prompt used most: the same logits."""
    model, one = tiny(kind), batch((10,))
    (masks,) = every_masks(
        model, DynamicKConfig(target="mlp", k=(0.3,), granularities=("sequence",), scores=("abs_act",))
    )
    assert prompt_positions(one).sum() == 5
    with masks.opens(one):
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
    for masks in every_masks(model, job):
        with masks.opens(one):
            whole = logits(model, one.input_ids_BT)
        cache = None
        for at in range(9):
            step_batch = batch((9,))
            column = slice(at, at + 1)
            piece = type(one)(
                *(t[:, column] for t in (one.input_ids_BT, one.counted_BT, one.real_BT)), step_batch.window_B
            )
            with torch.inference_mode(), masks.opens(piece):
                step = model(input_ids=piece.input_ids_BT, past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            torch.testing.assert_close(step.logits[0, 0], whole[0, at], rtol=1e-4, atol=1e-4)


def test_task_and_static_masks_and_compensation_are_means_over_calibration():
    model, some = tiny("llama"), windows()
    mlp = find_mlps(model)[1]
    found = calibrate(find_mlps(model), passes(model, some), 0)
    rows, tasks = [], []
    for w, ids in enumerate(some.ids):
        caught = []
        with edited([mlp], lambda mlp, acts, caught=caught: caught.append(acts) or acts):
            logits(model, torch.from_numpy(ids).long()[None])
        rows.append(caught[0][0, 1:])
        tasks += [w % 2] * (len(ids) - 1)
    acts, tasks = torch.cat(rows), torch.tensor(tasks)
    torch.testing.assert_close(found.mean_act(mlp), acts.mean(0), rtol=1e-4, atol=1e-5)
    for task in range(2):
        assert torch.equal(
            found.task_mask(mlp, "abs_act", 0.3)[task], top_mask(acts[tasks == task].abs().mean(0), 0.3)
        )
    assert torch.equal(found.static_mask(mlp, "abs_act", 0.3), top_mask(acts.abs().mean(0), 0.3))
    assert not torch.equal(*found.task_mask(mlp, "abs_act", 0.3))
    kept = top_mask(acts.abs(), 0.3)
    torch.testing.assert_close(
        found.dropped_mean(mlp, ("topk", "abs_act", 0.3), lambda a: top_mask(a.abs(), 0.3)),
        (acts * ~kept).mean(0),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("phase", ["all", "generation"])
def test_cuts_give_the_mean_k_in_the_sparse_model_itself(phase):
    """Later layers see other activations once earlier ones are sparse: cuts of the dense model are off."""
    model = tiny("llama")
    job = DynamicKConfig(target="mlp", k=(0.1, 0.3), granularities=("token",), phase=phase)
    fitted = fitting_batch(passes(model, windows()))
    for masks in every_masks(model, job):
        with masks.opens(fitted):
            logits(model, fitted.input_ids_BT)
        assert masks.kept.fraction == pytest.approx(masks.variant.k, abs=0.001)
