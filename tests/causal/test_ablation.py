"""Ablations with the error kept: exact where nothing is removed, and what the formula says elsewhere."""

import numpy as np
import pytest
import torch

from saescope.causal.ablation import Ablation, measured_windows
from saescope.causal.removal import LatentSet
from saescope.config import HookpointConfig, NeuronSae, RandomSae
from saescope.model.capture import Capture
from saescope.model.losses import clean_pass, edit_at, edited_passes, scored_positions
from saescope.runtime.meter import Meter
from tests.dynamic_k.job import config, sae_of, setup_of


@pytest.fixture(scope="module")
def world(model_folder, probes):
    cfg = config(model_folder, probes, sae=RandomSae(k=6, num_latents=48), layer=1)
    setup = setup_of(cfg, batch_tokens=256)
    return setup, sae_of(cfg, setup)


def ablation(world, tokens=400, **given):
    setup, coder = world
    everyone = np.ones(len(setup.windows.task_D), dtype=bool)
    return Ablation(setup, coder, everyone, tokens, **given)


def effects(job, *sets):
    with Meter("causal", 1, "tokens", quiet=True) as meter:
        return job.effects(sets, meter)


def latents(*numbers, to=None):
    return LatentSet("set", np.array(numbers, dtype=np.int64), to)


def by_hand(job, numbers, to=0.0):
    """Loss sums [D] of a plain pass per window with x − Σ (a − to) d, written out."""
    setup, coder = job.setup, job.coder
    d_FD = coder.coder.W_dec
    sums = np.zeros((2, len(setup.windows.task_D)))
    for batch in job.cut:
        scored_BT = scored_positions(batch.counted_BT, batch.real_BT)

        def edit(x_ND, old_ND):
            codes = coder.encode(x_ND)
            dense = torch.zeros(len(x_ND), coder.num_latents)
            dense[torch.arange(len(x_ND)).repeat_interleave(codes.sizes_N), codes.latents] = codes.acts
            return old_ND - (dense[:, numbers] - to) @ d_FD[numbers]

        with torch.inference_mode():
            clean = clean_pass(setup.lm.model, batch.input_ids_BT, scored_BT)
            opened = job.capture.replaced(edit_at(batch.counted_BT, edit))
            ((_, losses),) = edited_passes(setup.lm.model, clean, {0: opened})
        doc_S = job.documents(batch, scored_BT)
        for total, value in zip(sums, (losses.ce_S - clean.losses.ce_S, losses.kl_S), strict=True):
            np.add.at(total, doc_S, value.double().numpy())
    return sums


def test_an_empty_set_changes_nothing_bit_for_bit(world):
    job = ablation(world)
    dead = [f for f in range(48) if not effects(job, latents(f)).firings_GD.any()]
    result = effects(job, latents(), latents(0, 1, 2), latents(*dead))
    for sums in (result.ce_GD, result.kl_GD, result.norm_GD, result.firings_GD):
        assert (sums[[0, 2]] == 0).all()
    assert result.kl_GD[1].sum() > 0
    assert result.tokens_D.sum() > 300


@pytest.mark.parametrize("to", [0.0, 0.7])
def test_sums_are_those_of_the_formula(world, to):
    job, numbers = ablation(world), [3, 8, 21, 40]
    rows = np.full((1, 4), to, dtype=np.float32) if to else None
    result = effects(job, latents(5), latents(*numbers, to=rows))
    ce_D, kl_D = by_hand(job, numbers, to)
    np.testing.assert_allclose(result.ce_GD[1], ce_D, atol=2e-4)
    np.testing.assert_allclose(result.kl_GD[1], kl_D, atol=2e-4)
    assert np.abs(ce_D).max() > 0.01


def test_sets_and_batches_share_passes_without_a_trace(world):
    sets = [latents(*range(at, at + 5)) for at in range(0, 40, 5)]
    together = effects(ablation(world), *sets)
    small = Ablation(
        setup_of_batch(world[0], 64), world[1], np.ones(len(world[0].windows.task_D), dtype=bool), 400
    )
    for number, one in enumerate(sets):
        alone = effects(small, one)
        np.testing.assert_allclose(together.kl_GD[number], alone.kl_GD[0], atol=1e-4)
        np.testing.assert_allclose(together.norm_GD[number], alone.norm_GD[0], rtol=1e-4)
        assert (together.firings_GD[number] == alone.firings_GD[0]).all()
    assert (together.tokens_D == alone.tokens_D).all()


def setup_of_batch(setup, batch_tokens):
    import dataclasses

    return dataclasses.replace(setup, machine=dataclasses.replace(setup.machine, batch_tokens=batch_tokens))


def test_firings_and_norm_by_hand(world):
    job = ablation(world)
    numbers = [3, 8, 21]
    result = effects(job, latents(*numbers))
    firings = norm = 0.0
    d_FD = job.coder.coder.W_dec
    for hooked in job.batches():
        token_E = torch.arange(len(hooked.x_ND)).repeat_interleave(hooked.codes.sizes_N)
        removed = torch.zeros(len(hooked.x_ND), job.coder.d_out)
        for token, latent, act in zip(token_E, hooked.codes.latents, hooked.codes.acts, strict=True):
            if int(latent) in numbers:
                firings += 1
                removed[token] += act * d_FD[latent]
        norm += float(removed.double().pow(2).sum())
    assert result.firings_GD.sum() == firings > 0
    assert result.norm_GD.sum() == pytest.approx(norm, rel=1e-5)


def test_gradients_reach_the_hookpoint(world):
    """The first-order change of the loss along a small step is the gradient's."""
    job = ablation(world, tokens=120)
    hooked = next(iter(job.batches()))
    target_S = hooked.batch.input_ids_BT[:, 1:][hooked.scored]

    def loss():
        return torch.nn.functional.cross_entropy(hooked.logits().float(), target_S, reduction="sum")

    (gradient,) = torch.autograd.grad(before := loss(), hooked.activation_BTD)
    step = 1e-3 * gradient / gradient.norm()
    with torch.no_grad():
        hooked.activation_BTD.add_(step)
        after = loss()
    assert float(after - before) == pytest.approx(float((gradient * step).sum()), rel=0.05)
    assert len(hooked.doc_N) == len(hooked.x_ND) == len(hooked.codes.sizes_N)
    assert len(hooked.doc_S) == len(target_S)


@pytest.mark.parametrize("kind", ["mlp", "attention"])
def test_other_hookpoints(model_folder, probes, kind):
    import dataclasses

    cfg = dataclasses.replace(
        config(model_folder, probes, sae=NeuronSae(k=4)), hookpoint=HookpointConfig(kind, layer=2)
    )
    setup = setup_of(cfg)
    job = ablation((setup, sae_of(cfg, setup)))
    assert isinstance(job.capture, Capture)
    result = effects(job, latents(), latents(*range(16)))
    assert result.kl_GD[0].sum() == 0 < result.kl_GD[1].sum()


def test_many_documents_take_part(world):
    windows = world[0].windows
    everyone = np.ones(len(windows.task_D), dtype=bool)
    order = measured_windows(windows, everyone, 600)
    assert {int(windows.task_W[w]) for w in order} == {0, 1, 2}
    documents = windows.doc_W[order]
    assert len(set(documents.tolist())) == len(documents)  # no second window before every document has one
    half = np.arange(len(windows.task_D)) % 2 == 0
    assert half[windows.doc_W[measured_windows(windows, half, 600)]].all()
