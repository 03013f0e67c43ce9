"""Q of SAEs of different width at equal latents, equal firings a latent and equal mean degree."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import BoolArray, Csr, FloatArray, IntArray
from saescope.stats.matched import FIRING_SHARE, most_frequent, thinned
from saescope.stats.modularity import leiden
from saescope.stats.progress import Progress, no_progress
from saescope.stats.rewiring import rewire
from saescope.stats.row_blocks import by_column
from saescope.stats.threads import in_threads

GRAPHS = ((100, 5), (200, 10), (400, 10))
"""Latents and mean degree of the graphs. Of 100 latents too few pairs fire together for a degree of 10."""
CHANCE_JOINTS = (0.2, 0.4, 0.8, 1.6)
"""Tokens on which two thinned latents would fire together by chance, n^2/N: the evidence for an edge."""
DRAWS = 10


@dataclass(frozen=True)
class MatchedQ:
    """Q of thinned graphs of one size, the mean over draws."""

    latents: int
    """Nodes of each graph."""
    degree: int
    """Mean degree of each graph."""
    firings: int
    """Firings of each node."""
    q: float
    q_se: float
    """Standard error of `q` over the draws: latents, firings and Leiden seed together."""
    q_null_mean: float
    """Mean Q of one degree-preserving rewiring of each graph, with its weights shuffled."""


def matched_levels(
    active_NF: Csr,
    supported_F: BoolArray,
    *,
    graphs: Sequence[tuple[int, int]] = GRAPHS,
    chance_joints: Sequence[float] = CHANCE_JOINTS,
    draws: int = DRAWS,
    resolution: float = 1.0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[list[MatchedQ], str]:
    """Q at every combination of graph size and evidence that the data allow, and why there is none.

    The candidates are the supported latents among the `most_frequent`. In each draw as many of them as the
    graph has nodes are taken at random and thinned to n firings. Since all fire equally often, the joint
    count orders the pairs as PMI and p do; the pairs with the largest ones are the edges, as many as make
    the mean degree, ties broken at random, weights PMI = ln(joint N/n^2). So SAEs are compared at equal
    nodes, equal edges and equal evidence for each: fewer validated edges raise Q, and a wider SAE has fewer
    firings for them.

    n = sqrt(E N) for the chance joint count E: of half the documents 0.7 n firings say as much as n of all.
    `active_NF`: units by latents, non-zero = active; `graphs`: latents and mean degree of each.
    The second value is empty, or says what is missing when not even the lowest level can be had.
    """
    by_latent = by_column(active_NF)
    by_latent.eliminate_zeros()
    num_units, count_F = by_latent.shape[0], np.diff(by_latent.indptr)
    frequent = most_frequent(count_F)
    frequent = frequent[np.asarray(supported_F, dtype=np.bool_)[frequent]]
    firings = [max(1, round((chance * num_units) ** 0.5)) for chance in chance_joints]
    share = f"that carry {FIRING_SHARE:.0%} of its firings".replace("%", " %")
    smallest = min(graphs)[0]
    if frequent.size < smallest:
        return [], f"the latents {share} are {frequent.size}, fewer than {smallest}"
    least = int(count_F[frequent].min())
    if least < min(firings):
        return [], f"the rarest of the latents {share} has {least} firings, fewer than {min(firings)}"
    wanted = [
        (size, degree, n)
        for (size, degree), n in itertools.product(graphs, firings)
        if size <= frequent.size and n <= least
    ]
    ended = itertools.count(1)  # counts over threads
    progress("Q at equal evidence", 0, len(wanted) * draws)

    def draw_of(place: int) -> tuple[float, float] | None:
        size, degree, n = wanted[place // draws]
        rng = np.random.default_rng([seed, size, n, place % draws])
        chosen = rng.choice(frequent, size, replace=False)
        edges = strongest_pairs(thinned(by_latent, chosen, n, rng), n, size * degree // 2, rng)
        q = None if edges is None else _q_and_null(*edges, size, resolution, int(rng.integers(2**31)))
        progress("Q at equal evidence", next(ended), len(wanted) * draws)
        return q

    results = in_threads(draw_of, range(len(wanted) * draws))
    levels = []
    for at, (size, degree, n) in enumerate(wanted):
        of_level = [result for result in results[at * draws : (at + 1) * draws] if result is not None]
        if len(of_level) == draws:
            q_R, null_R = np.array(of_level).T
            error = float(q_R.std(ddof=1)) / draws**0.5 if draws > 1 else 0.0
            levels.append(MatchedQ(size, degree, n, float(q_R.mean()), error, float(null_R.mean())))
    if not levels:
        return [], "too few pairs of latents fire together more often than by chance"
    return levels, ""


def strongest_pairs(
    active_NM: Csr, firings: int, edges: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray, FloatArray] | None:
    """The pairs of columns with the largest joint count, ties in random order: source < target, PMI > 0.

    `active_NM`: every column has `firings` ones. None when fewer than `edges` pairs fire together more often
    than by chance.
    """
    joint_MM = (active_NM.T @ active_NM).toarray()
    source, target = np.triu_indices(len(joint_MM), 1)
    joint = joint_MM[source, target]
    chance = firings * firings / active_NM.shape[0]
    order = np.lexsort((rng.random(joint.size), -joint))[:edges]
    if order.size < edges or not edges or joint[order[-1]] <= chance:
        return None
    return source[order].astype(np.int64), target[order].astype(np.int64), np.log(joint[order] / chance)


def _q_and_null(
    source: IntArray, target: IntArray, weight: FloatArray, num_nodes: int, resolution: float, seed: int
) -> tuple[float, float]:
    graphs = (source, target, weight), rewire(source, target, weight, num_nodes, seed=seed)
    q, null = (leiden(*graph, num_nodes, seeds=[seed], resolution=resolution).modularity for graph in graphs)
    return q, null
