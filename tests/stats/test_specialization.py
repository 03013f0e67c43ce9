import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from saescope.stats import document_dispersion, naive_specialization, specialization, task_counts

EQUAL = np.full(6, 1000)


def multinomial_si(n: int, p: list[float], draws: int = 20_000) -> np.ndarray:
    return specialization(np.random.default_rng(n).multinomial(n, p, size=draws), EQUAL)


@pytest.mark.parametrize(
    ("n", "naive", "shrunk"),
    [(1, 1.0, 0.0), (2, 0.679, 0.170), (5, 0.334, 0.036), (20, 0.076, 0.008), (100, 0.014, 0.002)],
)
def test_bias_when_firing_ignores_the_task(n: int, naive: float, shrunk: float) -> None:
    counts = np.random.default_rng(n).multinomial(n, [1 / 6] * 6, size=20_000)
    assert naive_specialization(counts).mean() == pytest.approx(naive, abs=0.01)
    assert specialization(counts, EQUAL).mean() == pytest.approx(shrunk, abs=0.01)


@pytest.mark.parametrize("n", [5, 10, 20, 100])
def test_recovers_a_true_specialization(n: int) -> None:  # true value 0.398
    assert multinomial_si(n, [0.7, 0.1, 0.05, 0.05, 0.05, 0.05]).mean() == pytest.approx(0.398, abs=0.025)


@pytest.mark.parametrize(
    ("share", "naive"),
    [
        ((0.5, 0.1, 0.1, 0.1, 0.1, 0.1), 0.164),
        ((0.4, 0.25, 0.15, 0.1, 0.06, 0.04), 0.149),
        ((0.7, 0.1, 0.1, 0.05, 0.03, 0.02), 0.418),
        ((0.3, 0.2, 0.2, 0.1, 0.1, 0.1), 0.054),
    ],
)
def test_unequal_token_counts_are_no_specialization(share: tuple[float, ...], naive: float) -> None:
    tokens = np.round(100_000 * np.array(share))
    exact = tokens / 100  # the same rate on every task
    assert specialization(exact[None], tokens)[0] == pytest.approx(0.0, abs=1e-9)
    assert naive_specialization(exact[None])[0] == pytest.approx(naive, abs=1e-3)
    rng = np.random.default_rng(0)
    sampled = rng.binomial(tokens.astype(int), 0.02, size=(500, 6))  # 2,000 firings
    assert np.abs(specialization(sampled, tokens)).mean() <= 0.02
    assert naive_specialization(sampled).mean() == pytest.approx(naive, abs=0.02)


def test_unequal_tokens_with_five_hundred_firings() -> None:
    tokens = np.array([70_000, 10_000, 10_000, 5_000, 3_000, 2_000])
    counts = np.random.default_rng(1).binomial(tokens, 0.006, size=(2000, 6))
    counts = counts[counts.sum(1) >= 500]
    assert len(counts) > 1000
    assert specialization(counts, tokens).mean() <= 0.02


def test_aggregate_of_rarely_firing_latents_shows_nothing() -> None:
    rng = np.random.default_rng(0)
    n = np.minimum(np.maximum(1, np.floor(3 * rng.pareto(0.8, 20_000))), 100_000).astype(int)
    counts = rng.multinomial(n, [1 / 6] * 6)
    naive, shrunk = naive_specialization(counts), specialization(counts, EQUAL * 1000)
    assert np.median(n) == pytest.approx(4, abs=1)
    assert naive.mean() == pytest.approx(0.509, abs=0.02)
    assert np.average(naive, weights=n) < 0.03
    assert shrunk[n >= 100].mean() < 0.004
    assert shrunk[n >= 20].mean() < 0.01 < naive[n >= 20].mean()


def test_degenerate_latents() -> None:
    counts = np.array([[0, 0, 0], [1, 0, 0], [9, 0, 0], [5, 5, 5]])
    si = specialization(counts, np.full(3, 100))
    assert np.isnan(si[0])
    assert np.isnan(naive_specialization(counts)[0])
    np.testing.assert_allclose(si[1:], [0, 1, 0], atol=1e-12)
    assert naive_specialization(counts)[1] == pytest.approx(1.0)  # which is why it is called naive


def test_entropy_identities() -> None:  # no noise, so no shrinkage
    p = np.array([0.5, 0.3, 0.15, 0.05])
    counts, tokens = (1e12 * p)[None], np.full(4, 1e13)
    kl = float((p * np.log(p * 4)).sum() / np.log(4))
    assert specialization(counts, tokens)[0] == pytest.approx(kl, abs=1e-8)
    assert naive_specialization(counts)[0] == pytest.approx(kl, abs=1e-12)
    unequal = np.array([1e13, 2e13, 3e13, 4e13])
    over_zero = (counts / unequal) / (counts / unequal).sum()
    lape = -(over_zero * np.log(over_zero)).sum()
    assert specialization(counts, unequal)[0] == pytest.approx(1 - lape / np.log(4), abs=1e-8)


def hausser_strimmer(counts: np.ndarray) -> np.ndarray:
    n, k = counts.sum(1, keepdims=True), counts.shape[1]
    p = counts / n
    with np.errstate(divide="ignore", invalid="ignore"):
        lam = (1 - (p**2).sum(1)) / ((n[:, 0] - 1) * ((1 / k - p) ** 2).sum(1))
    lam = np.where(np.isfinite(lam), np.clip(lam, 0, 1), 1)[:, None]
    shrunk = lam / k + (1 - lam) * p
    return 1 + (shrunk * np.log(np.where(shrunk > 0, shrunk, 1))).sum(1) / np.log(k)


