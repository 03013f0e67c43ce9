"""What structure saves, on arrays whose answer is known in closed form."""

import numpy as np
import pytest
from scipy import sparse

from saescope.stats.savings import (
    independent_union,
    mean_by_task,
    mean_interval,
    other_tasks,
    permutation_p,
    recovered_share,
    union_growth,
)

SIZES = (1, 2, 4, 8, 16)


def test_identical_sets_do_not_grow() -> None:
    needed = np.zeros((50, 40), dtype=int)
    needed[:, :10] = 1
    grown = union_growth(sparse.csr_matrix(needed), np.zeros(50, int), SIZES, draws=20, seed=0)
    assert grown.tolist() == [0.25] * 5


@pytest.mark.parametrize("k", [0.1, 0.3])
def test_independent_sets_grow_as_one_minus_the_power(k: float) -> None:
    rng = np.random.default_rng(0)
    needed = sparse.csr_matrix((rng.random((4000, 300)) < k).astype(int))
    grown = union_growth(needed, np.zeros(4000, int), SIZES, draws=300, seed=1)
    expected = [1 - (1 - k) ** size for size in SIZES]
    np.testing.assert_allclose(grown, expected, atol=0.01)
    np.testing.assert_allclose(independent_union(np.full(300, k), SIZES), expected, atol=1e-12)


def test_independence_keeps_the_rates_of_hot_neurons() -> None:
    assert independent_union(np.array([1.0, 0.0, 0.5]), [1, 2]).tolist() == pytest.approx([0.5, 1.75 / 3])


def test_batches_stay_within_their_group() -> None:
    """Two groups with disjoint sets: a group needs half of what a mixed batch needs."""
    needed = np.zeros((100, 20), dtype=int)
    needed[:50, :10] = needed[50:, 10:] = 1
    groups = np.repeat([0, 1], 50)
    by_group = union_growth(sparse.csr_matrix(needed), groups, SIZES, draws=40, seed=0)
    mixed = union_growth(sparse.csr_matrix(needed), np.zeros(100, int), SIZES, draws=400, seed=0)
    assert by_group.tolist() == [0.5] * 5
    expected = [0.5, *(1 - np.prod((50 - np.arange(b)) / (100 - np.arange(b))) for b in SIZES[1:])]
    np.testing.assert_allclose(mixed, expected, atol=0.04)


def test_groups_too_small_for_a_batch_have_no_union() -> None:
    needed = sparse.csr_matrix(np.ones((6, 4), dtype=int))
    grown = union_growth(needed, np.array([0, 0, 0, 1, 1, 1]), (2, 3, 4), draws=5, seed=0)
    assert grown[:2].tolist() == [1.0, 1.0]
    assert np.isnan(grown[2])


def losses(draws: int = 19, documents: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random partitions around 3 nats per document, the bound at 1; documents differ in difficulty."""
    rng = np.random.default_rng(seed)
    difficulty = rng.gamma(5.0, 0.2, documents)
    return 3 * difficulty + rng.normal(0, 0.2, (draws, documents)), difficulty


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_share_recovered(share: float) -> None:
    random_RD, bound_D = losses()
    structured_D = random_RD.mean(0) - share * (random_RD.mean(0) - bound_D)
    recovered = recovered_share(random_RD, structured_D, bound_D, resamples=400, seed=0)
    assert recovered is not None
    assert recovered.eta == pytest.approx(share)
    assert recovered.low <= share + 1e-9
    assert recovered.high >= share - 1e-9
    assert (recovered.p == 1 / 20) == (share > 0)
    assert np.abs(recovered.null_R).max() < 0.05


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(60):
        random_RD, bound_D = losses(documents=60, seed=seed)
        noise = np.random.default_rng(1000 + seed).normal(0, 0.5, 60)
        structured_D = random_RD.mean(0) - 0.5 * (random_RD.mean(0) - bound_D) + noise
        recovered = recovered_share(random_RD, structured_D, bound_D, resamples=300, seed=seed)
        assert recovered is not None
        inside += recovered.low <= 0.5 <= recovered.high
    assert 51 <= inside <= 60


def test_no_share_of_a_gap_that_is_noise() -> None:
    rng = np.random.default_rng(0)
    same = rng.normal(3, 1, (5, 50))
    assert recovered_share(same, same[0], rng.normal(3, 1, 50), resamples=200, seed=0) is None
    with pytest.raises(ValueError, match="two random partitions"):
        recovered_share(same[:1], same[0], same[1], resamples=20, seed=0)
    with pytest.raises(ValueError, match="same documents"):
        recovered_share(same, same[0], same[1, :-1], resamples=20, seed=0)


def test_every_other_task_comes_equally_often_and_never_the_own() -> None:
    task_D = np.repeat([0, 1, 2, 3], [30, 9, 3, 30])
    other_D = other_tasks(task_D, 4, seed=0)
    assert not (other_D == task_D).any()
    for task, each in ((0, 10), (1, 3), (2, 1), (3, 10)):
        assert np.bincount(other_D[task_D == task], minlength=4).tolist() == [
            0 if at == task else each for at in range(4)
        ]
    with pytest.raises(ValueError, match="two tasks"):
        other_tasks(np.zeros(4, int), 1, seed=0)


def test_means_weigh_documents_by_their_tokens() -> None:
    loss = np.array([[1.0, 2.0, 9.0]])
    assert mean_by_task(loss, np.array([1, 5, 3]), np.array([0, 0, 1]), 2).tolist() == [[0.5, 3.0]]
    with pytest.raises(ValueError, match="at least one token"):
        mean_by_task(loss, np.array([1, 5, 0]), np.array([0, 0, 1]), 2)
    low, high = mean_interval(np.full(20, 2.0), np.full(20, 4), resamples=50, seed=0)
    assert (low, high) == (0.5, 0.5)


def test_a_single_document_has_no_interval() -> None:
    """Drawn anew it is always the same."""
    assert np.isnan(mean_interval(np.array([2.0, 0.0]), np.array([4, 0]), resamples=50, seed=0)).all()
    recovered = recovered_share(
        np.array([[4.0], [5.0], [6.0]]), np.array([3.0]), np.array([1.0]), resamples=50, seed=0
    )
    assert recovered is not None
    assert recovered.eta == pytest.approx(0.5)
    assert np.isnan([recovered.low, recovered.high]).all()


def test_permutation_p_counts_the_observed_in() -> None:
    assert permutation_p(2.0, [1.0, 3.0, 2.0]) == 3 / 4
    assert permutation_p(5.0, np.zeros(19)) == 1 / 20
