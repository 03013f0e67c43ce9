"""Joint counts within strata: expected, and their tails where strata differ as token ids do."""

import numpy as np
import pytest
from scipy import sparse, special, stats

from saescope.stats.coactivation import validated_edges
from saescope.stats.count_tails import NEAR_SD, NEAR_TAIL, bernoulli_sum_tail, hypergeometric_tail
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.strata import CHANCE_EDGES, POOLS, Strata, numbered


def units_of(a_W, b_W, n_W):
    """Two latents active `a` and `b` times in strata of `n` units, and the label of every unit."""
    columns, labels = [], []
    for stratum, (a, b, n) in enumerate(zip(a_W, b_W, n_W, strict=True)):
        units = np.arange(n)
        columns.append(np.stack([units < a, units >= n - b], axis=1))
        labels.append(np.full(n, stratum))
    return sparse.csr_matrix(np.concatenate(columns).astype(np.int32)), np.concatenate(labels)


def tails_of(a_W, b_W, n_W, joint, ceiling=1.0):
    """p at each joint count, 1 where it is not above the expected one."""
    active, label_N = units_of(a_W, b_W, n_W)
    joint = np.asarray(joint)
    zeros = np.zeros(joint.size, dtype=np.int64)
    above, _, p = Strata.of(active, label_N).beyond(zeros, zeros + 1, joint, ceiling)
    result = np.ones(joint.size)
    result[above] = p
    return result


def convolved(a_W, b_W, n_W):
    """The exact tail P(X >= c) for c from 0 to the largest."""
    pmf = np.ones(1)
    for a, b, n in zip(a_W, b_W, n_W, strict=True):
        pmf = np.convolve(pmf, stats.hypergeom.pmf(np.arange(min(a, b) + 1), n, a, b))
    return pmf[::-1].cumsum()[::-1]


def test_expected_and_tail_by_hand():
    # 4 units, 2 and 2 active: 0, 1, 2 together with 1/6, 4/6, 1/6; 2 units, 1 and 1 active: 0, 1 with 1/2;
    # 3 units, one latent active on all, the other on 2: always 2 together
    a_W, b_W, n_W = [2, 1, 3], [2, 1, 2], [4, 2, 3]
    active, label_N = units_of(a_W, b_W, n_W)
    strata = Strata.of(active, label_N)
    assert strata.expected(np.array([0, 1]), np.array([1, 0])) == pytest.approx([3.5, 3.5])
    np.testing.assert_allclose(convolved(a_W, b_W, n_W)[2:], [1, 11 / 12, 1 / 2, 1 / 12])
    above, expected, p = strata.beyond(np.zeros(4, int), np.ones(4, int), np.array([2, 3, 4, 5]), 1.0)
    assert above.tolist() == [2, 3]
    assert expected == pytest.approx([3.5, 3.5])
    assert p == pytest.approx([1 / 2, 1 / 12], rel=0.05)
    # what is certain is no evidence: both always active together
    assert tails_of([3, 5], [3, 5], [3, 5], [8]).tolist() == [1.0]


def test_unknown_labels_leave_nothing_to_chance():
    number_N, units_W = numbered(np.array([7, -1, 7, 3, -1]))
    assert units_W[number_N].tolist() == [2, 1, 2, 1, 1]
    assert len(set(number_N.tolist())) == 4
    active = sparse.csr_matrix(np.array([[1, 1]] * 6 + [[0, 0]] * 30, dtype=np.int32))
    unknown = Strata.of(active, np.full(36, -1))
    assert unknown.expected(np.array([0]), np.array([1])) == pytest.approx([6.0])
    assert not unknown.beyond(np.array([0]), np.array([1]), np.array([6]), 0.01)[0].size


