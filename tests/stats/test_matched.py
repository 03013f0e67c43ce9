import numpy as np
import pytest
from scipy.stats import multivariate_hypergeom

from saescope.stats.matched import matched_modularity, matched_specialization, thin
from saescope.stats.specialization import naive_specialization, specialization

TOKENS = np.array([20_000, 30_000, 25_000, 40_000, 10_000, 25_000])


def latents(number: int, firings: int, boost: float, seed: int) -> np.ndarray:
    """Firings on each task; a latent fires exp(boost) times as often on the task it belongs to."""
    rng = np.random.default_rng(seed)
    rate = TOKENS * np.exp(boost * (rng.integers(6, size=number)[:, None] == np.arange(6)))
    return rng.multinomial(firings, rate / rate.sum(1, keepdims=True))


def split(counts: np.ndarray, copies: int, seed: int) -> np.ndarray:
    """Every firing goes to one of the copies at random: more latents, no more specialisation."""
    rng = np.random.default_rng(seed)
    return np.vstack(rng.multinomial(counts, np.full(copies, 1 / copies)).transpose(2, 0, 1))


def test_thinning_keeps_the_number_of_firings_and_takes_only_what_is_there():
    counts = latents(300, 400, 1.0, 0)
    thinned = thin(counts, 50, np.random.default_rng(1))
    assert (thinned.sum(1) == 50).all()
    assert ((thinned >= 0) & (thinned <= counts)).all()
    assert (thin(counts, 400, np.random.default_rng(1)) == counts).all()


def test_thinning_is_multivariate_hypergeometric():
    colours = np.array([7, 11, 4])
    draws = thin(np.tile(colours, (40_000, 1)), 8, np.random.default_rng(0))
    law = multivariate_hypergeom(colours, 8)
    np.testing.assert_allclose(draws.mean(0), law.mean(), atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T), law.cov(), atol=0.03)


def test_thinning_more_than_there_is_is_refused():
    with pytest.raises(ValueError, match="fewer than the 5 to draw"):
        thin(np.array([[2, 2]]), 5, np.random.default_rng(0))


@pytest.mark.parametrize("boost", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("copies", [4, 8])
def test_splitting_latents_raises_naive_si_but_not_matched_si(boost, copies):
    narrow = latents(800, 800, boost, seed=3)
    wide = split(narrow, copies, seed=4)
    wide = wide[wide.sum(1) >= 50]
    naive = [float(np.mean(naive_specialization(counts))) for counts in (narrow, wide)]
    matched = [matched_specialization(counts, TOKENS, firings=50, seed=5) for counts in (narrow, wide)]
    assert naive[1] > naive[0] + 0.004
    assert abs(matched[1] - matched[0]) < 0.0025


def test_more_specialisation_shows_at_matched_counts():
    """The wider SAE is more specialised, and fires less often."""
    narrow = latents(800, 800, 0.8, seed=6)
    wide = split(latents(800, 800, 1.1, seed=7), 4, seed=8)
    before, after = (matched_specialization(counts, TOKENS, firings=50) for counts in (narrow, wide))
    truth = [float(specialization(latents(800, 10**6, boost, 9), TOKENS).mean()) for boost in (0.8, 1.1)]
    assert truth[1] > truth[0] + 0.01
    assert after > before + 0.01


def test_matched_si_leaves_out_rare_latents_and_is_none_without_any():
    counts = latents(50, 60, 1.0, 0)
    rare = latents(50, 49, 5.0, 1)
    both = np.vstack([counts, rare])
    assert matched_specialization(both, TOKENS, firings=50) == matched_specialization(
        counts, TOKENS, firings=50
    )
    assert matched_specialization(rare, TOKENS, firings=50) is None


def blocks(sizes: list[int], seed: int, inside: float = 0.5, outside: float = 0.05):
    """Edges of a planted-partition graph over ids that have gaps."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    source, target = np.triu_indices(block.size, 1)
    edge = rng.random(source.size) < np.where(block[source] == block[target], inside, outside)
    return 3 * source[edge] + 1, 3 * target[edge] + 1, np.ones(int(edge.sum()))


def test_matched_q_of_the_whole_graph_is_its_q():
    source, target = np.array([0, 1, 0, 3, 4, 3, 2]), np.array([1, 2, 2, 4, 5, 5, 3])
    matched = matched_modularity(source, target, np.ones(7), latents=6, draws=3)
    # two triangles and a bridge: L = 3 + 3 of 7 inside, degree 7 of 14 on each side
    assert matched.mean == pytest.approx(6 / 7 - 2 * 0.25)
    assert (matched.sd, matched.latents) == (pytest.approx(0), 6)


def test_matched_q_separates_modular_from_uniform_graphs_of_any_size():
    small, large, flat = (
        matched_modularity(*graph, latents=60)
        for graph in (blocks([30] * 4, 0), blocks([60] * 4, 1), blocks([30] * 4, 2, 0.16, 0.16))
    )
    assert abs(small.mean - large.mean) < 3 * (small.sd + large.sd)
    assert flat.mean < small.mean - 0.1
    assert matched_modularity(*blocks([30] * 4, 0), latents=60).mean == small.mean


def test_matched_q_needs_enough_connected_latents():
    assert matched_modularity(*blocks([10] * 2, 0), latents=21) is None
