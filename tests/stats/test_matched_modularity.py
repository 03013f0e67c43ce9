import numpy as np
import pytest
from scipy import sparse

from saescope.stats.matched_modularity import matched_levels, strongest_pairs
from saescope.stats.synthetic import noise, planted

TOKENS = 30_000


def level(active, latents=100, draws=30, seed=0):
    """The one level of 100 (or so) latents at a chance joint count of 0.2."""
    levels, lacks = matched_levels(
        active,
        np.ones(active.shape[1], dtype=bool),
        graphs=[(latents, latents // 20)],
        chance_joints=[0.2],
        draws=draws,
        seed=seed,
    )
    assert (len(levels), lacks) == (1, "")
    return levels[0]


def split(active, copies, seed=0):
    """Every firing goes to one of the copies of its latent at random."""
    coo = active.tocoo()
    copy = np.random.default_rng(seed).integers(copies, size=coo.nnz)
    ones = np.ones(coo.nnz, dtype=np.int32)
    return sparse.csr_matrix(
        (ones, (coo.row, coo.col * copies + copy)), shape=(active.shape[0], active.shape[1] * copies)
    )


def with_duplicates(active, seed=0):
    """A tenth of the latents get a duplicate with 80 % of their firings."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(active.shape[1], active.shape[1] // 10, replace=False)
    duplicates = sparse.coo_matrix(active[:, chosen])
    stays = rng.random(duplicates.nnz) < 0.8
    ones = np.ones(int(stays.sum()), dtype=np.int32)
    copies = sparse.csr_matrix((ones, (duplicates.row[stays], duplicates.col[stays])), shape=duplicates.shape)
    return sparse.hstack([active, copies]).tocsr()


def two_blocks():
    """Two groups of ten latents that always fire together, 20 of 200 tokens; rare latents besides."""
    dense = np.zeros((200, 32), dtype=int)
    dense[:20, :10] = 1
    dense[20:40, 10:20] = 1
    dense[100:111, 20:] = 1
    return sparse.csr_matrix(dense)


def test_pairs_by_hand():
    active = np.zeros((6, 4), dtype=int)
    for column, tokens in enumerate([[0, 1], [0, 1], [1, 2], [3, 4]]):
        active[tokens, column] = 1
    rng = np.random.default_rng(0)
    # joint counts 2, 1, 1 and 0; by chance 2 * 2 / 6
    source, target, weight = strongest_pairs(sparse.csr_matrix(active), 2, 3, rng)
    assert (source[0], target[0]) == (0, 1)
    assert set(zip(source[1:].tolist(), target[1:].tolist(), strict=True)) == {(0, 2), (1, 2)}
    np.testing.assert_allclose(weight, np.log([3, 1.5, 1.5]))
    assert strongest_pairs(sparse.csr_matrix(active), 2, 4, rng) is None


def test_ties_are_broken_at_random():
    active = sparse.csr_matrix(np.eye(4, dtype=int)[:, [0, 0, 0, 1]])
    first = {
        tuple(int(end[0]) for end in strongest_pairs(active, 1, 1, np.random.default_rng(seed))[:2])
        for seed in range(30)
    }
    assert first == {(0, 1), (0, 2), (1, 2)}


def test_two_cliques_by_hand():
    levels, lacks = matched_levels(
        two_blocks(), np.ones(32, dtype=bool), graphs=[(20, 9)], chance_joints=[2.0], draws=3
    )
    (two,) = levels
    # all 90 pairs inside are edges of one weight: Q = 2 (1/2 - 1/4)
    assert (lacks, two.latents, two.degree, two.firings) == ("", 20, 9, 20)
    assert two.q == pytest.approx(0.5)
    assert two.q_se == pytest.approx(0.0, abs=1e-9)
    assert two.q_null_mean < 0.35


def test_noise_is_as_modular_as_its_rewirings():
    for num_latents in (512, 2048):
        result = level(noise(num_latents, 16, TOKENS, seed=0))
        assert abs(result.q - result.q_null_mean) < 0.02


def test_planted_modules_have_the_same_q_at_three_widths():
    levels = [level(planted(width, 16, TOKENS, boost=4, seed=0).active_NF) for width in (512, 1024, 4096)]
    q = [one.q for one in levels]
    assert max(q) - min(q) < 0.04
    assert all(one.q - one.q_null_mean > 0.2 for one in levels)


@pytest.mark.parametrize("k", [8, 32])
def test_k_of_an_unchanged_structure_leaves_q(k):
    before, after = (level(planted(2048, k, TOKENS, boost=4, seed=0).active_NF, 200) for k in (16, k))
    assert abs(after.q - before.q) < 0.02


@pytest.fixture(scope="module")
def base():
    active = planted(1024, 16, TOKENS, boost=4, seed=1).active_NF
    return active, level(active, 200)


CHANGES = {
    "two copies": lambda active: split(active, 2),
    "four copies": lambda active: split(active, 4),
    "half of the tokens": lambda active: active[: TOKENS // 2],
    "a quarter": lambda active: active[: TOKENS // 4],
    "an eighth": lambda active: active[: TOKENS // 8],
    "every latent twice": lambda active: sparse.hstack([active, active]).tocsr(),
    "duplicates": with_duplicates,
}


@pytest.mark.parametrize("change", CHANGES)
def test_splitting_halving_and_duplicating_leave_q(base, change):
    active, before = base
    after = level(CHANGES[change](active), 200)
    assert abs(after.q - before.q) < 0.02
    assert abs((after.q - after.q_null_mean) - (before.q - before.q_null_mean)) < 0.02


def test_levels_are_those_the_data_allow():
    active = planted(1024, 16, TOKENS, boost=4, seed=0).active_NF
    levels, lacks = matched_levels(active, np.ones(1024, dtype=bool), draws=1)
    assert lacks == ""
    # 0.2, 0.4, 0.8 and 1.6 joint firings by chance; fewer than 400 latents carry 75 % of firings
    expected = [(*graph, n) for graph in ((100, 5), (200, 10)) for n in (77, 110, 155, 219)]
    assert [(one.latents, one.degree, one.firings) for one in levels] == expected
    assert [one.q_se for one in levels] == [0.0] * 8


@pytest.mark.parametrize(
    ("active", "supported", "reason"),
    [
        (two_blocks(), True, "the latents that carry 75 % of its firings are 20, fewer than 100"),
        (noise(512, 16, 30_000, seed=0), False, "the latents that carry 75 % of its firings are 0, fewer"),
        (noise(2048, 2, 1000, seed=0), True, "of its firings has 1 firings, fewer than 14"),
        (sparse.csr_matrix(np.repeat(np.eye(200, dtype=int), 50, 0)), True, "too few pairs of latents fire"),
    ],
)
def test_what_is_missing_is_said(active, supported, reason):
    levels, lacks = matched_levels(active, np.full(active.shape[1], supported))
    assert levels == []
    assert reason in lacks
