import itertools

import numpy as np
import pytest
from scipy import sparse

from saescope.stats import (
    SpecializationSettings,
    benjamini_hochberg,
    bootstrap_mean_si,
    document_product,
    permutation_null,
    specialization,
    summarise_specialization,
    supported,
)
from saescope.stats.document_product import DocumentProduct
from saescope.stats.synthetic import bursty, documents, noise, planted


def test_benjamini_hochberg_by_hand() -> None:
    p = np.array([0.04, 0.01, 0.03, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.04, 0.04, 0.04, 0.04])
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.001, 0.5, 0.02])), [0.003, 0.5, 0.03])
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.001, 0.02]), 10), [0.01, 0.1])
    full = benjamini_hochberg(np.r_[p, np.ones(6)])
    np.testing.assert_allclose(benjamini_hochberg(p, 10), full[:4])
    assert benjamini_hochberg(np.zeros(0)).size == 0
    with pytest.raises(ValueError, match="num_tests"):
        benjamini_hochberg(p, 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg(np.array([0.5, np.nan]))


@pytest.mark.parametrize("density", [0.005, 0.5])
def test_document_product_is_exact(density: float) -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.integers(1, 99, (40, 300)) * (rng.random((40, 300)) < density))
    weights = rng.integers(0, 4, (40, 7))
    np.testing.assert_array_equal(DocumentProduct(counts)(weights), counts.T.toarray() @ weights)
    huge = counts * 10_000_000
    np.testing.assert_array_equal(DocumentProduct(huge)(weights), huge.T.toarray() @ weights)


@pytest.mark.parametrize("largest", [5, 99, 40_000])  # three, two and one task a product
@pytest.mark.parametrize("tasks", [2, 3, 6, 7])
def test_counts_by_task_are_exact(largest: int, tasks: int) -> None:
    rng = np.random.default_rng(tasks)
    counts = sparse.csr_matrix(rng.integers(1, largest, (40, 30)) * (rng.random((40, 30)) < 0.4))
    label = rng.integers(tasks, size=(40, 5)).astype(np.uint8)
    dense = counts.toarray()
    wanted = np.stack([[dense[label[:, p] == t].sum(0) for p in range(5)] for t in range(tasks - 1)], 0)
    np.testing.assert_array_equal(DocumentProduct(counts).by_task(label, tasks), wanted.transpose(2, 0, 1))


def test_latent_blocks_cover_every_latent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.integers(1, 30, (40, 300)) * (rng.random((40, 300)) < rng.random(300)))
    monkeypatch.setattr(document_product, "DENSE_ENTRIES", 40 * 64)
    blocks = list(document_product.latent_blocks(counts))
    total = np.asarray(counts.sum(0)).ravel()
    assert (total >= 256).any()
    assert all(latents.size <= 64 for latents, _ in blocks)
    assert all(np.unique(total[latents] >= 256).size == 1 for latents, _ in blocks)
    assert sorted(np.concatenate([latents for latents, _ in blocks])) == list(range(300))
    for latents, columns in blocks:
        np.testing.assert_array_equal(columns.toarray(), counts[:, latents].toarray())
    totals = [total[latents] for latents, _ in blocks]
    assert all(one.min() >= other.max() for one, other in itertools.pairwise(totals))


@pytest.mark.parametrize("docs_per_task", [20, 100])
def test_bursts_independent_of_task_are_not_significant(docs_per_task: int) -> None:
    counts, tokens, task = bursty(400, docs_per_task, seed=docs_per_task)
    null = permutation_null(counts, tokens, task, 6, permutations=300, seed=0)
    assert (null.p_F <= 0.05).mean() <= 0.07
    assert null.draw_counts.sum() == 400 * 300
    # shuffling tokens instead of documents would call nearly all of them significant
    dense = np.asarray(counts.todense())
    by_task = np.stack([dense[task == t].sum(0) for t in range(6)], axis=1)
    observed = specialization(by_task, np.full(6, docs_per_task * 128))
    rng = np.random.default_rng(0)
    shuffled = [
        specialization(rng.multinomial(by_task.sum(1), [1 / 6] * 6), np.full(6, docs_per_task * 128))
        for _ in range(100)
    ]
    assert (np.mean(np.array(shuffled) >= observed, axis=0) < 0.05).mean() > 0.9
    assert observed.mean() == pytest.approx(null.mean_F.mean(), abs=0.03)


def test_null_matches_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    counts = sparse.csr_matrix(rng.poisson(0.5, (30, 15)))
    tokens, task = rng.integers(5, 90, 30), np.repeat([0, 1, 2], 10)
    null = permutation_null(counts, tokens, task, 3, permutations=400, seed=5)
    draws, labels = [], np.random.default_rng(5)
    for _ in range(400):
        label = labels.permuted(task)
        by_task = np.stack([counts.toarray()[label == t].sum(0) for t in range(3)], axis=1)
        draws.append(specialization(by_task, np.bincount(label, tokens)))
    np.testing.assert_allclose(null.mean_F, np.mean(draws, axis=0), rtol=1e-12)
    again = permutation_null(counts, tokens, task, 3, permutations=400, seed=5)
    np.testing.assert_array_equal(null.p_F, again.p_F)


