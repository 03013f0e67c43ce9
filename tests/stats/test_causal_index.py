"""The index of effects on the model: values by hand, noise, planted specialists."""

import numpy as np
import pytest
from scipy import sparse

from saescope.stats.causal_index import (
    DocumentSums,
    agreement,
    causal_index,
    latent_mass,
    own_share,
    permutation_p,
    rank_correlation,
    rank_correlation_interval,
    set_mass,
)
from saescope.stats.specialization import document_dispersion, specialization, task_counts

SCORES = sparse.csr_matrix(np.array([[1.0, 2.0, 0.0], [0.0, -3.0, 1.0], [4.0, 0.0, 0.0]]))
DOCS = np.array([0, 0, 1])


def test_effects_by_hand():
    mass = latent_mass(SCORES, DOCS, 2).toarray()
    np.testing.assert_allclose(mass, [[0.5, 6.5, 0.5], [8.0, 0.0, 0.0]])


def test_sets_add_before_they_are_squared():
    """{0, 1}: token 0 (1 + 2)² / 2, token 1 (−3)² / 2, token 2 4² / 2; {1, 2} cancels in part on token 1."""
    member = sparse.csr_matrix(np.array([[1, 0], [1, 1], [0, 1]]))
    np.testing.assert_allclose(set_mass(SCORES, member, DOCS, 2), [[9.0, 4.0], [8.0, 0.0]])


def test_a_set_of_one_is_the_latent_and_draws_are_averaged():
    eye = sparse.identity(3, format="csr")
    np.testing.assert_allclose(set_mass(SCORES, eye, DOCS, 2), latent_mass(SCORES, DOCS, 2).toarray())
    twice = sparse.vstack([SCORES, 3 * SCORES], format="csr")
    mass = latent_mass(twice, np.tile(DOCS, 2), 2, draws=2).toarray()
    np.testing.assert_allclose(mass, 5 * latent_mass(SCORES, DOCS, 2).toarray())


def test_many_sets_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    scores = sparse.random(300, 40, 0.1, "csr", rng=rng)
    member = sparse.csr_matrix(rng.random((40, 7)) < 0.3)
    docs = rng.integers(0, 9, 300)
    whole = set_mass(scores, member, docs, 9)
    assert type(whole) is np.ndarray
    monkeypatch.setattr("saescope.stats.causal_index.BLOCK_ENTRIES", 50)
    np.testing.assert_allclose(set_mass(scores, member, docs, 9), whole)
    dense = 0.5 * (scores.toarray() @ member.toarray()) ** 2
    np.testing.assert_allclose(whole, [dense[docs == d].sum(0) for d in range(9)])


def planted(seed, specialists=40, others=40, docs=60, tokens=50):
    """Firings and effects of latents over two tasks of `docs` documents each.

    All fire everywhere alike; the effect of a specialist is ten times as large on its task.
    """
    rng = np.random.default_rng(seed)
    task_D = np.repeat([0, 1], docs)
    counts_DF = rng.poisson(2.0, (2 * docs, specialists + others))
    effect = rng.gamma(0.5, 2.0, counts_DF.shape)
    own_F = np.arange(specialists + others) % 2
    factor_DF = np.where((task_D[:, None] == own_F) & (np.arange(len(own_F)) < specialists), 10.0, 1.0)
    mass_DF = sparse.csr_matrix(counts_DF * effect * factor_DF)
    return sparse.csr_matrix(counts_DF), mass_DF, np.full(2 * docs, tokens), task_D, own_F


def test_the_index_by_hand():
    """Two tasks, no shrinkage to speak of: rates 3 : 1 over many equal documents, 1 − H(¾, ¼)/ln 2."""
    mass = np.repeat([[3.0], [1.0]], 500, axis=0)
    index = causal_index(mass, np.full(1000, 7), np.repeat([0, 1], 500), 2)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert index.si_F[0] == pytest.approx(1 - entropy / np.log(2), abs=1e-9)
    np.testing.assert_allclose(index.rates_FK, [[3 / 7, 1 / 7]])
    assert index.docs_F.tolist() == [1000]


def test_effects_equal_to_firings_give_si_itself():
    counts_DF, _, tokens_D, task_D, _ = planted(1)
    phi = document_dispersion(counts_DF, tokens_D, task_D, 2)
    si = specialization(task_counts(counts_DF, task_D, 2), np.bincount(task_D, weights=tokens_D), phi)
    index = causal_index(counts_DF, tokens_D, task_D, 2)
    np.testing.assert_allclose(index.si_F, si, atol=1e-12)
    scaled = causal_index(1e-7 * counts_DF, tokens_D, task_D, 2)
    np.testing.assert_allclose(scaled.si_F, si, atol=1e-9)


def test_one_document_makes_no_specialist_and_nothing_has_no_index():
    mass = np.zeros((40, 2))
    mass[3, 0] = 50.0
    index = causal_index(mass, np.full(40, 10), np.repeat([0, 1], 20), 2)
    assert index.si_F[0] == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(index.si_F[1])