def test_one_stratum_is_the_exact_tail():
    rng = np.random.default_rng(0)
    active = sparse.csr_matrix((rng.random((500, 30)) < rng.uniform(0.02, 0.3, 30)).astype(np.int32))
    source, target = np.triu_indices(30, 1)
    joint = (active.T @ active).toarray()[source, target] + 8
    above, expected, p = Strata.of(active).beyond(source, target, joint, 1.0)
    a, b = (np.asarray(active.sum(0)).ravel()[ends[above]] for ends in (source, target))
    np.testing.assert_allclose(expected, a * b / 500)
    np.testing.assert_allclose(p, hypergeometric_tail(joint[above], a, b, 500))
    # the same strata under many labels: nearly the exact tail by the general way
    split = Strata.of(sparse.vstack([active, sparse.csr_matrix((1, 30))]), np.append(np.zeros(500, int), 1))
    above_2, expected_2, p_2 = split.beyond(source, target, joint, 1.0)
    np.testing.assert_array_equal(above_2, above)
    np.testing.assert_allclose(expected_2, expected)
    small = p < 0.02
    assert small.sum() > 100
    assert np.abs(np.log10(p_2[small] / p[small])).max() < 0.2


def strata_like(kind, rng):
    """Counts of two latents in strata: of tasks, of token ids, of a hot and a cold word, of rare words."""
    if kind == "tasks":
        n = rng.integers(500, 5000, 6)
        return rng.binomial(n, rng.uniform(0.002, 0.1, 6)), rng.binomial(n, rng.uniform(0.002, 0.1, 6)), n
    if kind == "tokens":
        n = rng.zipf(1.6, 150).clip(1, 3000)
        return rng.binomial(n, rng.beta(0.3, 1, 150)), rng.binomial(n, rng.beta(0.3, 1, 150)), n
    if kind == "hot and cold":
        n = np.array([30, 20_000])
        hot, cold = rng.integers(3, 28, 2), rng.integers(50, 300, 2)
        return np.array([hot[0], cold[0]]), np.array([hot[1], cold[1]]), n
    n = rng.integers(2, 9, 30)
    return rng.binomial(n, 0.5), rng.binomial(n, 0.5), n


@pytest.mark.parametrize("kind", ["tasks", "tokens", "hot and cold", "rare words"])
def test_tails_of_unequal_strata_against_convolution(kind):
    """Far beyond the thresholds of multiple testing, which lie near 1e-5 to 1e-7."""
    rng, errors = np.random.default_rng(1), []
    for _ in range(25):
        strata = strata_like(kind, rng)
        exact = convolved(*strata)
        mean, sd = moments(*strata)
        c = np.flatnonzero((exact > 1e-9) & (exact < 0.01) & (np.arange(exact.size) > mean + NEAR_SD * sd))
        p = tails_of(*strata, c)
        np.testing.assert_allclose(tails_of(*strata, c, ceiling=0.01), p)
        errors += zip(exact[c], np.log10(p / exact[c]), strict=True)
    exact, error = np.array(errors).T
    for floor, bound in ((1e-3, 0.1), (1e-5, 0.2), (1e-7, 0.3)):
        assert -bound < error[exact > floor].min(), floor  # never much too small
    assert np.median(np.abs(error)) < 0.06
    assert np.abs(error[exact > 1e-7]).max() < 0.5


def moments(a_W, b_W, n_W):
    a, b, n = (np.asarray(x, float) for x in (a_W, b_W, n_W))
    variance = a * b * (n - a) * (n - b) / (n * n * np.maximum(n - 1, 1))
    return (a * b / n).sum(), np.sqrt(variance.sum())


def test_tail_against_permutations_within_strata():
    rng = np.random.default_rng(0)
    a_W, b_W, n_W = [9, 6, 1, 20, 3], [8, 4, 2, 15, 3], [12, 40, 2, 900, 3]
    active, label_N = units_of(a_W, b_W, n_W)
    first, second = active.toarray().T
    order = np.argsort(label_N, kind="stable")
    joint = []
    for _ in range(40_000):
        shuffled = order[np.lexsort((rng.random(label_N.size), label_N))]
        joint.append(int(first[shuffled] @ second))
    counts = np.arange(10, 17)
    share = np.array([(np.array(joint) >= c).mean() for c in counts])
    assert share[0] > 0.5
    assert 0 < share[-1] < 0.001
    np.testing.assert_allclose(convolved(a_W, b_W, n_W)[counts], share, rtol=0.02, atol=5e-4)
    here = share < 0.1
    np.testing.assert_allclose(tails_of(a_W, b_W, n_W, counts)[here], share[here], rtol=0.1, atol=1e-4)