def test_labels_are_permuted_not_drawn() -> None:
    """One of four documents fires: whatever task it is dealt to, the index is the observed one."""
    counts = sparse.csr_matrix(np.array([[40], [0], [0], [0]]))
    null = permutation_null(counts, np.full(4, 100), np.array([0, 0, 1, 1]), 2, permutations=200, seed=0)
    observed = specialization(np.array([[40, 0]]), np.array([200, 200]))
    np.testing.assert_allclose(null.mean_F, observed, rtol=1e-12)
    np.testing.assert_array_equal(null.p_F, [1.0])


def test_bootstrap_knows_the_tokens_of_the_documents_drawn() -> None:
    """A latent at one rate everywhere has index 0 in every draw, however long the documents drawn are."""
    tokens = np.tile([10, 200, 1000], 4)
    counts = sparse.csr_matrix(tokens[:, None] // 10)
    interval = bootstrap_mean_si(counts, tokens, np.repeat([0, 1], 6), 2, resamples=100, seed=0)
    assert interval == (0.0, 0.0)


def test_a_real_specialist_is_found_and_p_never_zero() -> None:
    task = np.repeat([0, 1, 2], 20)
    counts = sparse.csr_matrix(np.stack([np.where(task == 1, 10, 0), np.full(60, 4)], axis=1))
    null = permutation_null(counts, np.full(60, 100), task, 3, permutations=99, seed=0)
    np.testing.assert_allclose(null.p_F, [0.01, 1.0])


def test_bootstrap_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    task, tokens = np.repeat([0, 1], 60), np.full(120, 100)
    rates = np.array([0.30, 0.06])
    truth = specialization(rates[None] * 1e9, np.full(2, 1e9))[0]
    hits = 0
    for trial in range(60):
        chance = np.clip(rates[task] * rng.gamma(4, 0.25, 120), 0, 1)  # bursts: over-dispersed documents
        counts = sparse.csr_matrix(rng.binomial(100, chance)[:, None])
        low, high = bootstrap_mean_si(counts, tokens, task, 2, resamples=200, seed=trial)
        assert low < high
        hits += low <= truth <= high
    assert hits >= 50  # 95 % nominal; fewer than 50 of 60 has probability < 1e-3
    with pytest.raises(ValueError, match="fired"):
        bootstrap_mean_si(sparse.csr_matrix((120, 1)), tokens, task, 2, resamples=5, seed=0)


def test_noise_is_not_specialised() -> None:
    active = noise(1024, 16, 12_000, seed=0)
    counts, tokens, task = documents(active, np.repeat(np.arange(6), 2000), 100)
    active_F = np.asarray(counts.sum(0)).ravel()
    ok = supported(active_F, np.asarray((counts > 0).sum(0)).ravel())
    s = summarise_specialization(counts, tokens, task, 6, ok, SpecializationSettings(300, 100))
    assert ok.sum() > 500
    assert s.metrics["si/significant_frac"] <= 0.07
    assert s.metrics["si/excess"] == pytest.approx(0, abs=0.003)
    assert (s.si_p[ok] <= 0.05).mean() <= 0.08
    assert np.isnan(s.si_p[~ok]).all()


def test_planted_specialists_are_significant() -> None:
    data = planted(512, 16, 12_000, boost=2.0, seed=0)
    counts, tokens, task = documents(data.active_NF, data.task_N, 100)
    ok = supported(np.asarray(counts.sum(0)).ravel(), np.asarray((counts > 0).sum(0)).ravel())
    s = summarise_specialization(counts, tokens, task, 6, ok, SpecializationSettings(200, 200))
    own = ok & (data.module_F >= 0)
    assert (s.si_q[own] <= 0.05).mean() > 0.95
    assert (s.top_task[own] == data.module_F[own]).mean() > 0.95
    m = s.metrics
    assert m["si/ci_low"] < m["si/mean"] < m["si/ci_high"]
    assert m["si/excess"] == pytest.approx(m["si/mean"] - m["si/null_mean"])
    assert not s.notes
    assert s.null_draw_counts.sum() == 200 * ok.sum()


def test_nothing_supported_gives_none_with_a_reason() -> None:
    counts = sparse.csr_matrix(np.array([[1, 0], [0, 0]]))
    s = summarise_specialization(counts, np.array([5, 5]), np.array([0, 1]), 2, np.zeros(2, bool))
    assert s.metrics["si/mean"] is None
    assert s.metrics["si/naive_mean"] == 1.0
    assert s.notes["si/mean"] == "no supported latent"
    assert s.top_task.tolist() == [0, -1]
    single_task = summarise_specialization(counts, np.array([5, 5]), np.array([0, 0]), 1, np.ones(2, bool))
    assert set(single_task.metrics.values()) == {None}
    assert set(single_task.notes) == set(single_task.metrics)
