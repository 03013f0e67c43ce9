"""Control sets: matched where they should be, and a test among them that rejects what it should."""

import dataclasses

import numpy as np
import pytest

from saescope.causal.choice import Evidence, Family, evidence, own_families, ranking_index
from saescope.causal.controls import low_si_families, matched_families, permuted_labels
from saescope.causal.halves import split_documents
from saescope.config import Ablate, MetricsConfig
from saescope.stats.causal import Effects, matched_p, summarise

from .codes import codes_of


def population(num_latents=400, seed=0) -> Evidence:
    rng = np.random.default_rng(seed)
    rate = rng.lognormal(-4, 1, (num_latents, 1)) * rng.dirichlet(np.ones(3), num_latents) * 3
    count = (rate.sum(1) * 2e4).astype(int) + 1
    mass = rate * 2e4 * rng.lognormal(0, 0.5, (num_latents, 1))
    return Evidence(
        rate, mass, count, mass.sum(1) ** 2 / count, rng.random(num_latents), np.ones(num_latents, bool)
    )


def family(latents, seed=0) -> Family:
    order = np.random.default_rng(seed).permutation(len(latents.count_F))
    return Family("own", 0.1, 0, (order[:20], order[20:35], order[35:60]))


def test_matched_sets_have_the_same_density_mass_and_norm():
    latents, norms = population(4000), np.ones(4000)
    own = family(latents)
    quantities = [latents.count_F, latents.mass_FK.sum(1), latents.square_F]
    for drawn in matched_families(own, latents, norms, 5, seed=1):
        for own_set, chosen in zip(own.latents_K, drawn.latents_K, strict=True):
            assert len(set(chosen.tolist())) == len(own_set)
            assert not set(chosen) & set(own_set)
            for values in quantities:
                assert values[chosen].sum() == pytest.approx(values[own_set].sum(), rel=0.25)
        assert len(set(np.concatenate(drawn.latents_K).tolist())) == sum(map(len, own.latents_K))


def test_draws_differ_and_repeat_with_their_seed():
    latents = population()
    own, norms = family(latents), np.ones(400)
    first = matched_families(own, latents, norms, 3, seed=1)
    again = matched_families(own, latents, norms, 3, seed=1)
    assert all((a == b).all() for a, b in zip(first[2].latents_K, again[2].latents_K, strict=True))
    assert set(first[0].latents_K[0]) != set(first[1].latents_K[0])


def test_few_latents_are_used_up_without_repeats():
    latents = population(30)
    own = Family("own", 0.1, 0, (np.arange(20), np.arange(0), np.arange(20, 30)))
    (drawn,) = matched_families(own, latents, np.ones(30), 1, seed=0)
    assert sorted(drawn.latents_K[0]) == list(range(20, 30))
    assert len(drawn.latents_K[1]) == 0
    assert len(set(drawn.latents_K[2])) == 10


def test_draws_for_a_p_value_resemble_the_own_set_as_they_do_each_other():
    """Latents that two sets share, on average: as many for the own set and a draw as for two draws."""
    latents = population(600)
    own = family(latents)
    sets = [set(f.latents_K[0].tolist()) for f in matched_families(own, latents, np.ones(600), 80, 1, True)]
    with_own = np.mean([len(drawn & set(own.latents_K[0])) for drawn in sets])
    among = np.mean([len(a & b) for at, a in enumerate(sets) for b in sets[:at]])
    assert with_own > 1
    assert with_own == pytest.approx(among, rel=0.25)


def test_a_latent_that_is_silent_where_sets_are_compared_has_no_match():
    latents = population(100)
    latents.count_F[:3] = 0
    own = Family("own", 0.1, 0, (np.arange(10), np.arange(10, 12)))
    for exchangeable in (False, True):
        (drawn,) = matched_families(own, latents, np.ones(100), 1, 0, exchangeable)
        assert [len(members) for members in drawn.latents_K] == [7, 2]
        assert (latents.count_F[np.concatenate(drawn.latents_K)] > 0).all()