def test_documents_without_tokens_do_not_count():
    mass = np.array([[3.0], [1.0], [9.0]])
    index = causal_index(mass, np.array([5, 5, 0]), np.array([0, 1, 1]), 2)
    np.testing.assert_allclose(index.rates_FK, [[0.6, 0.2]])
    with pytest.raises(ValueError, match="every task"):
        causal_index(mass, np.array([5, 0, 0]), np.array([0, 1, 1]), 2)
    with pytest.raises(ValueError, match="at least two"):
        causal_index(mass, np.array([5, 5, 5]), np.zeros(3, dtype=int), 1)


def test_planted_specialists_are_found_and_noise_is_not():
    _, mass_DF, tokens_D, task_D, own_F = planted(2)
    index = causal_index(mass_DF, tokens_D, task_D, 2)
    p = permutation_p(mass_DF, tokens_D, task_D, 2, permutations=199, seed=0)
    assert index.si_F[:40].min() > 0.2
    assert index.si_F[40:].mean() < 0.01
    assert (p[:40] <= 0.005).all()
    assert (p[40:] <= 0.05).mean() <= 0.15
    share = own_share(index.rates_FK, own_F)
    assert share[:40].mean() == pytest.approx(10 / 11, abs=0.05)
    assert share[40:].mean() == pytest.approx(0.5, abs=0.05)


def test_p_is_uniform_where_labels_mean_nothing():
    ps = []
    for seed in range(6):
        _, mass_DF, tokens_D, task_D, _ = planted(seed, specialists=0, others=80)
        ps.append(permutation_p(mass_DF, tokens_D, task_D, 2, permutations=99, seed=seed))
    share = (np.concatenate(ps) <= 0.1).mean()
    assert 0.06 < share < 0.14
    with pytest.raises(ValueError, match="at least 1"):
        permutation_p(mass_DF, tokens_D, task_D, 2, permutations=0, seed=0)


def test_p_of_a_latent_without_effects_is_nan():
    p = permutation_p(np.zeros((4, 1)), np.ones(4), np.array([0, 0, 1, 1]), 2, permutations=9, seed=0)
    assert np.isnan(p).all()


def test_own_share_by_hand():
    share = own_share(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]), np.array([1, 0, -1, 0]))
    np.testing.assert_allclose(share[:2], [0.75, 0.5])
    assert np.isnan(share[2:]).all()


def test_rank_correlation():
    a = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    assert rank_correlation(a, a**3) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert rank_correlation(a, np.array([1.0, 3.0, 2.0, 4.0, 0.0])) == pytest.approx(0.8)
    assert rank_correlation(a, np.ones(5)) is None
    assert rank_correlation(a[:2], a[:2]) is None


def test_a_partial_correlation_leaves_nothing_of_what_a_third_explains():
    rng = np.random.default_rng(0)
    third = rng.normal(size=4000)
    a, b = third + 0.5 * rng.normal(size=4000), third + 0.5 * rng.normal(size=4000)
    assert rank_correlation(a, b) > 0.7
    assert abs(rank_correlation(a, b, third)) < 0.05
    assert rank_correlation(a, b, rng.normal(size=4000)) == pytest.approx(rank_correlation(a, b), abs=0.02)
    assert rank_correlation(a, b, a) is None


def test_the_interval_holds_the_correlation_and_narrows_with_documents():
    widths = []
    for docs in (15, 120):
        counts_DF, mass_DF, tokens_D, task_D, _ = planted(3, docs=docs)
        effects = DocumentSums(mass_DF, tokens_D, task_D, 2)
        fired = DocumentSums(mass_DF.multiply(counts_DF + counts_DF), tokens_D, task_D, 2)
        scored = np.ones(80, dtype=bool)
        low, high = rank_correlation_interval(fired, effects, scored, resamples=60, seed=0)
        r = rank_correlation(fired.index(fired.dispersion()), effects.index(effects.dispersion()))
        assert low < r < high
        widths.append(high - low)
    assert widths[1] < widths[0]
    assert rank_correlation_interval(fired, effects, scored, resamples=0, seed=0) is None


def test_resampled_documents_stay_within_their_task():
    sums = DocumentSums(np.ones((7, 1)), np.ones(7), np.array([0, 0, 0, 1, 1, 1, 1]), 2)
    weight = sums.resampled(np.random.default_rng(0))
    assert (weight[:3].sum(), weight[3:].sum()) == (3, 4)


def test_agreement_by_hand():
    exact, approximate = np.array([1.0, 4.0, 9.0, 0.0]), np.array([0.5, 1.0, 3.0, 0.0])
    result = agreement(exact, approximate)
    assert (result.r, result.median_ratio, result.pairs) == (pytest.approx(1.0), 3.0, 3)
    assert result.largest_ratio == pytest.approx(3.9)
    with pytest.raises(ValueError, match="4 exact"):
        agreement(exact, approximate[:2])
