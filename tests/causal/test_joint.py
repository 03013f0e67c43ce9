"""Ablations at several hookpoints in one pass: nothing where nothing is, one where one is, and by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from saescope.causal.ablation import Ablation
from saescope.causal.joint import JointAblation
from saescope.causal.passes import measure
from saescope.causal.removal import LatentSet
from saescope.config import RandomSae
from saescope.model.losses import clean_pass, edit_at, edited_passes, scored_positions
from tests.dynamic_k.job import config, sae_of, setup_of

NONE = np.zeros(0, dtype=np.int64)


@pytest.fixture(scope="module")
def world(model_folder, probes):
    parts = []
    for layer in (1, 2):
        cfg = config(model_folder, probes, sae=RandomSae(k=6, num_latents=48), layer=layer)
        setup = setup_of(cfg, batch_tokens=256)
        if parts:  # one model, as in a job
            setup = dataclasses.replace(parts[0].setup, hookpoint=setup.hookpoint)
        everyone = np.ones(len(setup.windows.task_D), dtype=bool)
        parts.append(Ablation(setup, sae_of(cfg, setup), everyone, 400))
    return cfg, JointAblation(tuple(parts))


def effects(world, *pairs, to=(None, None)):
    cfg, joint = world
    sets = [
        joint.joined(
            [LatentSet("", np.array(numbers, np.int64), rows) for numbers, rows in zip(pair, to, strict=True)]
        )
        for pair in pairs
    ]
    return measure(joint, sets, "joint", cfg, None)


def alone(world, at, numbers):
    cfg, joint = world
    return measure(joint.parts[at], [LatentSet("", np.array(numbers, np.int64))], "alone", cfg, None)


def silent(world, at):
    """Latents that fire on no measured token."""
    return [f for f in range(48) if not alone(world, at, [f]).firings_GD.any()]


def test_empty_and_silent_sets_change_nothing_bit_for_bit(world):
    result = effects(world, (NONE, NONE), (silent(world, 0), NONE), (NONE, silent(world, 1)), ([3, 5], [4]))
    for sums in (result.ce_GD, result.kl_GD, result.norm_GD, result.firings_GD):
        assert (sums[:3] == 0).all()
    assert result.kl_GD[3].sum() > 0
    assert result.tokens_D.sum() > 300


@pytest.mark.parametrize("at", [0, 1])
def test_a_set_at_one_hookpoint_is_the_plain_ablation(world, at):
    pair = [NONE, NONE]
    pair[at] = [3, 8, 21, 40]
    result, plain = effects(world, tuple(pair)), alone(world, at, pair[at])
    np.testing.assert_allclose(result.kl_GD, plain.kl_GD, atol=1e-4)
    np.testing.assert_allclose(result.ce_GD, plain.ce_GD, atol=1e-4)
    np.testing.assert_allclose(result.norm_GD, plain.norm_GD, rtol=1e-4)
    np.testing.assert_array_equal(result.firings_GD, plain.firings_GD)
    np.testing.assert_array_equal(result.tokens_D, plain.tokens_D)
    # before the first change of a window nothing is counted, and rounding is no effect
    assert ((result.kl_GD == 0) == (plain.kl_GD == 0)).all()


@pytest.mark.parametrize("to", [0.0, 0.7])
def test_together_is_the_formula_at_both(world, to):
    """The upper SAE encodes the stream that the lower ablation leaves."""
    _, joint = world
    numbers = [3, 8, 21, 40], [5, 8, 30]
    rows = tuple(np.full((1, len(n)), to, dtype=np.float32) if to else None for n in numbers)
    result = effects(world, numbers, to=rows)
    model = joint.setup.lm.model
    sums = np.zeros((2, len(joint.windows.task_D)))

    def edit(part, chosen):
        def change(x_ND, old_ND):
            codes = part.coder.encode(x_ND)
            dense = torch.zeros(len(x_ND), 48)
            dense[torch.arange(len(x_ND)).repeat_interleave(codes.sizes_N), codes.latents] = codes.acts
            return old_ND - (dense[:, chosen] - to) @ part.coder.coder.W_dec[chosen]

        return change

    for batch in joint.cut:
        scored_BT = scored_positions(batch.counted_BT, batch.real_BT)
        with torch.inference_mode():
            clean = clean_pass(model, batch.input_ids_BT, scored_BT)
            lower, upper = (
                part.capture.replaced(edit_at(batch.counted_BT, edit(part, chosen)))
                for part, chosen in zip(joint.parts, numbers, strict=True)
            )
            with lower:
                ((_, losses),) = edited_passes(model, clean, {0: upper})
        doc_S = joint.parts[0].documents(batch, scored_BT)
        for total, value in zip(sums, (losses.ce_S - clean.losses.ce_S, losses.kl_S), strict=True):
            np.add.at(total, doc_S, value.double().numpy())
    np.testing.assert_allclose(result.ce_GD[0], sums[0], atol=2e-4)
    np.testing.assert_allclose(result.kl_GD[0], sums[1], atol=2e-4)
    assert np.abs(sums[0]).max() > 0.01
    separate = alone(world, 0, numbers[0]).kl_GD.sum() + alone(world, 1, numbers[1]).kl_GD.sum()
    assert to or 0.2 * separate < result.kl_GD.sum() < 3 * separate


def test_numbers_of_a_joined_set_lead_back(world):
    _, joint = world
    rows = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 1), dtype=np.float32)
    parts = [LatentSet("a", np.array([40, 2, 7]), rows[0]), LatentSet("a", np.array([0]), rows[1])]
    for part, back in zip(parts, joint.split(joint.joined(parts)), strict=True):
        np.testing.assert_array_equal(part.latents_F, back.latents_F)
        np.testing.assert_array_equal(part.to_MF, back.to_MF)
