"""A surrogate of the firings that keeps nothing but the words: dealt anew among the occurrences of each."""

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, IntArray
from saescope.stats.strata import numbered


def deal_anew(active_NS: Csr, word_N: AnyIntArray, *, seed: int) -> Csr:
    """Each latent's firings on each word dealt anew among all occurrences of that word, one by one.

    `active_NS`: tokens by latents, zeros and ones; `word_N`: number of each token's word. A latent fires on
    each word as often as before; latents are independent given the word. A token with a negative word stays
    as it is.
    """
    rng = np.random.default_rng(seed)
    active = active_NS.tocoo()
    word_N, units_W = numbered(word_N)
    num_words = units_W.size
    group_of_firing = active.col.astype(np.int64) * num_words + word_N[active.row]
    group_G, firings_G = np.unique(group_of_firing, return_counts=True)
    units_G = units_W[group_G % num_words]
    # whichever is fewer, occurrences with or without a firing, is drawn
    inverted_G = 2 * firings_G > units_G
    drawn_G = np.where(inverted_G, units_G - firings_G, firings_G)
    group, place = _subsets(drawn_G, units_G, rng)
    rest_group, rest_place = _complement(group, place, inverted_G, units_G)
    straight = ~inverted_G[group]
    group = np.concatenate([group[straight], rest_group])
    place = np.concatenate([place[straight], rest_place])
    token_by_word = np.argsort(word_N, kind="stable")
    first_W = np.cumsum(units_W) - units_W
    token = token_by_word[first_W[group_G[group] % num_words] + place]
    dealt: Csr = sparse.csr_matrix(
        (np.ones(token.size, dtype=np.int32), (token, group_G[group] // num_words)), shape=active_NS.shape
    )
    dealt.sort_indices()
    return dealt


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
