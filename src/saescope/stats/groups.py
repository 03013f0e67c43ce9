"""Two groups of latents compared: difference of means with its interval, parts in the modularity."""

import numpy as np

from saescope.stats.arrays import BoolArray, FloatArray, IntArray

MIN_GROUP = 10
"""Latents in each group below which a difference has no interval."""


def mean_difference(
    value_F: FloatArray,
    first_F: BoolArray,
    *,
    stratum_F: IntArray | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float] | None:
    """Difference of means, first group less the others, with its interval; None where a group is too small.

    Returns (difference, low, high). A group needs `MIN_GROUP` latents. Percentile bootstrap over the latents
    of each group; latents of one SAE are not independent, so the interval is on the narrow side. With strata,
    the difference within each stratum that has both groups, weighted by the latents of the first group there:
    what is left at equal firing frequency.
    """
    rng = np.random.default_rng(seed)
    stratum_F = np.zeros(value_F.size, dtype=np.int64) if stratum_F is None else stratum_F
    parts = []
    for stratum in np.unique(stratum_F):
        in_stratum = stratum_F == stratum
        first, others = value_F[in_stratum & first_F], value_F[in_stratum & ~first_F]
        if first.size and others.size:
            parts.append((first, others))
    sizes = np.array([first.size for first, _ in parts])
    if sizes.sum() < MIN_GROUP or sum(others.size for _, others in parts) < MIN_GROUP:
        return None
    weights = sizes / sizes.sum()
    estimate = sum(w * (a.mean() - b.mean()) for w, (a, b) in zip(weights, parts, strict=True))
    draws = np.zeros(resamples)
    for weight, (first, others) in zip(weights, parts, strict=True):
        draws += weight * (_means(first, resamples, rng) - _means(others, resamples, rng))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(estimate), float(low), float(high)


def modularity_shares(
    source_E: IntArray, target_E: IntArray, weight_E: FloatArray, label_F: IntArray, resolution: float = 1.0
) -> FloatArray:
    """Contribution of every latent to the Newman modularity of a partition; they add up to Q.

    With s_i the weight of the edges of i and 2m the sum of s:
    Q_i = (weight from i into its own community - resolution s_i S_community / 2m) / 2m.
    """
    size = label_F.size
    inside = weight_E * (label_F[source_E] == label_F[target_E])
    strength_F, within_F = (
        np.bincount(source_E, edge_values, size) + np.bincount(target_E, edge_values, size)
        for edge_values in (weight_E, inside)
    )
    total = strength_F.sum()
    if total <= 0.0:
        return np.zeros(size)
    label = np.where(
        label_F >= 0, label_F, label_F.max(initial=0) + 1
    )  # a latent without a community has no edge
    community = np.bincount(label, strength_F)
    return np.asarray((within_F - resolution * strength_F * community[label] / total) / total)


def _means(values: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Means of resamples, a few at a time."""
    means = np.empty(resamples)
    chunk = max(1, 2_000_000 // values.size)
    for start in range(0, resamples, chunk):
        draws = min(chunk, resamples - start)
        means[start : start + draws] = values[rng.integers(0, values.size, (draws, values.size))].mean(axis=1)
    return means
