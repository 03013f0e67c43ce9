"""A surrogate of the firings that keeps nothing but the words: dealt anew among the occurrences of each."""

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, IntArray
from saescope.stats.progress import Progress, no_progress
from saescope.stats.strata import numbered

AT_ONCE = 1_000_000
"""Firings dealt in one go (about 100 MB)."""


def deal_anew(active_NS: Csr, word_N: AnyIntArray, *, seed: int, progress: Progress = no_progress) -> Csr:
    """Each latent's firings on each word dealt anew among all occurrences of that word, one by one.

    `active_NS`: tokens by latents, zeros and ones; `word_N`: number of each token's word. A latent fires on
    each word as often as before; latents are independent given the word. A token with a negative word stays
    as it is.
    """
    rng = np.random.default_rng(seed)
    by_latent = active_NS.tocsc()
    word_N, units_W = numbered(word_N)
    token_by_word, first_W = np.argsort(word_N, kind="stable"), np.cumsum(units_W) - units_W
    num_latents = by_latent.shape[1]
    counts_S = np.diff(by_latent.indptr)
    tokens: list[IntArray] = []
    start = 0
    progress("latents dealt anew", 0, num_latents)
    while start < num_latents:
        stop = max(start + 1, int(np.searchsorted(by_latent.indptr, by_latent.indptr[start] + AT_ONCE)) - 1)
        stop = min(stop, num_latents)
        part = slice(by_latent.indptr[start], by_latent.indptr[stop])
        latent = np.repeat(np.arange(stop - start), counts_S[start:stop])
        word, place = _dealt(latent, word_N[by_latent.indices[part]], units_W, rng)
        tokens.append(token_by_word[first_W[word] + place])
        start = stop
        progress("latents dealt anew", stop, num_latents)
    indices = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int64)
    ones = np.ones(indices.size, dtype=np.int32)
    dealt: Csr = sparse.csc_matrix((ones, indices, by_latent.indptr), shape=active_NS.shape).tocsr()
    dealt.sort_indices()
    return dealt


def _dealt(
    latent: IntArray, word: IntArray, units_W: IntArray, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """(word, place among its occurrences) of every firing after the deal, in ascending order of latents.

    `latent`, `word`: of every firing before.
    """
    num_words = units_W.size
    group_G, firings_G = np.unique(latent * num_words + word, return_counts=True)
    units_G = units_W[group_G % num_words]
    # whichever is fewer, occurrences with or without a firing, is drawn
    inverted_G = 2 * firings_G > units_G
    group, place = _subsets(np.where(inverted_G, units_G - firings_G, firings_G), units_G, rng)
    rest_group, rest_place = _complement(group, place, inverted_G, units_G)
    straight = ~inverted_G[group]
    group = np.concatenate([group[straight], rest_group])
    place = np.concatenate([place[straight], rest_place])
    order = np.argsort(group, kind="stable")
    return group_G[group[order]] % num_words, place[order]


def _subsets(size_G: IntArray, units_G: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """(group, place) of a random subset of `size` of the `units` places of each group, all as likely.

    Places are drawn with replacement, and repeated ones drawn again: the first distinct ones of such a
    sequence are a random subset.
    """
    stride = int(units_G.max(initial=1))
    ready: list[IntArray] = []
    keys: IntArray = np.zeros(0, dtype=np.int64)
    missing_G = size_G.astype(np.int64)
    while missing_G.any():
        group = np.repeat(np.arange(size_G.size), missing_G)
        place = np.floor(rng.random(group.size) * units_G[group]).astype(np.int64)
        drawn = group * stride + place
        alone = size_G[group] == 1  # nothing to repeat
        ready.append(drawn[alone])
        keys = np.unique(np.concatenate([keys, drawn[~alone]]))
        owner = keys // stride
        open_G = (missing_G > 0) & (size_G > 1)
        missing_G = np.where(open_G, size_G - np.bincount(owner, minlength=size_G.size), 0)
        complete = missing_G[owner] == 0
        ready.append(keys[complete])
        keys = keys[~complete]
    subset = np.concatenate(ready) if ready else keys
    return subset // stride, subset % stride


def _complement(
    group: IntArray, place: IntArray, inverted_G: BoolArray, units_G: IntArray
) -> tuple[IntArray, IntArray]:
    """All places of the inverted groups but those drawn."""
    inverted = np.flatnonzero(inverted_G)
    units = units_G[inverted]
    start_G = np.zeros(units_G.size, dtype=np.int64)
    start_G[inverted] = np.cumsum(units) - units
    free = np.ones(int(units.sum()), dtype=np.bool_)
    drawn = inverted_G[group]
    free[start_G[group[drawn]] + place[drawn]] = False
    all_groups = np.repeat(inverted, units)
    places = np.arange(free.size) - start_G[all_groups]
    return all_groups[free], places[free]
