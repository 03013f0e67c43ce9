"""Rewired graphs: as few as settle the answer, the same on any number of threads, calibrated on noise."""

import networkx as nx
import numpy as np
import pytest

from saescope.stats.modularity import leiden, modularity, moved_modularity
from saescope.stats.rewired_null import (
    ENOUGH_REACHED,
    MOST_EDGES,
    MOST_REWIRINGS,
    SETTLED,
    rewired_null,
    sequential_p,
)
from saescope.stats.rewiring import rewire, rewirings


def edges_of(graph: nx.Graph, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source, target = np.array(graph.edges(), dtype=np.int64).T
    weight = np.random.default_rng(seed).exponential(size=source.size) + 0.2
    return np.minimum(source, target), np.maximum(source, target), weight


def by_chance(seed: int, nodes: int = 60, edges: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A graph with no more structure than its degrees, which differ much."""
    rng = np.random.default_rng(seed)
    chance = rng.pareto(2.5, nodes) + 0.5
    graph = nx.Graph()
    graph.add_nodes_from(range(nodes))
    while graph.number_of_edges() < edges:
        a, b = rng.choice(nodes, 2, replace=False, p=chance / chance.sum())
        graph.add_edge(int(a), int(b))
    return rewire(*edges_of(graph, seed), nodes, seed=seed)


def test_local_moving_finds_what_leiden_finds_in_part():
    graph = edges_of(nx.planted_partition_graph(4, 50, 0.3, 0.01, seed=0))
    of_leiden, of_moves = leiden(*graph, 200, seeds=[0]).modularity, moved_modularity(*graph, 200)
    assert 0.5 * of_leiden < of_moves <= of_leiden
    one_edge = np.array([0]), np.array([1]), np.array([2.0])
    assert moved_modularity(*one_edge, 3) == modularity(*one_edge, np.zeros(3, int)) == 0.0
    assert moved_modularity(*(some[:0] for some in one_edge), 3) == 0.0


def test_sequential_p_by_hand():
    assert sequential_p(np.array([False, True, False, True, True, False]), enough=3) == (3 / 5, 5)
    assert sequential_p(np.array([False, True, False, False, True, False]), enough=3) == (3 / 7, 6)
    assert sequential_p(np.zeros(99, bool)) == (1 / 100, 99)


def test_sequential_p_is_calibrated():
    rng = np.random.default_rng(0)
    p = np.array(
        [sequential_p(some[1:] >= some[0])[0] for some in rng.standard_normal((4000, MOST_REWIRINGS + 1))]
    )
    for level in (0.01, 0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level / 4000) + 0.01)


def test_a_graph_by_chance_is_not_modular_and_ends_early():
    """p is near uniform, and most graphs need no more than the fewest."""
    nulls = [rewired_null(by_chance(seed), 60, fewest=20, seeds=[0], seed=seed) for seed in range(60)]
    p = np.array([null.p for null in nulls])
    assert (p <= 0.05).sum() <= 8  # 3 expected
    assert 0.35 < p.mean() < 0.65
    assert np.median([null.draws for null in nulls]) < MOST_REWIRINGS
    assert min(null.draws for null in nulls) >= ENOUGH_REACHED


def test_planted_modules_are_far_beyond_their_degrees():
    graph = edges_of(nx.planted_partition_graph(4, 50, 0.3, 0.01, seed=0))
    null = rewired_null(graph, 200, fewest=20, seeds=[0, 1], seed=0)
    assert null.draws == MOST_REWIRINGS
    assert null.p == pytest.approx(1 / (MOST_REWIRINGS + 1))
    assert null.p < 0.01
    assert null.z is not None
    assert null.z > 20
    assert null.mean < 0.35 < leiden(*graph, 200, seeds=[0]).modularity


def test_the_edges_of_all_rewirings_are_bounded(monkeypatch):
    graph = edges_of(nx.planted_partition_graph(4, 50, 0.3, 0.01, seed=0))
    monkeypatch.setattr("saescope.stats.rewired_null.MOST_EDGES", 30 * graph[0].size)
    assert rewired_null(graph, 200, fewest=20, seeds=[0], seed=0).draws == 30
    assert rewired_null(graph, 200, fewest=45, seeds=[0], seed=0).draws == 45
    assert MOST_EDGES // 353_024 < 20  # a large graph gets the fewest


def test_no_more_are_partitioned_in_full_than_the_mean_needs(monkeypatch):
    graph = edges_of(nx.planted_partition_graph(4, 50, 0.3, 0.01, seed=0))
    runs: list[int] = []

    def counted(*args, **kwargs):
        runs.append(1)
        return leiden(*args, **kwargs)

    monkeypatch.setattr("saescope.stats.rewired_null.leiden", counted)
    in_doubt = rewired_null(graph, 200, fewest=20, seeds=[0], seed=0)
    assert in_doubt.sd / 5 > SETTLED
    assert len(runs) == 25  # one of each chain of four
    runs.clear()
    monkeypatch.setattr("saescope.stats.rewired_null.SETTLED", 1.0)
    settled = rewired_null(graph, 200, fewest=20, seeds=[0], seed=0)
    assert len(runs) == 5
    assert settled.p == in_doubt.p


def test_the_number_of_threads_changes_nothing(monkeypatch):
    graph, nulls = by_chance(3), []
    for threads in (1, 2, 5):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        nulls.append(rewired_null(graph, 60, fewest=50, seeds=[0, 1], seed=7))
    assert nulls[0] == nulls[1] == nulls[2]
    assert rewired_null(graph, 60, fewest=50, seeds=[0, 1], seed=8) != nulls[0]


def test_graphs_of_one_chain_are_as_good_as_independent():
    """Successive graphs of a chain: their modularities do not hang together."""
    graph = edges_of(nx.planted_partition_graph(4, 50, 0.2, 0.02, seed=0))
    chains = [
        [moved_modularity(*some, 200) for some in rewirings(*graph, 200, draws=4, seed=seed)]
        for seed in range(60)
    ]
    q = np.array(chains)
    first, later = q[:, :-1].ravel(), q[:, 1:].ravel()
    assert abs(np.corrcoef(first, later)[0, 1]) < 0.25  # standard error 0.075
    assert q[:, 0].mean() == pytest.approx(q[:, 3].mean(), abs=4 * q.std() / np.sqrt(30))
