import numpy as np
import pytest
from scipy import sparse

from saescope.stats.matched import most_frequent, thinned

COUNTS = np.array([10, 0, 50, 25, 15])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, [2]), (0.75, [2, 3]), (0.76, [2, 3, 4]), (1.0, [2, 3, 4, 0])]
)
def test_the_fewest_latents_that_carry_a_share_of_the_firings(share, expected):
    assert most_frequent(COUNTS, share).tolist() == expected


def test_splitting_and_repeating_latents_leave_the_most_frequent_what_they_were():
    counts = np.random.default_rng(0).geometric(0.001, 400) * 4
    before = set(most_frequent(counts).tolist())
    for copies in (np.repeat(counts // 4, 4), np.repeat(counts, 4)):
        assert {copy // 4 for copy in most_frequent(copies).tolist()} == before


def test_no_firings_no_latents():
    assert most_frequent(np.zeros(3, dtype=int)).size == most_frequent(np.zeros(0, dtype=int)).size == 0
    with pytest.raises(ValueError, match="share"):
        most_frequent(COUNTS, 0.0)


def test_thinning_takes_so_many_firings_of_those_that_are_there():
    dense = np.random.default_rng(0).random((500, 30)) < 0.2
    by_latent = sparse.csc_matrix(dense)
    latents = np.array([7, 3, 29])
    result = thinned(by_latent, latents, 40, np.random.default_rng(1)).toarray()
    assert (result.sum(0) == 40).all()
    assert (result <= dense[:, latents]).all()
    everything = int(dense[:, 7].sum())
    whole = thinned(by_latent, np.array([7]), everything, np.random.default_rng(1)).toarray()
    assert (whole[:, 0] == dense[:, 7]).all()
    with pytest.raises(ValueError, match="fewer than the 499 to draw"):
        thinned(by_latent, latents, 499, np.random.default_rng(1))


def test_every_firing_is_equally_likely_to_stay():
    by_latent = sparse.csc_matrix(np.ones((20, 1)))
    rng = np.random.default_rng(0)
    stays = sum(thinned(by_latent, np.array([0]), 5, rng).toarray() for _ in range(4000)) / 4000
    np.testing.assert_allclose(stays, 0.25, atol=0.03)


def test_without_draws_there_is_nothing_and_a_reason():
    from scipy import sparse

    from saescope.stats.matched_summary import summarise_matched

    ones = sparse.csr_matrix(np.ones((4, 3), dtype=np.int32))
    documents = np.array([0, 1])
    summary = summarise_matched(
        ones, ones[:2], documents + 2, documents, 2, np.ones(3, bool), firings=1, draws=0
    )
    assert (summary.si, summary.q) == (None, ())
    assert "matched_draws=0" in summary.q_lacks
    assert "matched_draws=0" in summary.si_lacks
