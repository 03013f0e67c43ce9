"""How often latents fire, and which fire often enough to be scored."""

import numpy as np

from saescope.stats.arrays import AnyIntArray, BoolArray, FloatArray, IntArray

LOG10_DENSITY_EDGES: FloatArray = np.linspace(-7.0, 0.0, 71)
"""Bins shared by every run, so that histograms of different runs lie on one axis."""


def supported(
    count_F: AnyIntArray, docs_F: AnyIntArray, min_count: int = 50, min_docs: int = 10
) -> BoolArray:
    """Latents with at least `min_count` firings in at least `min_docs` documents."""
    result: BoolArray = (np.asarray(count_F) >= min_count) & (np.asarray(docs_F) >= min_docs)
    return result


def feature_statistics(
    count_F: AnyIntArray, num_tokens: int, supported_F: BoolArray
) -> dict[str, float | None]:
    """The features/ metrics: shares of latents alive and dead, mean log10 density of those alive.

    Density is firing tokens / `num_tokens`. Raises ValueError without tokens or latents.
    """
    count_F = np.asarray(count_F)
    if num_tokens <= 0 or not count_F.size:
        raise ValueError("feature statistics need at least one token and one latent")
    density = count_F / num_tokens
    alive = count_F > 0
    return {
        "features/num_latents": float(count_F.size),
        "features/alive_frac": float(alive.mean()),
        "features/dead_frac": float(1.0 - alive.mean()),
        "features/supported": float(np.count_nonzero(supported_F)),
        "features/log10_density_mean": float(np.log10(density[alive]).mean()) if alive.any() else None,
        "features/density_gt_1pct_frac": float((density > 0.01).mean()),
        "features/density_gt_10pct_frac": float((density > 0.10).mean()),
    }


def log10_density_histogram(count_F: AnyIntArray, num_tokens: int) -> tuple[IntArray, FloatArray]:
    """Histogram (counts, bin edges) of log10 density over the latents alive; below 1e-7 is the first bin.

    Raises ValueError without tokens.
    """
    if num_tokens <= 0:
        raise ValueError("no tokens")
    count_F = np.asarray(count_F)
    logs = np.log10(count_F[count_F > 0] / num_tokens)
    counts = np.histogram(np.clip(logs, LOG10_DENSITY_EDGES[0], 0.0), bins=LOG10_DENSITY_EDGES)[0]
    return counts.astype(np.int64), LOG10_DENSITY_EDGES
