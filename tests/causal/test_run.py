"""The stage of a job: which parts run, their keys, columns and tables."""

import dataclasses

import numpy as np
import pytest
import torch

from saescope.analysis.features import analyse
from saescope.causal.run import run
from saescope.config import Ablate, Attribute, NoCausal, RandomSae
from saescope.metrics import keys
from tests.dynamic_k.job import config, sae_of, setup_of

from .planted import codes_of


@pytest.fixture(scope="module")
def measured(model_folder, probes):
    cfg = config(model_folder, probes, sae=RandomSae(k=6, num_latents=48), layer=1)
    setup = setup_of(cfg, batch_tokens=256)
    coder = sae_of(cfg, setup)
    codes = codes_of(setup, coder)
    return cfg, setup, coder, codes, analyse(codes, cfg.metrics, 0)


ABLATE = Ablate(tokens=400, draw_tokens=64, draws=20, attribution_tokens=800, bootstraps=20)


@pytest.mark.parametrize(
    ("chosen", "groups"),
    [
        (NoCausal(), ()),
        (Attribute(tokens=800, bootstraps=20), ("causal.latents",)),
        (ABLATE, ("causal.ablate", "causal.latents", "causal.module", "causal.within")),
        (dataclasses.replace(ABLATE, layers=(2, 3)), ("causal",)),
    ],
)
def test_every_key_of_the_parts_that_ran_and_no_other(measured, chosen, groups):
    cfg, *rest = measured
    part = run(dataclasses.replace(cfg, causal=chosen), *rest, sae_at=lambda place: sae_of(cfg, place))
    assert set(part.metrics) == {key for group in groups for key in keys(group)}
    for key, value in part.metrics.items():
        assert (value is None) == (key in part.notes), key
        assert value is None or np.isfinite(value)
    if groups:
        assert {len(column) for column in part.columns.values()} == {48}
        assert part.metrics["causal/attribution_r"] > 0.7
    assert ("causal_layers" in part.tables) == ("causal" in groups)
    assert ("causal_modules" in part.tables) == (part.metrics.get("causal/module_selectivity") is not None)


def test_small_effects_are_not_lost_in_the_rounding_of_bfloat16(model_folder, probes):
    cfg = config(model_folder, probes, sae=RandomSae(k=6, num_latents=48), layer=1)
    cfg = dataclasses.replace(cfg, causal=ABLATE)
    setup = setup_of(cfg, batch_tokens=256)
    model = setup.lm.model.to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    coder = sae_of(cfg, setup)
    codes = codes_of(setup, coder)
    features = analyse(codes, cfg.metrics, 0)
    rounded = run(cfg, setup, coder, codes, features)
    after = model.state_dict()
    assert all(
        after[name].dtype == tensor.dtype and torch.equal(after[name], tensor)
        for name, tensor in before.items()
    )
    model.float()
    assert run(cfg, setup, coder, codes, features).metrics == rounded.metrics