def test_low_si_sets_fire_as_often_on_the_own_task():
    latents = population(4000)
    own = family(latents)
    (drawn,) = low_si_families(own, latents, 1, seed=0)
    for task, (own_set, chosen) in enumerate(zip(own.latents_K, drawn.latents_K, strict=True)):
        assert (latents.si_F[chosen] <= np.median(latents.si_F)).all()
        assert latents.rate_FK[chosen, task].sum() == pytest.approx(
            latents.rate_FK[own_set, task].sum(), rel=0.2
        )


def test_labels_are_permuted_among_the_choosing_documents():
    task_D, documents = np.repeat([0, 1, 2], 10), np.arange(0, 30, 2)
    for labels in permuted_labels(task_D, documents, 3, seed=0):
        assert (labels[1::2] == task_D[1::2]).all()
        assert sorted(labels[documents]) == sorted(task_D[documents])
        assert (labels != task_D).any()


def p_of(codes, importance_F, seed):
    """The matched test where a firing of latent f costs `importance_F` nats, with noise, on every task."""
    rng = np.random.default_rng([seed, 9])
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, seed)
    latents = evidence(codes, halves.choose_D, codes.task_D, MetricsConfig(min_count=6, min_docs=2))
    index_FK = ranking_index(codes, halves.choose_D, codes.task_D, latents, "si")
    (own,) = own_families(index_FK, latents, Ablate(sizes=(0.1,)))
    seen = evidence(codes, halves.measure_D, codes.task_D, MetricsConfig())
    seen = dataclasses.replace(seen, supported_F=latents.supported_F)
    families = [own, *matched_families(own, seen, np.ones(codes.num_latents), 39, seed, True)]
    cost_DF = codes.doc_counts_DF.multiply(importance_F).tocsr().multiply(halves.measure_D[:, None]).tocsr()
    kl_GD = np.stack([np.asarray(cost_DF[:, s].sum(1)).ravel() for f in families for s in f.latents_K])
    kl_GD *= rng.lognormal(0, 0.3, kl_GD.shape)
    zeros = np.zeros_like(kl_GD)
    effects = Effects(zeros, kl_GD, zeros, zeros, np.where(halves.measure_D, codes.tokens_D, 0))
    tasks = len(codes.tasks)
    ratios = [
        float(summarise(effects.of(np.arange(at, at + tasks)), np.arange(tasks), codes.task_D, tasks).ratio)
        for at in range(0, len(kl_GD), tasks)
    ]
    return matched_p(ratios[0], ratios[1:])


def test_latents_that_serve_all_tasks_alike_are_no_finding():
    """At most 6 % of 200 worlds at a level of 5 %, with firings in bursts of documents.

    The test was made on the worlds of seeds 0 to 199; on these new ones it rejects 9.
    """
    rejected = 0
    for seed in range(50_000, 50_200):
        rng = np.random.default_rng(seed)
        rate_F = rng.lognormal(-3.5, 0.7, 300)
        codes = codes_of(
            np.repeat(rate_F[:, None], 3, axis=1).clip(max=0.4), documents=10, tokens=60, seed=seed, burst=0.6
        )
        rejected += p_of(codes, rng.lognormal(0, 1, 300), seed) <= 0.05
    assert rejected <= 12, rejected


def test_latents_of_a_task_are_found():
    rng = np.random.default_rng(0)
    rate_FK = np.repeat(rng.lognormal(-3.5, 0.7, 120)[:, None], 3, axis=1).clip(max=0.4)
    rate_FK[:60] *= np.array([0.2, 0.2, 0.2]) + 2.4 * np.eye(3)[np.arange(60) % 3]
    assert p_of(codes_of(rate_FK, documents=12, burst=0.6), np.ones(120), 0) == pytest.approx(1 / 40)
