"""The whole part on networks whose structure is known: one block, latents are the neurons of its MLP."""

import dataclasses

import numpy as np
import pytest
import torch

from saescope.activations import ActivationStore, LiveWindows
from saescope.causal.run import run
from saescope.config import Ablate, HookpointConfig, MetricsConfig, NeuronSae
from saescope.extraction.engine import Engine
from saescope.extraction.setup import Setup
from saescope.metrics import keys
from saescope.model.hookpoints import resolve
from saescope.runtime.hardware import Hardware
from saescope.sae.neurons import NeuronBasis
from tests.dynamic_k.job import config
from tests.dynamic_k.planted import circles, grouped

GROUPS, NEURONS = 6, 4


def measured(groups_of_task, *, seed=0, neurons=NEURONS, **settings):
    """Part of a job: three tasks that walk the circles of these groups."""
    cfg = dataclasses.replace(
        config("planted", "embedded", sae=NeuronSae(k=neurons), seed=seed),
        hookpoint=HookpointConfig("custom", name="layers.0.mlp.act"),
        metrics=MetricsConfig(permutations=20, bootstraps=20, min_count=10, min_docs=4),
        causal=Ablate(**{"tokens": 900, "draw_tokens": 300, "draws": 20, "bootstraps": 50} | settings),
    )
    lm = grouped(GROUPS, 5, neurons, seed=seed)
    windows = circles(groups_of_task, 5, documents=16, seed=seed)
    machine = Hardware("cpu", torch.float32, 256)
    store = ActivationStore("off", 0, lm.model, torch.float32)
    setup = Setup(lm, resolve(cfg.hookpoint, lm.model), windows, machine, store, cfg.runtime)
    coder = NeuronBasis(setup.width, neurons)
    source = LiveWindows(setup.capture, windows, machine.batch_tokens, "cpu", setup.width)
    codes, _ = Engine(setup, coder, source).extract()
    return run(cfg, setup, coder, codes, None)


@pytest.fixture(scope="module")
def specialists():
    """Each task has two groups of its own."""
    return measured([[0, 1], [2, 3], [4, 5]], sizes=(0.3, 0.6, 0.95))


def test_specialists_put_in_by_hand_are_found(specialists):
    value = specialists.metrics
    assert set(value) == set(keys("causal.ablate"))
    assert value["causal/selectivity"] == pytest.approx(1.0, abs=0.02)
    assert value["causal/others_ce"] == pytest.approx(0.0, abs=1e-6)
    assert value["causal/own_ce"] > 0.5
    assert value["causal/own_worst"] == 1.0
    assert value["causal/ratio"] > 1e4
    assert value["causal/p"] == pytest.approx(1 / 21)
    assert value["causal/selectivity_ci_low"] > 0.98
    # they fire on their own task alone: nothing elsewhere to divide by
    assert value["causal/per_firing"] is value["causal/per_norm"] is None
    assert "no set fires both" in specialists.notes["causal/per_firing"]


def test_every_set_is_in_the_table(specialists):
    table = specialists.tables["causal"]
    assert set(table["set"]) == {"own", "matched", "low_si", "permuted"}
    own = table[(table["set"] == "own") & (table["set_task"] == table["task"])]
    assert sorted(own["size"].unique()) == [0.3, 0.6, 0.95]
    sizes = own.pivot(index="task", columns="size", values="num_latents").to_numpy()
    assert (np.diff(sizes, axis=1) > 0).all()
    assert (own["mass_share"] >= own["size"] * 0.7).all()
    assert (own["ce_delta_lo"] <= own["ce_delta"]).all()
    for row in own.itertuples():  # neurons of the task's two groups
        task = int(row.task.removeprefix("task"))
        assert {latent // NEURONS for latent in row.latents} <= {2 * task, 2 * task + 1}
    off = table[(table["set"] == "own") & (table["set_task"] != table["task"])]
    assert (off[["ce_delta", "kl", "firings", "removed_norm"]] == 0).all().all()
    assert (table["tokens"] > 100).all()


def test_latents_that_serve_all_tasks_are_no_finding():
    part = measured([[0, 1, 2, 3, 4, 5]] * 3, sizes=(0.3,))
    assert part.metrics["causal/p"] > 0.05
    assert part.metrics["causal/selectivity"] == pytest.approx(0.5, abs=0.2)
    assert part.metrics["causal/excess"] == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize("to", ["mean", "resample"])
def test_other_replacements(to):
    """Off the task its specialists are silent, so their mean there and a token there are zero."""
    part = measured([[0, 1], [2, 3], [4, 5]], sizes=(0.6,), to=to)
    assert part.metrics["causal/selectivity"] == pytest.approx(1.0, abs=0.02)


def test_a_single_task_has_nothing_to_compare():
    part = measured([[0, 1]])
    assert set(part.metrics) == set(keys("causal.ablate"))
    assert set(part.metrics.values()) == {None}
    assert "a single task" in part.notes["causal/p"]
