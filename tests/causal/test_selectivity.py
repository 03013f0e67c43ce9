"""The whole part on networks whose structure is known: one block, latents are the neurons of its MLP."""

import dataclasses

import numpy as np
import pytest
import torch

from saescope.activations import ActivationStore, LiveWindows
from saescope.analysis.features import analyse
from saescope.causal.halves import split_documents
from saescope.causal.run import run
from saescope.causal.selectivity import _families
from saescope.config import Ablate, HookpointConfig, MetricsConfig, NeuronSae
from saescope.extraction.engine import Engine
from saescope.extraction.setup import Setup
from saescope.metrics import keys
from saescope.model.hookpoints import resolve
from saescope.runtime.hardware import Hardware
from saescope.sae.neurons import NeuronBasis
from saescope.stats.resampling import draws_digest
from tests.dynamic_k.job import config
from tests.dynamic_k.planted import circles, grouped, windows

from .codes import codes_of

GROUPS, NEURONS = 6, 4


def measured(texts, *, seed=0, neurons=NEURONS, **settings):
    """Part of a job on these texts."""
    cfg = dataclasses.replace(
        config("planted", "embedded", sae=NeuronSae(k=neurons), seed=seed),
        hookpoint=HookpointConfig("custom", name="layers.0.mlp.act"),
        metrics=MetricsConfig(permutations=20, bootstraps=20, min_count=10, min_docs=4),
        causal=Ablate(**{"tokens": 900, "draw_tokens": 300, "draws": 20, "bootstraps": 50} | settings),
    )
    lm = grouped(GROUPS, 5, neurons, seed=seed)
    machine = Hardware("cpu", torch.float32, 256)
    store = ActivationStore("off", 0, lm.model, torch.float32)
    setup = Setup(lm, resolve(cfg.hookpoint, lm.model), texts, machine, store, cfg.runtime)
    coder = NeuronBasis(setup.width, neurons)
    source = LiveWindows(setup.capture, texts, machine.batch_tokens, "cpu", setup.width)
    codes, _ = Engine(setup, coder, source).extract()
    return run(cfg, setup, coder, codes, analyse(codes, cfg.metrics, seed))


def own_circles():
    """Each of three tasks walks the circles of two groups of its own."""
    return circles([[0, 1], [2, 3], [4, 5]], 5, documents=16)


def common_circles(documents=48, length=24, seed=0):
    """Every document of three tasks walks the circle of a group drawn at random."""
    rng = np.random.default_rng(seed)
    first = 5 * rng.integers(0, GROUPS, 3 * documents)
    steps = (rng.integers(0, 5, (3 * documents, 1)) + np.arange(length)) % 5
    return windows(list(first[:, None] + steps), np.repeat(range(3), documents).tolist(), ("a", "b", "c"))


@pytest.fixture(scope="module")
def specialists():
    return measured(own_circles(), sizes=(0.3, 0.95, 1.0))


