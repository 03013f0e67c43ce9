import itertools

import numpy as np
import pytest
from scipy import sparse

from saescope.stats import (
    SpecializationSettings,
    benjamini_hochberg,
    bootstrap_si,
    document_dispersion,
    document_product,
    permutation_null,
    permutation_p,
    specialization,
    summarise_specialization,
    supported,
    task_counts,
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
    p = permutation_p(counts, tokens, task, 6, permutations=300, seed=0)
    assert (p <= 0.05).mean() <= 0.07
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
    clustered = specialization(
        by_task, np.full(6, docs_per_task * 128), document_dispersion(counts, tokens, task, 6)
    )
    assert clustered.mean() == pytest.approx(null.mean_F.mean(), abs=0.01)
    assert clustered.mean() < 0.2 * observed.mean()  # bursts taken for independent firings


def test_null_matches_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    counts = sparse.csr_matrix(rng.poisson(0.5, (30, 15)))
    tokens, task = rng.integers(5, 90, 30), np.repeat([0, 1, 2], 10)
    shown = np.arange(15) < 5
    null = permutation_null(counts, tokens, task, 3, permutations=400, seed=5, histogram_F=shown)
    p = permutation_p(counts, tokens, task, 3, permutations=400, seed=5)
    draws, clustered, mutual, labels = [], [], [], np.random.default_rng(5)
    for _ in range(400):
        label = labels.permuted(task)
        by_task = task_counts(counts, label, 3)
        tokens_K = np.bincount(label, tokens)
        draws.append(specialization(by_task, tokens_K))
        clustered.append(specialization(by_task, tokens_K, document_dispersion(counts, tokens, label, 3)))
        mutual.append(np.average(clustered[-1], weights=(by_task / tokens_K).sum(1)))
    np.testing.assert_allclose(null.mean_F, np.mean(clustered, axis=0), rtol=1e-9)
    np.testing.assert_allclose(null.mutual_info_P, mutual, rtol=1e-9)
    assert null.draw_counts.sum() == 5 * 400
    observed = specialization(task_counts(counts, task, 3), np.bincount(task, tokens))
    np.testing.assert_allclose(p, (1 + (np.array(draws) >= observed - 1e-12).sum(0)) / 401)
    again = permutation_p(counts, tokens, task, 3, permutations=400, seed=5)
    np.testing.assert_array_equal(p, again)


def test_labels_are_permuted_not_drawn() -> None:
    """One of four documents fires: whatever task it is dealt to, the index is the observed one."""
    counts = sparse.csr_matrix(np.array([[40], [0], [0], [0]]))
    documents = counts, np.full(4, 100), np.array([0, 0, 1, 1]), 2
    np.testing.assert_array_equal(permutation_p(*documents, permutations=200, seed=0), [1.0])
    # and it says nothing: a single document with all firings
    np.testing.assert_array_equal(permutation_null(*documents, permutations=200, seed=0).mean_F, [0.0])


def test_bootstrap_knows_the_tokens_of_the_documents_drawn() -> None:
    """A latent at one rate everywhere has index 0 in every draw, however long the documents drawn are."""
    tokens = np.tile([10, 200, 1000], 4)
    counts = sparse.csr_matrix(tokens[:, None] // 10)
    intervals = bootstrap_si(counts, tokens, np.repeat([0, 1], 6), 2, resamples=100, seed=0)
    assert (intervals.mean, intervals.mutual_info) == ((0.0, 0.0), (0.0, 0.0))


def test_a_real_specialist_is_found_and_p_never_zero() -> None:
    task = np.repeat([0, 1, 2], 20)
    counts = sparse.csr_matrix(np.stack([np.where(task == 1, 10, 0), np.full(60, 4)], axis=1))
    p = permutation_p(counts, np.full(60, 100), task, 3, permutations=99, seed=0)
    np.testing.assert_allclose(p, [0.01, 1.0])


def test_few_specialists_are_found_with_few_permutations() -> None:
    """64 of 512 perfect specialists: with 100 permutations, Benjamini-Hochberg needs 102 at the floor."""
    rng = np.random.default_rng(0)
    task, tokens = np.repeat(np.arange(6), 30), np.full(180, 100)
    dense = rng.binomial(100, 0.02, (180, 512))
    dense[:, :64] *= task[:, None] == np.arange(64) % 6
    counts, everyone = sparse.csr_matrix(dense), np.ones(512, dtype=bool)
    s = summarise_specialization(counts, tokens, task, 6, everyone, SpecializationSettings(100, 0))
    assert (s.si_q[:64] <= 0.05).all()
    assert 0.125 <= s.metrics["si/significant_frac"] <= 0.14
    one = np.r_[np.arange(1), np.arange(64, 512)]  # a single one among 449
    s = summarise_specialization(
        counts[:, one], tokens, task, 6, everyone[one], SpecializationSettings(100, 0)
    )
    assert s.si_q[0] <= 0.05
    assert s.metrics["si/significant_frac"] < 0.01


def test_drawing_on_finds_nothing_in_noise() -> None:
    rejected = []
    for seed in range(20):
        counts, tokens, task = bursty(200, 20, seed=seed)
        p = permutation_p(counts, tokens, task, 6, permutations=60, seed=seed, fdr=0.05)
        rejected.append((benjamini_hochberg(p) <= 0.05).any())
        plain = permutation_p(counts, tokens, task, 6, permutations=60, seed=seed)
        np.testing.assert_array_equal(p[plain > 0.05], plain[plain > 0.05])
    assert np.sum(rejected) <= 4  # 1 expected; more than 4 of 20 at 5 %: once in 400


def test_bootstrap_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    task, tokens = np.repeat([0, 1], 60), np.full(120, 100)
    rates = np.array([0.30, 0.06])
    truth = specialization(rates[None] * 1e9, np.full(2, 1e9))[0]
    hits = 0
    for trial in range(60):
        chance = np.clip(rates[task] * rng.gamma(4, 0.25, 120), 0, 1)  # bursts: over-dispersed documents
        counts = sparse.csr_matrix(rng.binomial(100, chance)[:, None])
        intervals = bootstrap_si(counts, tokens, task, 2, resamples=200, seed=trial)
        (low, high) = intervals.mean
        assert intervals.mutual_info == pytest.approx((low, high))  # a single latent
        assert low < high
        hits += low <= truth <= high
    assert hits >= 50  # 95 % nominal; fewer than 50 of 60 has probability < 1e-3
    with pytest.raises(ValueError, match="fired"):
        bootstrap_si(sparse.csr_matrix((120, 1)), tokens, task, 2, resamples=5, seed=0)


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
    assert s.null_draw_counts.sum() == 100 * ok.sum()


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


def test_mutual_information_of_firing_and_task_by_hand() -> None:
    """Two latents at rates (0.3, 0.1) and (0.1, 0.1) on two tasks of 1,000 documents of one token each."""
    q = np.array([[0.75, 0.25], [0.5, 0.5]])
    si = 1 + (q * np.log2(q)).sum(1)
    task = np.repeat([0, 1], 1000)
    dense = np.zeros((2000, 3), dtype=int)
    dense[:300, 0] = dense[1000:1100, 0] = dense[:100, 1] = dense[1000:1100, 1] = 1
    s = summarise_specialization(
        sparse.csr_matrix(dense), np.ones(2000), task, 2, np.array([True, False, False]),
        SpecializationSettings(200, 200),
    )  # fmt: skip
    m = s.metrics
    assert m["si/mean"] == pytest.approx(si[0], abs=0.005)
    assert m["si/mutual_info"] == pytest.approx((0.4 * s.si[0] + 0.2 * s.si[1]) / 0.6)  # the unsupported too
    joint = np.array([[0.3, 0.1], [0.1, 0.1]]) / 0.6  # latent by task, of one firing at equal shares of tasks
    expected = joint.sum(1, keepdims=True) * 0.5
    assert m["si/mutual_info"] == pytest.approx((joint * np.log2(joint / expected)).sum(), abs=0.005)
    assert 0 <= m["si/mutual_info_null_mean"] < 0.003
    assert m["si/mutual_info_excess"] == m["si/mutual_info"] - m["si/mutual_info_null_mean"]
    assert 0.05 < m["si/mutual_info_ci_low"] < m["si/mutual_info"] < m["si/mutual_info_ci_high"] < 0.2


def test_mutual_information_does_not_grow_when_latents_are_split() -> None:
    data = planted(128, 16, 24_000, boost=1.5, seed=0)
    rng = np.random.default_rng(0)
    active = data.active_NF.tocoo()
    values, chance = [], []
    for copies in (1, 8):
        column = active.col.astype(np.int64) * copies + rng.integers(copies, size=active.nnz)
        split = sparse.csr_matrix((active.data, (active.row, column)), shape=(24_000, 128 * copies))
        counts, tokens, task = documents(split, data.task_N, 100)
        s = summarise_specialization(
            counts, tokens, task, 6, np.ones(128 * copies, bool), SpecializationSettings(100, 0)
        )
        values.append(s.metrics["si/mutual_info"])
        chance.append(s.metrics["si/mutual_info_null_mean"])
    assert values[1] == pytest.approx(values[0], rel=0.05)
    assert 0 <= chance[0] < chance[1] < 0.02
    noise_counts, tokens, task = documents(noise(512, 16, 12_000, seed=0), np.repeat(np.arange(6), 2000), 100)
    m = summarise_specialization(
        noise_counts, tokens, task, 6, np.ones(512, bool), SpecializationSettings(100, 0)
    ).metrics
    assert m["si/mutual_info_excess"] == pytest.approx(0, abs=5e-4)
