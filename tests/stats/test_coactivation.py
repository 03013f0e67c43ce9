import numpy as np
import pytest
from scipy import sparse, stats

from saescope.stats import (
    block_permutation,
    collapse,
    curveball,
    null_edge_count,
    row_blocks,
    scratch,
    validated_edges,
)
from saescope.stats.coactivation import EDGES_AT_ONCE, binary, edges_without_each
from saescope.stats.count_tails import NEAR_SD, NEAR_TAIL, hypergeometric_tail
from saescope.stats.edge_nulls import run_subset
from saescope.stats.synthetic import noise, planted


def test_tail_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 400, 400), rng.integers(1, 400, 400)
    c = np.clip(rng.poisson(a * b / 1000) + rng.integers(-5, 25, 400), 0, None)
    exact = stats.hypergeom.sf(c - 1, 1000, a, b)
    np.testing.assert_allclose(hypergeometric_tail(c, a, b, 1000), exact, rtol=1e-9, atol=1e-13)
    cut = hypergeometric_tail(c, a, b, 1000, ceiling=0.01)
    np.testing.assert_allclose(cut[exact <= 0.01], exact[exact <= 0.01], rtol=1e-9)
    assert (cut[exact > 0.0100001] > 0.01).all()


def test_tail_edges() -> None:
    c, a, b = np.array([0, 3, 4, 5, 8]), np.array([3, 3, 3, 8, 8]), np.array([3, 3, 3, 7, 8])
    exact = stats.hypergeom.sf(c - 1, 10, a, b)
    np.testing.assert_allclose(hypergeometric_tail(c, a, b, 10), exact, atol=1e-12)
    far = hypergeometric_tail(np.array([50]), np.array([50]), np.array([50]), 20_000)
    assert 0 < far[0] < 1e-100


def test_counts_near_the_mean_are_above_the_ceiling() -> None:
    """What ``NEAR_SD`` leaves out is certain: everything within it has a tail above ``NEAR_TAIL``."""
    least = 1.0
    for n in (8, 30, 100, 1000, 100_000):
        sizes = np.unique(
            np.concatenate([np.geomspace(1, n - 1, 40), n - np.geomspace(1, n - 1, 40)]).astype(int)
        )
        a, b = (x.ravel() for x in np.meshgrid(sizes, sizes))
        mean = a * b / n
        variance = mean * (1 - a / n) * (n - b) / (n - 1)
        for c in (np.floor(mean + NEAR_SD * np.sqrt(variance)), np.ceil(mean)):
            here = (c > mean) & (c <= mean + NEAR_SD * np.sqrt(variance)) & (c <= np.minimum(a, b))
            least = min(least, stats.hypergeom.sf(c[here] - 1, n, a[here], b[here]).min(initial=1.0))
            cut = hypergeometric_tail(c[here], a[here], b[here], n, ceiling=0.01)
            assert (cut == 1).all()
    assert NEAR_TAIL < least < 0.03
    n, p = np.arange(1, 400)[:, None], np.linspace(0.01, 0.99, 99)
    c = np.minimum(np.floor(n * p + NEAR_SD * np.sqrt(n * p * (1 - p))), n)
    assert stats.binom.sf(c - 1, n, p).min() > NEAR_TAIL


def dense_edges(x: np.ndarray, min_joint: int, fdr: float) -> set[tuple[int, int]]:
    n, s = x.shape
    joint, count = x.T @ x, x.sum(0)
    pairs = [(i, j) for i in range(s) for j in range(i + 1, s)]
    p = np.array([stats.hypergeom.sf(joint[i, j] - 1, n, count[i], count[j]) for i, j in pairs])
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= fdr * np.arange(1, len(p) + 1) / len(p))
    chosen = order[: passed.max() + 1] if passed.size else []
    good = {pairs[i] for i in chosen}
    return {(i, j) for i, j in good if joint[i, j] >= min_joint and joint[i, j] * n > count[i] * count[j]}


@pytest.mark.parametrize("block", [None, 1, 3, 7])
def test_edges_agree_with_the_definition(block: int | None) -> None:
    data = planted(60, 6, 6000, boost=2.5, seed=3)
    x = np.asarray(data.active_NF.todense())
    edges = validated_edges(data.active_NF, block=block)
    assert set(zip(edges.source.tolist(), edges.target.tolist(), strict=True)) == dense_edges(x, 5, 0.01)
    assert len(edges) > 50
    assert (edges.source < edges.target).all()
    assert (np.diff(edges.source * 60 + edges.target) > 0).all()
    joint = x.T @ x
    np.testing.assert_array_equal(edges.joint, joint[edges.source, edges.target])
    count = x.sum(0)
    pmi = np.log(edges.joint * 6000 / (count[edges.source] * count[edges.target]))
    np.testing.assert_allclose(edges.pmi, pmi)


