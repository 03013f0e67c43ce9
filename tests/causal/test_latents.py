"""The causal index of every latent: planted effects, texts whose tasks mean nothing, too little to say."""

import numpy as np
import pandas as pd
import pytest
import torch

from saescope.causal.ablation import Ablation
from saescope.causal.latents import COLUMNS, MIN_FIRINGS, check, run_attribution
from saescope.config import Attribute
from saescope.metrics import keys
from saescope.stats.density import supported

from .planted import WIDTH, FixedLatents, codes_of, config, model, setup, texts

PAIRS = 12
"""Latents of each kind."""


def latents(network, seed=0):
    """All fire on a random half of the tokens of both tasks; what they write is read on one task, or both.

    The first `PAIRS` write into coordinates that only the first task's logits read, the next ones into those
    of the second, the last ones into both alike.
    """
    generator = torch.Generator().manual_seed(seed)
    acts = (torch.rand(32, 3 * PAIRS, generator=generator) < 0.5) * torch.rand(
        32, 3 * PAIRS, generator=generator
    )
    rows = torch.zeros(3 * PAIRS, WIDTH)
    noise = torch.randn(3 * PAIRS, 16, generator=generator) / 2
    rows[:PAIRS, 32:40] = noise[:PAIRS, :8]
    rows[PAIRS : 2 * PAIRS, 40:48] = noise[PAIRS : 2 * PAIRS, 8:]
    rows[2 * PAIRS :, 32:48] = noise[2 * PAIRS :]
    return FixedLatents(network.get_input_embeddings().weight, acts, rows)


def run(network, coder, token_windows, tokens=10**6):
    job = setup(network, token_windows)
    codes = codes_of(job, coder)
    live = supported(codes.count_F, codes.docs_F, 20, 5)
    features = pd.DataFrame({"supported": live, "si_token": np.full(len(live), np.nan)})
    return run_attribution(config(Attribute(bootstraps=40)), tokens, job, coder, codes, features)


def test_effects_on_one_task_are_seen_where_firing_is_even():
    network = model()
    part, _ = run(network, latents(network), texts(mixed=True))
    assert set(part.columns) == set(COLUMNS)
    assert set(part.metrics) == set(keys("causal.latents"))
    assert part.metrics["causal/scored"] == 3 * PAIRS
    assert part.metrics["causal/attribution_r"] > 0.85
    assert 0.7 < part.metrics["causal/attribution_ratio"] < 1.5


def test_latents_that_fire_on_both_tasks_but_matter_on_one():
    network = model()
    part, _ = run(network, latents(network), texts())
    si, p = part.columns["causal_si"], part.columns["causal_p"]
    assert si[: 2 * PAIRS].min() > 0.3
    assert np.median(si[2 * PAIRS :]) < 0.5 * np.median(si[: 2 * PAIRS])
    assert (p[: 2 * PAIRS] <= 0.02).all()
    assert part.metrics["causal/attribution_r"] > 0.8
    assert part.metrics["causal/si_rank_corr"] is not None
    low, high = (part.metrics[f"causal/si_rank_corr_ci_{end}"] for end in ("low", "high"))
    assert low < part.metrics["causal/si_rank_corr"] < high
    assert part.metrics["causal/beyond_rank_corr"] is None
    assert part.notes["causal/beyond_rank_corr"] == "SI beyond words was not measured"


def test_tasks_that_are_names_only_give_no_specialist():
    network = model()
    part, _ = run(network, latents(network), texts(documents=60, mixed=True))
    assert part.columns["causal_si"].mean() < 0.03
    assert (part.columns["causal_p"] <= 0.05).mean() < 0.2
    assert part.columns["causal_own"].mean() == pytest.approx(0.5, abs=0.05)


def test_latents_that_fire_too_seldom_have_no_index():
    network = model()
    coder = latents(network)
    coder.acts_VF[1:, 0] = 0.0
    part, result = run(network, coder, texts(documents=12), tokens=200)
    fired = np.asarray(result.firings().sum(axis=0)).ravel()
    assert np.isnan(part.columns["causal_si"][fired < MIN_FIRINGS]).all()
    assert np.isnan(part.columns["causal_si"][0])
    assert part.metrics["causal/scored"] == np.isfinite(part.columns["causal_si"]).sum()


def test_latents_without_any_effect_cannot_be_checked():
    network = model()
    coder = latents(network)
    coder.rows_FD[:] = 0.0
    job = setup(network, texts(documents=6))
    ablation = Ablation(job, coder, np.ones(12, dtype=bool), 200)
    assert check(ablation, np.ones(3 * PAIRS, dtype=bool), config(Attribute())) is None
