from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from saescope.stats import (
    leiden,
    modularity,
    naive_modularity,
    rewire,
    specialization,
    summarise_modularity,
    supported,
    task_counts,
)
from saescope.stats.graph_metrics import ModularitySettings
from saescope.stats.modularity_summary import KEYS, ModularitySummary
from saescope.stats.rewired_null import MOST_EDGES
from saescope.stats.synthetic import Planted, noise, planted

Graph = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def arrays_of(graph: nx.Graph) -> Graph:
    ends = np.array([sorted(edge) for edge in graph.edges()], dtype=np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1], np.ones(len(ends)), graph.number_of_nodes()


def ring_of_cliques(number: int, size: int) -> nx.Graph:
    return nx.ring_of_cliques(number, size)


@pytest.mark.parametrize("number", [2, 6])
def test_disjoint_cliques(number: int) -> None:
    source, target, weight, nodes = arrays_of(nx.disjoint_union_all([nx.complete_graph(5)] * number))
    part = leiden(source, target, weight, nodes, seeds=range(3))
    assert part.modularity == pytest.approx(1 - 1 / number)
    assert part.seed_ari == 1.0
    assert np.bincount(part.labels_S).tolist() == [5] * number


@pytest.mark.parametrize(("number", "size", "q"), [(6, 5, 0.74242), (10, 10, 0.87826)])
def test_ring_of_cliques(number: int, size: int, q: float) -> None:
    source, target, weight, nodes = arrays_of(ring_of_cliques(number, size))
    assert modularity(source, target, weight, np.arange(nodes) // size) == pytest.approx(q, abs=1e-5)
    assert leiden(source, target, weight, nodes, seeds=range(3)).modularity == pytest.approx(q, abs=1e-5)


def test_resolution_limit_merges_cliques_and_a_higher_resolution_parts_them() -> None:
    source, target, weight, nodes = arrays_of(ring_of_cliques(30, 5))
    pairs = np.arange(nodes) // 10
    assert modularity(source, target, weight, pairs) == pytest.approx(0.88788, abs=1e-5)
    part = leiden(source, target, weight, nodes, seeds=range(5))
    assert part.modularity > 0.886
    assert part.labels_S.max() + 1 < 20
    assert leiden(source, target, weight, nodes, seeds=[0], resolution=5.0).labels_S.max() + 1 == 30


def test_karate_club() -> None:
    source, target, weight, nodes = arrays_of(nx.karate_club_graph())
    assert leiden(source, target, weight, nodes, seeds=range(50)).modularity == pytest.approx(
        0.41979, abs=1e-5
    )
    clubs = nx.get_node_attributes(nx.karate_club_graph(), "club").values()
    assert modularity(
        source, target, weight, np.array([c == "Officer" for c in clubs], int)
    ) == pytest.approx(0.35823, abs=1e-5)


@pytest.mark.parametrize(("degree", "q"), [(2, 0.813), (4, 0.555), (10, 0.312)])
def test_random_graphs_reach_the_reference_leiden(degree: int, q: float) -> None:  # values of igraph's Leiden
    source, target, weight, nodes = arrays_of(nx.fast_gnp_random_graph(1000, degree / 999, seed=1))
    assert leiden(source, target, weight, nodes, seeds=[0, 1]).modularity == pytest.approx(q, abs=0.02)


@pytest.mark.parametrize("resolution", [0.5, 1.0, 2.0])
def test_modularity_agrees_with_networkx(resolution: float) -> None:
    rng = np.random.default_rng(0)
    graph = nx.gnm_random_graph(40, 120, seed=0)
    source, target, _, _ = arrays_of(graph)
    weight, labels = rng.random(120) + 0.1, rng.integers(5, size=40)
    for s, t, w in zip(source, target, weight, strict=True):
        graph[int(s)][int(t)]["weight"] = w
    groups = [set(np.flatnonzero(labels == c).tolist()) for c in range(5)]
    expected = nx.community.modularity(graph, groups, weight="weight", resolution=resolution)
    assert modularity(source, target, weight, labels, resolution) == pytest.approx(expected)


def test_partition_is_reproducible_connected_and_leaves_isolated_nodes_out() -> None:
    graph = nx.fast_gnp_random_graph(300, 0.02, seed=3)
    source, target, weight, _ = arrays_of(graph)
    source, target = source + 5, target + 5  # nodes 0-4 have no edge
    first = leiden(source, target, weight, 305, seeds=[3, 4])
    again = leiden(source, target, weight, 305, seeds=[3, 4])
    np.testing.assert_array_equal(first.labels_per_seed, again.labels_per_seed)
    linked = np.isin(np.arange(305), np.r_[source, target])
    assert (first.labels_S[~linked] == -1).all()
    assert (first.labels_S[linked] >= 0).all()
    assert (np.diff(np.bincount(first.labels_S[linked])) <= 0).all()
    assert first.modularity == pytest.approx(modularity(source, target, weight, first.labels_S))
    for community in range(first.labels_S.max() + 1):
        members = np.flatnonzero(first.labels_S == community) - 5
        assert nx.is_connected(graph.subgraph(members.tolist()))
    empty = leiden(source[:0], target[:0], weight[:0], 4, seeds=[0])
    assert empty.labels_S.tolist() == [-1] * 4
    assert empty.modularity == 0.0
    with pytest.raises(ValueError, match="seed"):
        leiden(source, target, weight, 305, seeds=[])
    with pytest.raises(ValueError, match="positive"):
        leiden(source, target, -weight, 305, seeds=[0])


@pytest.mark.parametrize(("nodes", "probability"), [(60, 0.1), (60, 0.8), (9000, 0.0005)])
def test_rewiring_keeps_degrees_and_stays_simple(nodes: int, probability: float) -> None:
    source, target, _, _ = arrays_of(nx.fast_gnp_random_graph(nodes, probability, seed=1))
    weight = np.arange(source.size) + 1.0
    low, high, mixed = rewire(source, target, weight, nodes, seed=0)
    np.testing.assert_array_equal(
        np.bincount(np.r_[low, high], minlength=nodes), np.bincount(np.r_[source, target], minlength=nodes)
    )
    assert (low < high).all()
    assert np.unique(low * nodes + high).size == source.size
    np.testing.assert_array_equal(np.sort(mixed), weight)
    assert abs(np.corrcoef(mixed, weight)[0, 1]) < 0.5  # weights are shuffled
    shared = np.isin(low * nodes + high, source * nodes + target).mean()
    assert shared < probability + 0.1


def test_rewiring_ends_where_no_swap_is_possible() -> None:
    source, target, weight, nodes = arrays_of(nx.star_graph(6))
    low, high, _ = rewire(source, target, weight, nodes, seed=0)
    np.testing.assert_array_equal(np.sort(low * 7 + high), np.sort(source * 7 + target))


def test_rewiring_is_uniform_on_a_tiny_case() -> None:
    # degrees (1,1,1,1): three perfect matchings
    seen = np.zeros(4, int)
    for seed in range(600):
        low, high, _ = rewire(np.array([0, 2]), np.array([1, 3]), np.ones(2), 4, seed=seed)
        seen[high[low == 0][0]] += 1
    assert seen[0] == 0
    assert (seen[1:] > 140).all()


def test_rewiring_destroys_modules() -> None:
    source, target, weight, nodes = arrays_of(nx.planted_partition_graph(4, 50, 0.3, 0.01, seed=0))
    ours = leiden(source, target, weight, nodes, seeds=[0]).modularity
    low, high, mixed = rewire(source, target, weight, nodes, seed=0)
    assert ours > 0.6
    assert leiden(low, high, mixed, nodes, seeds=[0]).modularity < 0.35


def dense_naive(x: np.ndarray) -> float:
    """The naive definition, word for word, on a dense matrix."""
    b = x.astype(np.float64)
    n, f = b.shape
    p = b.mean(0)
    pmi = np.log((b.T @ b / n + 1e-9) / (np.outer(p, p) + 1e-9))
    np.fill_diagonal(pmi, 0)
    graph = nx.Graph()
    for place in np.argsort(-pmi.ravel(), kind="stable")[:200]:
        if pmi.ravel()[place] > 0:
            graph.add_edge(int(place // f), int(place % f), weight=pmi.ravel()[place])
    parts = nx.community.greedy_modularity_communities(graph, weight="weight")
    return float(nx.community.modularity(graph, parts, weight="weight"))


def test_naive_modularity_is_its_definition() -> None:
    data = planted(150, 8, 3000, boost=1.0, seed=0)
    assert naive_modularity(data.active_NF) == pytest.approx(dense_naive(data.active_NF.toarray()), abs=0.01)
    assert naive_modularity(sparse.csr_matrix((10, 4))) == 0.0
    assert naive_modularity(sparse.csr_matrix((10, 8193))) is None


def summary_of(
    active: sparse.csr_matrix, task: np.ndarray, unit_N: np.ndarray | None = None, **changed: object
) -> ModularitySummary:
    count = np.asarray(active.sum(0)).ravel()
    rate = task_counts(active, task, 6) / np.bincount(task, minlength=6)
    ok = supported(count, count)
    settings = replace(ModularitySettings(leiden_seeds=3, rewirings=5, null_tokens=4000), **changed)
    return summarise_modularity(active, task, 6, ok, rate.argmax(1), settings, unit_N=unit_N)


def finite_or_explained(result: ModularitySummary) -> None:
    assert set(result.metrics) == {f"q/{key}" for key in KEYS}
    for key, value in result.metrics.items():
        assert (value is None and key in result.notes) or np.isfinite(value)


def test_noise_is_no_graph_yet_naively_modular() -> None:  # at F=2048, k=32, N=20k
    result = summary_of(noise(2048, 32, 20_000, seed=0), np.arange(20_000) % 6)
    assert result.metrics["q/n_edges"] <= 2
    assert result.metrics["q/modularity"] == 0.0
    assert result.metrics["q/within_task"] == 0.0
    assert result.metrics["q/z"] is None
    assert result.metrics["q/naive"] >= 0.8
    assert (result.community_F == -1).all()
    finite_or_explained(result)


def check_planted(num_latents: int, data: Planted) -> None:
    result = summary_of(data.active_NF, data.task_N)
    linked = (result.community_F >= 0) & (data.module_F >= 0)
    assert linked.sum() > 100
    assert adjusted_rand_score(data.module_F[linked], result.community_F[linked]) >= 0.95
    m = result.metrics
    assert m["q/modularity"] == pytest.approx(0.83, abs=0.02)
    assert m["q/excess"] > 0.3
    assert m["q/p"] == pytest.approx(1 / (m["q/rewirings"] + 1))
    assert m["q/rewirings"] == min(100, MOST_EDGES // len(result.edges))
    assert m["q/null_edges"] <= 2
    assert m["q/n_communities"] in (6, 7, 8)
    assert m["q/task_partition"] == pytest.approx(0.83, abs=0.02)
    assert m["q/ami_task"] > 0.8  # the graph also links a few general latents
    assert m["q/within_task"] == 0.0  # the task explains all of it
    finite_or_explained(result)
    assert result.degree_F.sum() == 2 * len(result.edges)
    assert (result.degree_F[result.edges.source] > 0).all()
    assert result.community_F.size == num_latents


@pytest.mark.parametrize(
    "num_latents",
    [1024, pytest.param(2048, marks=pytest.mark.slow), pytest.param(4096, marks=pytest.mark.slow)],
)
def test_planted_modules_are_found_at_every_width(num_latents: int) -> None:
    check_planted(num_latents, planted(num_latents, 32, 20_000, boost=2.0, seed=num_latents))


def test_relabelling_tasks_changes_nothing() -> None:
    data = planted(256, 16, 6000, boost=2.0, seed=0)
    first = summary_of(data.active_NF, data.task_N, rewirings=0).metrics
    second = summary_of(data.active_NF, np.array([3, 5, 0, 1, 2, 4])[data.task_N], rewirings=0).metrics
    assert first["q/modularity"] > 0.7
    for key, value in first.items():
        assert second[key] == (None if value is None else pytest.approx(value)), key


def test_counting_per_unit() -> None:
    data = planted(128, 6, 6000, boost=2.0, seed=0)
    order = np.argsort(data.task_N, kind="stable")
    active, task = data.active_NF[order], data.task_N[order]
    unit = task * 10_000 + np.arange(6000) // 4
    per_unit = summary_of(active, task, unit_N=unit)
    assert per_unit.metrics["q/n_edges"] > 100
    assert per_unit.metrics["q/modularity"] > 0.6
    with pytest.raises(ValueError, match="spans"):
        summary_of(active, task, unit_N=np.zeros(6000, int))


def test_nothing_supported_and_switched_off_nulls_are_explained() -> None:
    empty = summary_of(sparse.csr_matrix((600, 30), dtype=np.int32), np.arange(600) % 6)
    finite_or_explained(empty)
    assert empty.metrics["q/n_edges"] == 0.0
    data = planted(128, 8, 4000, boost=2.0, seed=0)
    off = summary_of(data.active_NF, data.task_N, rewirings=0, null_tokens=0, naive=False, leiden_seeds=1)
    finite_or_explained(off)
    assert off.metrics["q/modularity"] > 0.5
    assert off.metrics["q/z"] is None


def test_si_and_q_see_different_things() -> None:
    # modules that cut across tasks: Q within task is as high as Q, SI stays near 0
    data = planted(256, 16, 8000, boost=2.0, seed=5)
    other = np.random.default_rng(0).integers(6, size=8000)
    result = summary_of(data.active_NF, other)
    assert result.metrics["q/within_task"] == pytest.approx(result.metrics["q/modularity"], abs=0.03)
    assert abs(result.metrics["q/ami_task"]) < 0.1
    assert np.nanmedian(specialization(task_counts(data.active_NF, other, 6), np.bincount(other))) < 0.02


@pytest.mark.parametrize("seed", [0, 87, 102])
def test_every_community_is_connected(seed):
    """Sparse random graphs on which local moves alone leave communities in pieces."""
    nodes, rng = 300, np.random.default_rng(seed)
    source, target = np.triu_indices(nodes, 1)
    shared = rng.random(source.size) < 0.006
    source, target = source[shared], target[shared]
    part = leiden(source, target, rng.exponential(size=source.size), nodes, seeds=[0])
    inside = part.labels_S[source] == part.labels_S[target]
    ends = source[inside], target[inside]
    graph = sparse.coo_matrix((np.ones(inside.sum()), ends), shape=(nodes, nodes))
    pieces = sparse.csgraph.connected_components(graph, directed=False)[1]
    linked = part.labels_S >= 0
    assert len(set(pieces[linked])) == len(set(part.labels_S[linked]))
