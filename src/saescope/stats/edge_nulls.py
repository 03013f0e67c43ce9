"""Are the edges real? The activation matrix randomised, and the edges that survive it."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, IntArray
from saescope.stats.coactivation import binary, validated_edges
from saescope.stats.progress import Progress, no_progress
from saescope.stats.threads import in_threads

RUN = 256
"""Tokens in one run of the subset on which the nulls are drawn."""


def curveball(active_NS: Csr, *, passes: int = 12, seed: int, progress: Progress = no_progress) -> Csr:
    """Random matrix with the same number of latents on every token and of tokens for every latent.

    Trades of Strona et al. 2014 (Nature Communications 5:4114): in each pass tokens are paired at random,
    latents active on both stay, the others are pooled, shuffled and dealt back in the original numbers. All
    pairs of a pass trade at once, by sorting (pair, latent) keys. Two latents of one token stay together
    with probability about 1/2 a pass, so fewer than 12 passes leave structure behind (2^-12).
    """
    active = binary(active_NS)
    num_units, num_nodes = active.shape
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(num_units, dtype=np.int64), np.diff(active.indptr))
    latents = active.indices.astype(np.int64)
    progress("curveball passes", 0, passes)
    for done in range(passes):
        slot = rng.permutation(num_units)  # slots 2i and 2i+1 trade; an odd last slot trades with nobody
        unit_of_slot = np.empty(num_units, dtype=np.int64)
        unit_of_slot[slot] = np.arange(num_units)
        place = slot[units]
        keys = ((place >> 1) * num_nodes + latents) * 2 + (place & 1)
        keys.sort()
        side, pair_latent = keys & 1, keys >> 1
        same = np.zeros(keys.size, dtype=np.bool_)
        same[1:] = pair_latent[1:] == pair_latent[:-1]
        shared = same.copy()
        shared[:-1] |= same[1:]
        free = np.flatnonzero(~shared)
        pair = pair_latent[free] // num_nodes
        order = np.argsort(pair + rng.random(free.size))  # shuffles within a pair, pairs stay in order
        # of each shuffled pair the first latents go to side 0, as many as side 0 had before
        pairs = (num_units + 1) // 2
        start = np.zeros(pairs + 1, dtype=np.int64)
        np.cumsum(np.bincount(pair, minlength=pairs), out=start[1:])
        zeros = np.bincount(pair[side[free] == 0], minlength=pairs)
        rank = np.arange(free.size) - start[pair]
        side[free[order]] = rank >= zeros[pair]
        latents = pair_latent % num_nodes
        units = unit_of_slot[(pair_latent // num_nodes) * 2 + side]
        progress("curveball passes", done + 1, passes)
    return _matrix(units, latents, active.shape)


def block_permutation(active_NS: Csr, *, block: int = 32, seed: int) -> Csr:
    """Each latent's blocks of `block` consecutive tokens permuted, independently of the other latents.

    Keeps every latent's count and its bursts up to `block` tokens, not the number of latents per token.
    The last tokens that do not fill a block stay where they are.
    Raises ValueError for `block` < 1.
    """
    if block < 1:
        raise ValueError("block must be at least 1")
    active = binary(active_NS)
    num_units, num_nodes = active.shape
    rng = np.random.default_rng(seed)
    num_blocks = num_units // block
    by_latent = sparse.csc_matrix(active)
    latents = np.repeat(np.arange(num_nodes, dtype=np.int64), np.diff(by_latent.indptr))
    units = by_latent.indices.astype(np.int64)
    moved = units.copy()
    chunk = max(1, 10_000_000 // max(1, num_blocks))
    for start in range(0, num_nodes, chunk):
        stop = min(start + chunk, num_nodes)
        entries = slice(int(by_latent.indptr[start]), int(by_latent.indptr[stop]))
        order = np.tile(np.arange(num_blocks, dtype=np.int32), (stop - start, 1))
        rng.permuted(order, axis=1, out=order)
        unit = units[entries]
        whole = unit < num_blocks * block
        moved_block = order[latents[entries][whole] - start, unit[whole] // block]
        moved[entries][whole] = moved_block.astype(np.int64) * block + unit[whole] % block
    return _matrix(moved, latents, active.shape)


def null_edge_count(
    active_NS: Csr,
    *,
    null_tokens: int = 50_000,
    min_joint: int = 5,
    fdr: float = 0.01,
    passes: int = 12,
    block: int = 32,
    seed: int,
    progress: Progress = no_progress,
) -> tuple[int, int]:
    """Validated edges left after `curveball` and after `block_permutation`; both should be near 0.

    Drawn on at most `null_tokens` tokens, taken as whole runs of consecutive tokens spread evenly over
    the data: bursts stay, and every task that fills a few runs is there.
    """
    active = binary(active_NS)
    active = active[run_subset(active.shape[0], null_tokens)]
    draws: list[Callable[[], Csr]] = [
        partial(curveball, active, passes=passes, seed=seed, progress=progress),
        partial(block_permutation, active, block=block, seed=seed + 1),
    ]
    by_curveball, by_block = in_threads(
        lambda draw: len(validated_edges(draw(), min_joint=min_joint, fdr=fdr)), draws
    )
    return by_curveball, by_block


def run_subset(num_tokens: int, max_tokens: int, run: int = RUN) -> IntArray:
    """Positions of at most `max_tokens` tokens, as evenly spaced runs of `run` tokens; all when they fit."""
    if num_tokens <= max_tokens:
        return np.arange(num_tokens, dtype=np.int64)
    run = max(1, min(run, max_tokens))
    runs = max_tokens // run
    starts = np.floor(np.linspace(0, num_tokens - run, runs)).astype(np.int64)
    return (starts[:, None] + np.arange(run)).ravel()


def _matrix(units: AnyIntArray, latents: AnyIntArray, shape: tuple[int, int]) -> Csr:
    result = sparse.csr_matrix((np.ones(units.size, np.int32), (units, latents)), shape=shape)
    assert result.nnz == units.size, "a token received a latent twice"
    return result