def test_sum_of_bernoullis_against_the_binomial():
    trials = np.array([[20.0, 0.0], [400.0, 0.0], [30.0, 30.0]])
    chance = np.array([[0.3, 0.0], [0.01, 0.0], [0.2, 0.2]])
    for c, exact in (
        (
            [13, 12, 25],
            [stats.binom.sf(12, 20, 0.3), stats.binom.sf(11, 400, 0.01), stats.binom.sf(24, 60, 0.2)],
        ),
        ([20, 400, 60], [0.3**20, 0.01**400, 0.2**60]),
    ):
        assert bernoulli_sum_tail(np.array(c, float), trials, chance) == pytest.approx(exact, rel=0.01)
    assert bernoulli_sum_tail(np.array([6.0, 4.0, 61.0]), trials, chance).tolist() == [1.0, 1.0, 0.0]


def test_counts_near_the_mean_are_above_the_ceiling():
    """What ``NEAR_SD`` leaves out is certain for sums of strata too."""
    rng, least = np.random.default_rng(2), 1.0
    for kind in ("tasks", "tokens", "hot and cold", "rare words"):
        for _ in range(50):
            strata = strata_like(kind, rng)
            mean, sd = moments(*strata)
            c = int(np.floor(mean + NEAR_SD * sd))
            if c > mean:
                least = min(least, convolved(*strata)[c])
    assert NEAR_TAIL < least < 0.06


def test_blocks_of_tails_change_no_number(monkeypatch):
    from saescope.stats import strata as module

    rng = np.random.default_rng(3)
    active = sparse.csr_matrix((rng.random((3000, 40)) < 0.1).astype(np.int32))
    source, target = np.triu_indices(40, 1)
    joint = (active.T @ active).toarray()[source, target] + 15
    strata = Strata.of(active, rng.integers(300, size=3000))
    whole = strata.beyond(source, target, joint, 0.01)
    monkeypatch.setattr(module, "TAILS_AT_ONCE", 7)
    for one, other in zip(whole, strata.beyond(source, target, joint, 0.01), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert (whole[2] < 0.01).sum() > 100
    assert CHANCE_EDGES.size + 1 == POOLS


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="labels"):
        Strata.of(sparse.csr_matrix(np.eye(3, dtype=np.int32)), np.zeros(2, int))


def test_edges_are_those_of_exact_tails():
    """Latents that read words, and share a hidden state with every fourth other.

    A binomial of the same mean and variance, the tail of early versions, loses nine edges in ten.
    """
    rng = np.random.default_rng(0)
    word_N = rng.zipf(1.3, 4000).clip(1, 300) - 1
    chance_WS = rng.beta(0.15, 0.6, (300, 40)).clip(1e-3, 0.97)
    same_NS = rng.integers(4, size=4000)[:, None] == np.arange(40) % 4
    log_odds_NS = np.log(chance_WS / (1 - chance_WS))[word_N] + 2.5 * same_NS
    active_NS = (rng.logistic(size=log_odds_NS.shape) < log_odds_NS).astype(np.int32)
    counts_SW = np.stack([np.bincount(word_N[column > 0], minlength=300) for column in active_NS.T])
    units_W = np.bincount(word_N, minlength=300)
    joint = active_NS.T @ active_NS
    pairs = np.stack(np.triu_indices(40, 1), axis=1)
    exact, binomial = np.ones((2, len(pairs)))
    for at, (first, second) in enumerate(pairs):
        shared = np.flatnonzero(counts_SW[first] * counts_SW[second])
        strata = counts_SW[first, shared], counts_SW[second, shared], units_W[shared]
        mean, sd = moments(*strata)
        if joint[first, second] > mean:
            exact[at] = convolved(*strata)[joint[first, second]]
            binomial[at] = matched_binomial_tail(joint[first, second], mean, sd)
    right, early = (benjamini_hochberg(p, len(pairs)) <= 0.01 for p in (exact, binomial))
    assert right.sum() > 100
    assert early.sum() < 0.1 * right.sum()
    edges = validated_edges(sparse.csr_matrix(active_NS), min_joint=1, stratum_N=word_N)
    assert np.setxor1d(pairs[right] @ [40, 1], edges.source * 40 + edges.target).size <= 2


def matched_binomial_tail(c, mean, sd):
    """Of mean and variance of the sum; of a Poisson where that binomial has no room."""
    chance = 1 - sd**2 / mean
    trials = mean / chance
    return special.betainc(c, trials - c + 1, chance) if c < 0.75 * trials else special.gammainc(c, mean)
