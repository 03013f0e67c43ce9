"""Is a graph modular beyond its degrees? Rewired graphs, drawn until that is settled."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import BoolArray, FloatArray
from saescope.stats.modularity import leiden, moved_modularity
from saescope.stats.progress import Progress, no_progress
from saescope.stats.rewiring import Graph, rewirings, rewirings_in_memory
from saescope.stats.threads import in_threads

CHAIN = 4
"""Rewired graphs of one chain of swaps; the first of each is partitioned in full."""
STAGE = 5
"""Chains between two looks at what is settled."""
MOST_REWIRINGS = 100
"""Rewirings at most, unless more are asked for: p is then below 0.01 where none reaches the graph."""
MOST_EDGES = 2_000_000
"""Edges of all rewired graphs together, unless the fewest asked for have more."""
SETTLED = 0.0005
"""Standard error of the mean modularity at which no more rewirings are partitioned in full: a third of that
which the choice of documents brings."""
ENOUGH_REACHED = 10
"""Rewirings that reach the graph at which p is settled."""
TIE = 1e-12
"""A modularity this little below counts as equal (rounding)."""


@dataclass(frozen=True)
class RewiredNull:
    """Modularity of rewired graphs, and where the given one stands among them."""

    mean: float
    """Of the rewirings partitioned in full."""
    sd: float
    """Of the same."""
    p: float
    z: float | None
    """None where all rewirings have the same modularity."""
    draws: int
    """Rewirings behind `p`."""


def rewired_null(
    graph: Graph,
    num_nodes: int,
    *,
    fewest: int,
    seeds: Sequence[int],
    resolution: float = 1.0,
    seed: int,
    progress: Progress = no_progress,
) -> RewiredNull:
    """Modularity of degree-preserving rewirings of a graph (`rewiring.rewirings`).

    Rewirings come in chains of four, each chain from the graph itself. The first of a chain gets Leiden runs
    from all `seeds`, the best counts; they give `mean` and `sd`. For all of them and the graph itself
    `moved_modularity` is computed; `z` and `p` compare these, equal effort on both sides.

    At least `fewest` are drawn, then more up to 100 in all as long as they have 2,000,000 edges together,
    until p is settled, because ten reached the graph, and the standard error of `mean` is 0.0005 or less.
    Sequential p of Besag & Clifford 1991 (Biometrika 78, 301): 10/l where the tenth to reach the graph was
    the l-th, else (1 + those that reach it)/(draws + 1). The result does not depend on the number of threads.
    """
    most = max(fewest, min(MOST_REWIRINGS, MOST_EDGES // max(1, graph[0].size)))
    ended = itertools.count(1)  # counts over threads

    def chain(piece: tuple[int, int, bool]) -> tuple[list[float], list[float]]:
        """Modularity in full of the first rewiring, where wanted, and the quick one of each."""
        number, draws, full = piece
        in_full: list[float] = []
        quick_R: list[float] = []
        drawn = rewirings(*graph, num_nodes, draws=draws, seed=_seed_of_chain(seed, number))
        for rewired in drawn:
            if full and not quick_R:
                in_full.append(leiden(*rewired, num_nodes, seeds=seeds, resolution=resolution).modularity)
            quick_R.append(moved_modularity(*rewired, num_nodes, resolution))
            progress("rewirings", next(ended), most)
        return in_full, quick_R

    progress("rewirings", 0, most)
    observed = moved_modularity(*graph, num_nodes, resolution)
    in_full, quick_R = np.zeros(0), np.zeros(0)
    chains, settled = 0, False
    while quick_R.size < most:
        sizes = _chain_lengths(min(STAGE * CHAIN, most - quick_R.size))
        pieces = [(chains + place, size, not settled) for place, size in enumerate(sizes)]
        of_chains = in_threads(chain, pieces, max_threads=rewirings_in_memory(num_nodes))
        chains += len(sizes)
        in_full = np.concatenate([in_full, *(full for full, _ in of_chains)])
        quick_R = np.concatenate([quick_R, *(some for _, some in of_chains)])
        settled = bool(in_full.size > 1 and in_full.std(ddof=1) <= SETTLED * np.sqrt(in_full.size))
        if quick_R.size >= fewest and settled and (quick_R >= observed - TIE).sum() >= ENOUGH_REACHED:
            break
    progress("rewirings", most, most)
    p, draws = sequential_p(quick_R >= observed - TIE)
    quick_sd = _sd(quick_R)
    return RewiredNull(
        float(in_full.mean()),
        _sd(in_full),
        p,
        float((observed - quick_R.mean()) / quick_sd) if quick_sd > TIE else None,
        draws,
    )


def sequential_p(reached_R: BoolArray, enough: int = ENOUGH_REACHED) -> tuple[float, int]:
    """(p, draws behind it) of Besag & Clifford 1991 for draws in their order, true where one reached."""
    reached = np.flatnonzero(reached_R)
    if reached.size >= enough:
        draws = int(reached[enough - 1]) + 1
        return enough / draws, draws
    return (1.0 + reached.size) / (len(reached_R) + 1.0), len(reached_R)


def _chain_lengths(draws: int) -> list[int]:
    """Lengths of the chains that give so many draws."""
    return [min(CHAIN, draws - start) for start in range(0, draws, CHAIN)]


def _seed_of_chain(seed: int, number: int) -> int:
    """A seed of its own for every chain."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _sd(values_R: FloatArray) -> float:
    return float(values_R.std(ddof=1)) if values_R.size > 1 else 0.0
