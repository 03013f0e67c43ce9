"""Masked, gathered and sliced MLPs are one model; the untouched one comes back."""

import pytest
import torch

from saescope.dynamic_k.implementations import gathered, gathered_top, sliced
from saescope.dynamic_k.mlps import abs_act, edited, find_mlps, masked
from saescope.dynamic_k.selectors import kept_count, top_mask

from .models import KINDS, F, batch, logits, tiny

GRID = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


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