def test_specialists_put_in_by_hand_are_found(specialists):
    value = specialists.metrics
    assert set(value) == set(keys("causal")) - set(keys("causal.layers"))
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
    assert sorted(own["size"].unique()) == [0.3, 0.95, 1.0]
    sizes = own.pivot(index="task", columns="size", values="num_latents").to_numpy()
    assert (sizes[:, 0] < sizes[:, 1]).all()
    assert own[own["size"] == 1.0]["mass_share"].tolist() == pytest.approx([1.0] * 3)
    assert (own["ce_delta_lo"] <= own["ce_delta"]).all()
    for row in own.itertuples():  # neurons of the task's two groups
        task = int(row.task.removeprefix("task"))
        assert {latent // NEURONS for latent in row.latents} <= {2 * task, 2 * task + 1}
    off = table[(table["set"] == "own") & (table["set_task"] != table["task"])]
    assert (off[["ce_delta", "kl", "firings", "removed_norm"]] == 0).all().all()
    assert (table["tokens"] > 100).all()


def test_any_other_draw_has_another_name():
    weight_BD, tokens_D = np.arange(12).reshape(3, 4), np.arange(4)
    name = draws_digest(weight_BD, tokens_D)
    assert draws_digest(weight_BD.astype(float), tokens_D) == name
    for row in range(3):
        other = weight_BD.copy()
        other[row, 0] += 1
        assert draws_digest(other, tokens_D) != name
    assert draws_digest(weight_BD, tokens_D + 1) != name


def test_the_draws_behind_the_intervals_are_kept(specialists):
    resamples, value = specialists.resamples, specialists.metrics
    assert set(resamples.draws) == {f"causal/{key}" for key in ("selectivity", "own_ce", "ratio", "excess")}
    assert {draws.shape for draws in resamples.draws.values()} == {(50,)}
    for key in resamples.draws:
        low, high = np.quantile(resamples.draws[key], [0.025, 0.975])
        assert (low, high) == pytest.approx((value[f"{key}_ci_low"], value[f"{key}_ci_high"]))
    for key in ("causal/own_ce", "causal/excess"):
        draws = resamples.draws[key]
        assert abs(draws.mean() - value[key]) <= 2 * draws.std() + 1e-12
    assert resamples.draws["causal/own_ce"].std() > 0
    own = specialists.tables["causal"]
    tokens = own[own["set"] == "own"].groupby("task")["tokens"].first().sum()
    assert 3 * 2 <= resamples.num_documents < tokens


def test_jobs_draw_together_where_they_measure_the_same_documents_alike(specialists):
    """Whatever the SAE and the sets are; other tokens, resamples or halves are other draws."""

    def documents(**changes):
        return measured(own_circles(), **{"sizes": (0.5,), "ablated_draws": 1} | changes).resamples.documents

    same = specialists.resamples.documents
    assert documents(neurons=2) == documents(select="rate") == same
    others = {documents(tokens=400), documents(bootstraps=40), documents(seed=1)}
    assert len(others - {same}) == 3


def test_latents_that_serve_all_tasks_are_no_finding():
    part = measured(common_circles(), sizes=(0.3,), tokens=1800)
    assert part.metrics["causal/p"] > 0.05
    assert part.metrics["causal/selectivity"] == pytest.approx(0.5, abs=0.2)
    assert part.metrics["causal/excess"] == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize("to", ["mean", "resample"])
def test_other_replacements(to):
    """Off the task its specialists are silent, so their mean there and a token there are zero."""
    part = measured(own_circles(), sizes=(0.95,), to=to)
    assert part.metrics["causal/selectivity"] == pytest.approx(1.0, abs=0.02)


def test_sets_are_chosen_on_the_choosing_documents_alone():
    """What the measured documents do changes no set but the matched ones."""
    rates = np.random.default_rng(0).lognormal(-3, 1, (40, 3)).clip(max=0.4)
    codes = codes_of(rates, documents=12)
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, 0)
    cfg = dataclasses.replace(
        config("planted", "embedded", sae=NeuronSae(k=4)),
        metrics=MetricsConfig(permutations=20, bootstraps=20, min_count=10, min_docs=4),
    )
    measured_E = halves.measure_D[np.repeat(codes.doc_N, np.diff(codes.indptr))]
    others = np.where(measured_E, 39 - codes.latents, codes.latents).astype(np.int32)
    chosen, again = (
        _families(cfg, Ablate(sizes=(0.3,)), NeuronBasis(40, 4), each, halves)
        for each in (codes, dataclasses.replace(codes, latents=others))
    )
    for first, second in zip(chosen, again, strict=True):
        for a, b in zip(first.latents_K, second.latents_K, strict=True):
            if first.kind not in ("matched", "null"):
                np.testing.assert_array_equal(a, b)
    assert sum(len(latents_F) for latents_F in chosen[0].latents_K) > 3


def test_a_single_task_has_nothing_to_compare():
    part = measured(circles([[0, 1]], 5, documents=4))
    of_sets = keys("causal.ablate")
    assert set(of_sets) <= set(part.metrics)
    assert {part.metrics[key] for key in of_sets} == {None}
    assert part.resamples is None
    assert "a single task" in part.notes["causal/p"]
