"""Slope of a measure over model size, with an interval from the layers and seeds it was measured at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from saescope.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Slope:
    """Least-squares line of a measure on log10 parameters; every size weighs the same."""

    slope: float
    """Change of the measure per tenfold parameters."""
    intercept: float
    """The line at one parameter: value = intercept + slope · log10(parameters)."""
    low: float | None
    high: float | None
    """95 % interval of the slope; None when each size has one layer and one seed, so nothing was repeated."""
    sizes: int
    layers: int
    sizes_P: FloatArray
    """The distinct parameter counts, ascending."""
    means_P: FloatArray
    """Mean of the measure at each size: layers weigh the same, seeds within a layer too."""


def log_slope(
    parameters: Sequence[float],
    layers: Sequence[object],
    values: Sequence[float],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Slope | None:
    """Slope of `values` on log10 `parameters`; None below three distinct sizes.

    Observations of one size and layer are repeats (seeds). `layers` are labels that mean the same in every
    size, such as relative depths. The interval is slope ± t · se, se the standard deviation of the slope over
    cluster bootstrap draws: the layers are drawn with replacement (the same draw at every size, so that what
    a layer adds at all sizes cancels), then the seeds within them. With D layers se is widened by
    √(D/(D−1)) and t has D − 1 degrees of freedom (Cameron, Gelbach & Miller 2008, few clusters), so few
    layers give a wide interval; with one layer the seeds take that part. Sizes are not resampled: the
    interval says how sure the slope is over *these* models, not over others.
    Raises ValueError when the lengths differ or a parameter count is not positive.
    """
    if not len(parameters) == len(layers) == len(values):
        raise ValueError("parameters, layers and values differ in length")
    size_N, value_N = np.asarray(parameters, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if not (size_N > 0).all():
        raise ValueError("parameter counts must be positive")
    sizes = np.unique(size_N)
    if sizes.size < 3:
        return None
    names = list(dict.fromkeys(layers))
    layer_N = np.array([names.index(layer) for layer in layers])
    seeds_PL = np.array(
        [[np.sum((size_N == p) & (layer_N == number)) for number in range(len(names))] for p in sizes]
    )
    value_PLR = np.zeros((*seeds_PL.shape, seeds_PL.max()))
    for p, size in enumerate(sizes):
        for number in range(len(names)):
            value_PLR[p, number, : seeds_PL[p, number]] = value_N[(size_N == size) & (layer_N == number)]
    x = np.log10(sizes)
    with np.errstate(invalid="ignore"):
        means = np.nanmean(value_PLR.sum(axis=2) / seeds_PL, axis=1)  # a size may lack a layer
    slope, intercept = np.polyfit(x, means, 1)
    clusters = len(names) if len(names) > 1 else int(seeds_PL.min())
    means_BP = _resampled(value_PLR, seeds_PL, resamples, np.random.default_rng(seed))
    drawn = means_BP @ (x - x.mean()) / np.square(x - x.mean()).sum()
    drawn = drawn[np.isfinite(drawn)]  # not finite: a size has none of the drawn layers
    if clusters < 2 or drawn.size < 2:
        return Slope(float(slope), float(intercept), None, None, sizes.size, len(names), sizes, means)
    spread = float(np.std(drawn)) * np.sqrt(clusters / (clusters - 1))
    half = float(stats.t.ppf(0.5 + level / 2, clusters - 1)) * spread
    return Slope(
        float(slope), float(intercept), slope - half, slope + half, sizes.size, len(names), sizes, means
    )


def _resampled(
    value_PLR: FloatArray, seeds_PL: IntArray, resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Means [resamples, sizes] with layers redrawn for all sizes at once and seeds redrawn within each."""
    num_sizes, num_layers, repeats = value_PLR.shape
    layer_BL = rng.integers(num_layers, size=(resamples, num_layers))
    seeds_BLP = seeds_PL.T[layer_BL]
    pick = (rng.random((*seeds_BLP.shape, repeats)) * seeds_BLP[..., None]).astype(np.int64)
    value = value_PLR[np.arange(num_sizes)[:, None], layer_BL[..., None, None], pick]
    counted = np.arange(repeats) < seeds_BLP[..., None]
    with np.errstate(invalid="ignore"):
        mean_BLP = np.where(counted, value, 0.0).sum(axis=3) / seeds_BLP
    measured = seeds_BLP > 0
    with np.errstate(invalid="ignore"):
        means: FloatArray = np.where(measured, mean_BLP, 0.0).sum(axis=1) / measured.sum(axis=1)
    return means
