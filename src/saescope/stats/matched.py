"""Equal evidence for SAEs of different width: which latents are compared, and how often each may fire."""

import numpy as np
from scipy import sparse

from saescope.stats.arrays import AnyIntArray, Csr, IntArray

FIRING_SHARE = 0.75
"""Share of all firings that the compared latents carry together."""


def most_frequent(count_F: AnyIntArray, share: float = FIRING_SHARE) -> IntArray:
    """The fewest latents that carry `share` of all firings together, the most frequent first.

    Splitting every latent at random into copies, leaving out documents or repeating every latent leaves them
    what they were. It would not leave "the latents with at least n firings": rare ones, whose SI is higher,
    would drop out. Empty where nothing fired. Raises ValueError for a share outside (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise ValueError("share must lie above 0 and be at most 1")
    count_F = np.asarray(count_F, dtype=np.int64)
    order = np.argsort(-count_F, kind="stable")
    carried = np.cumsum(count_F[order])
    if not carried.size or carried[-1] == 0:
        return np.zeros(0, dtype=np.int64)
    needed = int(np.searchsorted(carried, share * carried[-1]))
    frequent: IntArray = order[: needed + 1].astype(np.int64)
    return frequent


def thinned(by_latent: sparse.csc_matrix, latents: IntArray, firings: int, rng: np.random.Generator) -> Csr:
    """`firings` random tokens of each of `latents` on which it is active, ones in [N, len(latents)].

    `by_latent`: tokens by latents, non-zero = active, no stored zeros.
    Raises ValueError when a latent is active on fewer tokens.
    """
    start, stop = by_latent.indptr[latents], by_latent.indptr[latents + 1]
    if latents.size and (stop - start).min() < firings:
        raise ValueError(f"a latent has {(stop - start).min()} firings, fewer than the {firings} to draw")
    tokens = [
        by_latent.indices[first:last][rng.choice(last - first, firings, replace=False)]
        for first, last in zip(start, stop, strict=True)
    ]
    rows = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int64)
    columns = np.repeat(np.arange(latents.size), firings)
    shape = (by_latent.shape[0], latents.size)
    return sparse.csr_matrix((np.ones(rows.size, dtype=np.int32), (rows, columns)), shape=shape)
