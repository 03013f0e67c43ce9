"""Differences between jobs on the same documents, with intervals that hold for all of them at once.

What a resampling of the documents (`resampling`) does to a metric is kept as its *deviations*, scaled so that
their squares add up to the squared standard error. Those of a difference are the differences of the
deviations: what the documents add to both jobs cancels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

from saescope.stats.arrays import FloatArray

DRAWS, DRAWS_AT_ONCE = 20_000, 2_000
"""Draws behind the largest of many statistics."""
POWER = 0.8
"""A difference as large as the minimum detectable one is called so in this share of cases."""


@dataclass(frozen=True)
class Deviations:
    """What the documents do to a metric, or to a difference of two."""

    values_R: FloatArray
    """One for each resample; the root of the sum of their squares is the standard error."""
    freedom: float
    """Degrees of freedom of that standard error."""

    @property
    def standard_error(self) -> float:
        """Of the metric, from the documents."""
        return float(np.sqrt(np.square(self.values_R).sum()))

    def __sub__(self, other: "Deviations") -> "Deviations":
        return Deviations(self.values_R - other.values_R, min(self.freedom, other.freedom))


def of_bootstrap(draws_B: FloatArray, freedom: float, documents: float | None = None) -> Deviations:
    """Deviations of a metric from its values in B resamples; `freedom`: documents less tasks.

    A bootstrap of n documents a task has (n − 1)/n of the variance of their mean (Efron 1982, The Jackknife,
    the Bootstrap and Other Resampling Plans, ch. 5). With `documents` that is made up for: they are few.
    """
    values_B = (draws_B - draws_B.mean()) / np.sqrt(max(1, draws_B.size - 1))
    return Deviations(values_B if documents is None else np.sqrt(documents / freedom) * values_B, freedom)


def of_groups(replicates_G: FloatArray) -> Deviations:
    """Deviations of a metric from its values with each of G groups of documents left out.

    The squared error is (G − 1)/G Σ (x_g − mean)², with G − 1 degrees of freedom: the delete-a-group
    jackknife (Kott 2001, Journal of Official Statistics 17, 521).
    """
    scale = np.sqrt((replicates_G.size - 1.0) / replicates_G.size)
    return Deviations(scale * (replicates_G - replicates_G.mean()), replicates_G.size - 1.0)


def mean_of(deviations: Sequence[Deviations]) -> Deviations:
    """Deviations of the mean of metrics that were resampled together."""
    values = np.mean([each.values_R for each in deviations], axis=0)
    return Deviations(values, min(each.freedom for each in deviations))


class Independent(NamedTuple):
    """A standard error that no other difference shares: of seeds, or of documents drawn for one job alone."""

    standard_error: float
    freedom: float


@dataclass(frozen=True)
class Contrast:
    """One difference of a family."""

    difference: float
    scheme: str
    """Contrasts of one scheme were resampled together: their deviations go together."""
    deviations: Deviations | None
    independent: Independent | None = None

    @property
    def standard_error(self) -> float:
        """Of both parts."""
        paired = 0.0 if self.deviations is None else self.deviations.standard_error
        return float(np.hypot(paired, 0.0 if self.independent is None else self.independent.standard_error))

    @property
    def freedom(self) -> float:
        """Of the standard error (Satterthwaite 1946, Biometrics Bulletin 2, 110)."""
        parts = [(self.deviations.standard_error, self.deviations.freedom)] if self.deviations else []
        parts += [self.independent] if self.independent else []
        total = sum(error**4 / freedom for error, freedom in parts)
        return float(self.standard_error**4 / total) if total > 0 else np.inf


class Simultaneous(NamedTuple):
    """What is known of one difference when the whole family is looked at."""

    low: float
    high: float
    """With 95 % probability the intervals of the family hold all at once."""
    p: float
    """Adjusted: the chance that any difference of the family looks as large when there is none."""
    detectable: float
    """The smallest true difference that is found in 80 % of cases at this level."""


def simultaneous(contrasts: Sequence[Contrast], *, level: float = 0.95, seed: int = 0) -> list[Simultaneous]:
    """Intervals and p-values for a family of differences: single-step max-t (Westfall & Young 1993, ch. 2).

    The largest |t| of the family is drawn with the contrasts' own correlations: each draw weighs the
    resamples of a scheme by normal numbers, the same for every contrast, and adds a normal number of its own
    for what is independent. Statistics of different degrees of freedom are put on one scale by their
    p-values. A p is below 1 − `level` exactly where the interval leaves 0 out. A difference without a
    standard error is exact.
    """
    error_M = np.array([contrast.standard_error for contrast in contrasts])
    freedom_M = np.array([contrast.freedom for contrast in contrasts])
    difference_M = np.array([contrast.difference for contrast in contrasts])
    uncertain = np.flatnonzero(error_M > 0)
    p_M = (difference_M == 0).astype(np.float64)
    statistic = np.abs(difference_M[uncertain]) / error_M[uncertain]
    p_M[uncertain] = 2.0 * t.sf(statistic, freedom_M[uncertain])
    each = 1.0 - level
    if uncertain.size > 1:
        largest_S = np.sort(_largest([contrasts[int(at)] for at in uncertain], error_M[uncertain], seed))
        each = 2.0 * float(norm.sf(np.quantile(largest_S, level)))
        reached = largest_S.size - np.searchsorted(largest_S, norm.isf(p_M[uncertain] / 2.0))
        p_M[uncertain] = np.maximum(p_M[uncertain], (1.0 + reached) / (largest_S.size + 1.0))
    critical_M = t.isf(each / 2.0, freedom_M)
    half_M = np.where(error_M > 0, critical_M * error_M, 0.0)
    found_M = np.where(error_M > 0, half_M + t.isf(1.0 - POWER, freedom_M) * error_M, 0.0)
    return [
        Simultaneous(float(difference - half), float(difference + half), float(p), float(detectable))
        for difference, half, p, detectable in zip(difference_M, half_M, p_M, found_M, strict=True)
    ]


def _largest(contrasts: Sequence[Contrast], error_M: FloatArray, seed: int) -> FloatArray:
    """The largest |z| of the contrasts, in each of `DRAWS` draws without any difference."""
    rng = np.random.default_rng(seed)
    schemes: dict[str, list[int]] = {}
    for at, contrast in enumerate(contrasts):
        if contrast.deviations is not None:
            schemes.setdefault(contrast.scheme, []).append(at)
    alone = np.array([each.independent.standard_error if each.independent else 0.0 for each in contrasts])
    largest: list[FloatArray] = []
    for start in range(0, DRAWS, DRAWS_AT_ONCE):
        draws = min(DRAWS_AT_ONCE, DRAWS - start)
        z_MS = np.zeros((len(contrasts), draws))
        if alone.any():
            z_MS += (alone / error_M)[:, None] * rng.standard_normal(z_MS.shape)
        for members in schemes.values():
            rows = [deviations.values_R for at in members if (deviations := contrasts[at].deviations)]
            z_MS[members] += (np.stack(rows) / error_M[members, None]) @ rng.standard_normal(
                (rows[0].size, draws)
            )
        largest_S: FloatArray = np.zeros(draws)
        largest_S = np.maximum(largest_S, np.abs(z_MS).max(axis=0))
        largest.append(largest_S)
    return np.concatenate(largest)