def test_an_edge_needs_min_joint_and_more_than_chance() -> None:
    x = np.zeros((10_000, 2), dtype=np.int32)
    x[:5] = 1
    assert len(validated_edges(sparse.csr_matrix(x), min_joint=5)) == 1
    assert len(validated_edges(sparse.csr_matrix(x), min_joint=6)) == 0
    # 24 joint tokens where chance gives 25 (p 0.73), then 26
    for joint, edges in ((24, 0), (26, 1)):
        x = np.zeros((100, 2), dtype=np.int32)
        x[:50, 0] = x[50 - joint : 100 - joint, 1] = 1
        assert len(validated_edges(sparse.csr_matrix(x), fdr=0.99)) == edges


def test_task_mix_alone_gives_no_edges_within_tasks() -> None:
    data = planted(256, 16, 8000, boost=2.0, seed=1)
    plain = validated_edges(data.active_NF)
    within = validated_edges(data.active_NF, stratum_N=data.task_N)
    assert len(plain) > 500
    assert len(within) <= 2


def test_one_large_stratum_is_nearly_the_plain_rule() -> None:
    data = planted(128, 8, 5000, boost=2.0, seed=2)
    plain = validated_edges(data.active_NF)
    one_stratum = validated_edges(data.active_NF, stratum_N=np.arange(5000) == 0)
    names = [set(zip(e.source.tolist(), e.target.tolist(), strict=True)) for e in (plain, one_stratum)]
    assert len(names[0] & names[1]) >= 0.97 * len(names[0] | names[1])


def test_permuting_latents_permutes_edges() -> None:
    data = planted(80, 6, 6000, boost=2.5, seed=4)
    order = np.random.default_rng(0).permutation(80)
    first, second = validated_edges(data.active_NF), validated_edges(data.active_NF[:, order])
    renamed = {
        tuple(sorted((int(order[i]), int(order[j]))))
        for i, j in zip(second.source, second.target, strict=True)
    }
    assert renamed == set(zip(first.source.tolist(), first.target.tolist(), strict=True))
    assert len(first) > 50


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (5, 1), (5, 3)])
def test_nothing_active_gives_no_edges(shape: tuple[int, int]) -> None:
    assert len(validated_edges(sparse.csr_matrix(shape, dtype=bool))) == 0


def test_bad_arguments_are_refused() -> None:
    active = sparse.csr_matrix(np.eye(3, dtype=bool))
    with pytest.raises(ValueError, match="fdr"):
        validated_edges(active, fdr=0.0)
    with pytest.raises(ValueError, match="min_joint"):
        validated_edges(active, min_joint=0)
    with pytest.raises(ValueError, match="labels"):
        validated_edges(active, stratum_N=np.zeros(2, int))
    with pytest.raises(ValueError, match="unit"):
        collapse(active, np.zeros(2, int))
    with pytest.raises(ValueError, match="block"):
        block_permutation(active, block=0, seed=0)


def test_collapse_is_any_firing() -> None:
    active = sparse.csr_matrix(np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool))
    assert collapse(active, np.array([7, 7, 2, 2])).toarray().tolist() == [[0, 1], [1, 1]]
    valued = sparse.csr_matrix(np.array([[0.3, 0.0], [0.0, 2.5]]))
    assert binary(valued).toarray().tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("tokens", [500, 501])
def test_curveball_keeps_both_margins(tokens: int) -> None:
    active = planted(100, 9, tokens, boost=3.0, seed=0).active_NF
    shuffled = curveball(active, seed=1)
    np.testing.assert_array_equal(shuffled.sum(0), active.sum(0))
    np.testing.assert_array_equal(shuffled.sum(1), active.sum(1))
    assert shuffled.data.max() == 1
    overlap = shuffled.multiply(active).sum() / active.sum()
    assert overlap < 0.35
    assert (curveball(active, seed=1) != shuffled).nnz == 0
    assert (curveball(active, seed=2) != shuffled).nnz > 0


def test_curveball_is_uniform_on_a_tiny_case() -> None:
    # rows {0}, {1}, {2}: six matrices share the margins; each must be as likely
    active = sparse.csr_matrix(np.eye(3, dtype=bool))
    seen: dict[str, int] = {}
    for seed in range(1200):
        key = str(curveball(active, seed=seed).toarray().argmax(1).tolist())
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 6
    assert stats.chisquare(list(seen.values())).pvalue > 1e-4


