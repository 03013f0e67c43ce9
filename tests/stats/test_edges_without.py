"""Edges without each group of units equal those of the units that are left, validated on their own."""

import numpy as np
import pytest
from scipy import sparse

from saescope.stats import row_blocks, scratch
from saescope.stats.coactivation import collapse, validated_edges
from saescope.stats.edges_without import edges_without_each
from saescope.stats.modularity_replicates import modularity_replicates


def modules(seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Firings [3000, 90] of latents in six modules that documents of 50 tokens prefer; their groups."""
    rng = np.random.default_rng(seed)
    module_N = np.repeat(rng.integers(6, size=60), 50)
    rate_NF = 0.02 + 0.3 * (module_N[:, None] == rng.integers(6, size=90))
    return sparse.csr_matrix(rng.random(rate_NF.shape) < rate_NF), np.repeat(rng.integers(-1, 7, size=60), 50)


def assert_equal(edges, expected) -> None:
    assert len(expected) > 100
    for column in ("source", "target", "joint"):
        np.testing.assert_array_equal(getattr(edges, column), getattr(expected, column))
    np.testing.assert_allclose(edges.pmi, expected.pmi, rtol=1e-12)
    np.testing.assert_allclose(edges.rank_tail, expected.rank_tail, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("entries", [12_000_000, 90 * 32])
@pytest.mark.parametrize("large", [False, True])
def test_they_are_those_of_the_units_that_are_left(monkeypatch, entries: int, large: bool) -> None:
    active, group_N = modules()
    expected = [validated_edges(active[group_N != group]) for group in range(7)]
    monkeypatch.setattr("saescope.stats.coactivation.BLOCK_ENTRIES", entries)
    if large:
        monkeypatch.setattr(scratch, "LARGE_BYTES", 1000)
        monkeypatch.setattr(row_blocks, "BLOCK_ENTRIES", 500)
    for num_edges in (0, 2_000_000):  # all groups in one pass, or two in each
        for edges, one in zip(
            edges_without_each(active, group_N, num_edges=num_edges), expected, strict=True
        ):
            assert_equal(edges, one)


def test_an_empty_group_leaves_the_whole_graph() -> None:
    active, group_N = modules()
    without = list(edges_without_each(active, np.where(group_N == 2, 3, group_N)))
    assert_equal(without[2], validated_edges(active))


@pytest.mark.parametrize("shape", [(0, 0), (5, 0), (5, 1), (0, 4)])
def test_nothing_active_gives_no_edges(shape: tuple[int, int]) -> None:
    without = edges_without_each(sparse.csr_matrix(shape, dtype=bool), np.arange(shape[0]) % 2)
    assert [len(edges) for edges in without] == [0] * min(2, shape[0])


def test_groups_must_fit() -> None:
    with pytest.raises(ValueError, match="expected 3000 groups"):
        list(edges_without_each(modules()[0], np.zeros(5, int)))


def test_replicates_take_units_as_one_token() -> None:
    active, group_N = modules()
    unit_N = np.arange(3000) // 5
    community_F = np.arange(90) % 6
    settings = {"min_joint": 5, "fdr": 0.01, "resolution": 1.0}
    everything = np.ones(90, bool)
    by_unit = modularity_replicates(active, everything, community_F, group_N, unit_N=unit_N, **settings)
    units = collapse(active, unit_N)
    np.testing.assert_allclose(
        by_unit, modularity_replicates(units, everything, community_F, group_N[::5], **settings)
    )
    with pytest.raises(ValueError, match="two groups"):
        modularity_replicates(
            active, everything, community_F, group_N, unit_N=np.arange(3000) // 70, **settings
        )
