import numpy as np
import pytest

from saescope.stats.matched_latents_only import latents_only_modularity


def blocks(sizes: list[int], seed: int, inside: float = 0.5, outside: float = 0.05):
    """Edges of a planted-partition graph over ids that have gaps."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    source, target = np.triu_indices(block.size, 1)
    edge = rng.random(source.size) < np.where(block[source] == block[target], inside, outside)
    return 3 * source[edge] + 1, 3 * target[edge] + 1, np.ones(int(edge.sum()))


def test_latents_only_q_of_the_whole_graph_is_its_q():
    source, target = np.array([0, 1, 0, 3, 4, 3, 2]), np.array([1, 2, 2, 4, 5, 5, 3])
    matched = latents_only_modularity(source, target, np.ones(7), latents=6, draws=3)
    # two triangles and a bridge: L = 3 + 3 of 7 inside, degree 7 of 14 on each side
    assert matched.mean == pytest.approx(6 / 7 - 2 * 0.25)
    assert (matched.sd, matched.latents) == (pytest.approx(0), 6)


def test_latents_only_q_separates_modular_from_uniform_graphs_of_any_size():
    small, large, flat = (
        latents_only_modularity(*graph, latents=60)
        for graph in (blocks([30] * 4, 0), blocks([60] * 4, 1), blocks([30] * 4, 2, 0.16, 0.16))
    )
    assert abs(small.mean - large.mean) < 3 * (small.sd + large.sd)
    assert flat.mean < small.mean - 0.1
    assert latents_only_modularity(*blocks([30] * 4, 0), latents=60).mean == small.mean


def test_latents_only_q_needs_enough_connected_latents():
    assert latents_only_modularity(*blocks([10] * 2, 0), latents=21) is None