@pytest.mark.parametrize("block", [1, 32, 33])
def test_block_permutation_keeps_counts_and_bursts(block: int) -> None:
    rng = np.random.default_rng(0)
    tokens = 1000
    active = sparse.csr_matrix(rng.random((tokens, 40)) < 0.1)
    shuffled = block_permutation(active, block=block, seed=0)
    np.testing.assert_array_equal(shuffled.sum(0), active.sum(0))
    whole = tokens // block * block
    before, after = active.toarray()[:whole], shuffled.toarray()[:whole] > 0
    for latent in range(0, 40, 7):
        blocks = [sorted(map(bytes, m[:, latent].reshape(-1, block))) for m in (before, after)]
        assert blocks[0] == blocks[1]
    np.testing.assert_array_equal(active.toarray()[whole:], shuffled.toarray()[whole:] > 0)
    assert (before != after).any(axis=0).all()


def test_real_structure_leaves_no_null_edges() -> None:
    data = planted(512, 24, 8000, boost=3.0, seed=0)
    assert len(validated_edges(data.active_NF)) > 3000
    by_curveball, by_block = null_edge_count(data.active_NF, null_tokens=6000, seed=0)
    assert max(by_curveball, by_block) <= 2


def test_too_few_passes_leave_structure() -> None:  # the null does notice what is not shuffled
    data = planted(256, 16, 6000, boost=3.0, seed=0)
    assert len(validated_edges(curveball(data.active_NF, passes=0, seed=0))) > 500
    assert len(validated_edges(curveball(data.active_NF, passes=1, seed=0))) > 100


def test_run_subset_takes_whole_runs_from_end_to_end() -> None:
    assert run_subset(100, 200).tolist() == list(range(100))
    chosen = run_subset(10_000, 2_600, run=256)
    assert chosen.size == 2560
    assert np.unique(chosen).size == 2560
    assert chosen[0] == 0
    assert chosen[-1] == 9_999
    assert (np.diff(chosen) == 1).sum() >= 2560 - 10


@pytest.mark.parametrize("num_latents", [1024, pytest.param(4096, marks=pytest.mark.slow)])
def test_noise_has_no_edges(num_latents: int) -> None:
    assert len(validated_edges(noise(num_latents, 32, 20_000, seed=num_latents))) <= 2


@pytest.mark.parametrize("k", [8, 32])
def test_fixed_k_offset(k: int) -> None:  # exchangeable k-of-F latents, PMI_0 = ln[(k-1)F/(k(F-1))]
    f, n = 200, 40_000
    rng = np.random.default_rng(k)
    columns = np.argpartition(rng.random((n, f), dtype=np.float32), k, axis=1)[:, :k]
    active = sparse.csr_matrix((np.ones(n * k), columns.ravel(), np.arange(0, n * k + 1, k)), shape=(n, f))
    joint = (active.T @ active).toarray()[np.triu_indices(f, 1)]
    count = joint.mean() * n / (n * k / f) ** 2
    assert np.log(count) == pytest.approx(np.log((k - 1) * f / (k * (f - 1))), abs=1e-6)
    assert len(validated_edges(active)) <= 2


@pytest.mark.parametrize("limits", ["in memory", "in files"])
def test_edges_without_each_group_are_those_of_the_other_units(limits, monkeypatch):
    data = planted(300, 12, 4000, boost=2.0, seed=0)
    group_N = np.random.default_rng(0).integers(-1, 3, size=4000)
    expected = [validated_edges(data.active_NF[group_N != group]) for group in range(3)]
    if limits == "in files":
        monkeypatch.setattr(scratch, "LARGE_BYTES", 100)
        monkeypatch.setattr(row_blocks, "BLOCK_ENTRIES", 1000)
    for num_edges in (0, EDGES_AT_ONCE):  # all groups in one pass, or each in its own
        without = list(edges_without_each(data.active_NF, group_N, block=40, num_edges=num_edges))
        assert len(without) == 3
        for edges, other in zip(without, expected, strict=True):
            assert len(other) > 100
            for name in ("source", "target", "joint"):
                np.testing.assert_array_equal(getattr(edges, name), getattr(other, name))
            np.testing.assert_allclose(edges.pmi, other.pmi, rtol=1e-12)
            np.testing.assert_allclose(edges.rank_tail, other.rank_tail, rtol=1e-9)
    assert not list(edges_without_each(data.active_NF, np.full(4000, -1)))
    with pytest.raises(ValueError, match="expected 4000 groups"):
        next(edges_without_each(data.active_NF, group_N[:-1]))