def test_equal_tokens_give_hausser_and_strimmer() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(rng.integers(2, 200, 3000), rng.dirichlet(np.ones(5), 3000))
    np.testing.assert_allclose(specialization(counts, np.full(5, 777)), hausser_strimmer(counts), atol=1e-9)


counts_strategy = arrays(np.int64, (7, 4), elements=st.integers(0, 300))
tokens_strategy = arrays(np.int64, 4, elements=st.integers(300, 5000))


@settings(max_examples=50, deadline=None)
@given(counts_strategy, tokens_strategy, st.permutations(range(4)), st.permutations(range(7)))
def test_invariances(counts: np.ndarray, tokens: np.ndarray, tasks: list[int], latents: list[int]) -> None:
    si = specialization(counts, tokens)
    np.testing.assert_allclose(specialization(counts[:, tasks], tokens[tasks]), si, atol=1e-9)
    np.testing.assert_array_equal(specialization(counts[latents], tokens), si[latents])
    np.testing.assert_allclose(specialization(counts, tokens * 10), si, atol=1e-9)  # rates matter, not scale
    alive = counts.sum(1) > 0
    assert np.isnan(si[~alive]).all()
    assert ((si[alive] >= 0) & (si[alive] <= 1)).all()


def test_batches_agree_with_single_calls() -> None:
    rng = np.random.default_rng(0)
    counts, tokens = rng.integers(0, 50, (3, 20, 4)), rng.integers(100, 900, (3, 4))
    together = specialization(counts, tokens)
    for batch in range(3):
        np.testing.assert_allclose(together[batch], specialization(counts[batch], tokens[batch]), atol=1e-12)


def test_task_counts_by_hand() -> None:
    docs = sparse.csr_matrix([[1, 0], [2, 5], [0, 1]])
    assert task_counts(docs, np.array([2, 0, 2]), 3).tolist() == [[2, 0, 1], [5, 0, 1]]


@pytest.mark.parametrize(
    ("counts", "tokens", "message"),
    [
        ([[1]], [1], "two tasks"),
        ([[1, 2]], [1, 0], "token"),
        ([[1, -1]], [5, 5], "negative"),
        ([[1, 2]], [1], "tasks"),
    ],
)
def test_bad_input_is_refused(counts: list, tokens: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        specialization(np.array(counts), np.array(tokens))
    with pytest.raises(ValueError, match="0\\.\\.1"):
        task_counts(sparse.csr_matrix([[1]]), np.array([2]), 2)


def test_dispersion_by_hand() -> None:
    """Documents of 50 tokens with 5 and 3 firings in one task, 8 and 0 in another, 2 and 2 in a third."""
    docs = sparse.csr_matrix(np.array([[5], [3], [8], [0], [2], [2]]))
    tokens, task = np.full(6, 50), np.array([0, 0, 1, 1, 2, 2])
    # 2/(2-1) * (1 + 1)/8; 2 * (16 + 16)/8; 0
    np.testing.assert_allclose(document_dispersion(docs, tokens, task, 3), [[0.5, 8.0, 0.0]])
    longer = np.array([50, 30, 80, 80, 10, 30])  # the rate is 0.1, 0.05 and 0.1 a token
    expected = [0.0, 2 * (16 + 16) / 8, 2 * (1 + 1) / 4]
    np.testing.assert_allclose(document_dispersion(docs, longer, task, 3), [expected], atol=1e-12)


def test_a_task_of_one_document_is_one_cluster_and_silence_has_no_dispersion() -> None:
    docs = sparse.csr_matrix(np.array([[7, 0], [3, 0], [1, 0]]))
    dispersion = document_dispersion(docs, np.array([50, 50, 0]), np.array([0, 1, 1]), 2)
    np.testing.assert_allclose(dispersion, [[7.0, 4.0], [1.0, 1.0]])


def test_index_with_clustered_noise_by_hand() -> None:
    """Rates 0.08 and 0.04, dispersions 0.5 and 0: lambda = (2/9) 0.0004/0.12^2 (36/35) / (1/18) = 4/35."""
    counts, tokens, dispersion = np.array([[8, 4]]), np.array([100, 100]), np.array([[0.5, 0.0]])
    q = 4 / 35 / 2 + 31 / 35 * np.array([2 / 3, 1 / 3])
    by_hand = 1 + (q * np.log(q)).sum() / np.log(2)
    assert specialization(counts, tokens, dispersion)[0] == pytest.approx(by_hand, rel=1e-12)
    regular = specialization(counts, tokens, np.zeros((1, 2)))[0]  # no scatter at all: nothing is shrunk
    assert regular == pytest.approx(1 + (2 * np.log(2 / 3) + np.log(1 / 3)) / 3 / np.log(2), rel=1e-12)
    # all firings in one document: nothing is known
    assert specialization(np.array([[8, 0]]), tokens, np.array([[8.0, 1.0]]))[0] == 0.0


def test_independent_firings_have_dispersion_one_and_the_same_index() -> None:
    rng = np.random.default_rng(0)
    tokens, task = rng.integers(60, 300, 300), np.repeat([0, 1, 2], 100)
    chance = np.array([0.02, 0.03, 0.05])[task]
    docs = sparse.csr_matrix(rng.binomial(tokens[:, None], chance[:, None], (300, 400)))
    dispersion = document_dispersion(docs, tokens, task, 3)
    assert dispersion.mean() == pytest.approx(1 - 0.0333, abs=0.01)  # binomial: 1 - rate
    counts, tokens_K = task_counts(docs, task, 3), np.bincount(task, tokens)
    np.testing.assert_array_equal(
        specialization(counts, tokens_K), specialization(counts, tokens_K, np.ones(counts.shape))
    )
    clustered = specialization(counts, tokens_K, dispersion)
    np.testing.assert_allclose(clustered, specialization(counts, tokens_K), atol=3e-3)
