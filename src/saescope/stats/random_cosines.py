"""What two dictionaries of random directions have in common: the baseline of every overlap statistic.

The cosine t of two independent random directions in d dimensions has density proportional to
(1 - t^2)^((d - 3) / 2), that is, (1 + t) / 2 ~ Beta((d - 1) / 2, (d - 1) / 2).
"""

import math

import numpy as np
from scipy import integrate, signal, stats

from saescope.stats.arrays import FloatArray

GRID_PER_SD = 400
"""Grid points per standard deviation, 1 / sqrt(d), of a random cosine."""
MAX_ITERATIONS = 2000


def expected_best_cosine(num_latents: int, d: int) -> float:
    """Expected largest cosine of one direction with `num_latents` random ones; exact up to quadrature.

    The cosines of a fixed direction with independent random ones are independent, so
    E max = 1 - int_{-1}^{1} G(t)^F dt. Raises ValueError for no latent or fewer than two dimensions.
    """
    _check(num_latents, d)
    points = _tail(d, np.array([0.5, 0.9]) / num_latents)
    value, _ = integrate.quad(
        lambda t: math.exp(num_latents * _log_below(t, d)),
        -1.0,
        1.0,
        points=sorted({float(p) for p in points}),
        epsabs=1e-10,
        limit=400,
    )
    return 1.0 - value


def share_reaching(threshold: float, num_latents: int, d: int) -> float:
    """Chance that a direction's largest cosine with `num_latents` random ones exceeds `threshold`."""
    _check(num_latents, d)
    return -math.expm1(num_latents * _log_below(threshold, d))


def expected_matched_cosine(rows: int, columns: int, d: int) -> float:
    """Expected mean cosine of the best one-to-one matching of two random dictionaries, rows <= columns.

    The cavity equations of the random assignment problem (Mezard & Parisi 1985, J. Physique Lett. 46:771;
    Aldous 2001, doi 10.1002/rsa.1015), here for cosines: with X the value a row and Y the value a column
    would have without the other,
    P(X <= x) = exp(-columns E G'(x + Y)), P(Y <= y) = exp(-rows E G'(y + X)) for y >= 0, where G' is the
    upper tail of the cosine and a column may stay free (Y >= 0) when there are more of them; a pair of
    cosine c is matched when c > X + Y. Asymptotic: takes the cosines for independent.
    """
    rows, columns = min(rows, columns), max(rows, columns)
    _check(rows, d)
    step = 1.0 / (GRID_PER_SD * math.sqrt(d))
    half = math.ceil(1.5 / step)
    x = step * np.arange(-half, half + 1)
    above = stats.beta.sf((1.0 + np.clip(x, -1.0, 1.0)) / 2.0, (d - 1) / 2.0, (d - 1) / 2.0)
    square = rows == columns
    start = 0.5 * expected_best_cosine(columns, d)
    col = (x >= (start if square else 0.0)).astype(np.float64)
    row = col
    for _ in range(MAX_ITERATIONS):
        row = np.exp(-columns * _shifted(above, col))
        new = np.exp(-rows * _shifted(above, row))
        # square: the same law on both sides, which also fixes the free shift between them
        new = 0.5 * (new + row) if square else np.where(x < 0.0, 0.0, new)
        change = float(np.abs(new - col).max())
        col = 0.5 * (col + new)
        if change < 1e-7:
            break
    # P(X + Y < c) on the grid: the law of X, smeared by the steps of the law of Y
    below = _shifted_law(row, col)
    density = -np.diff(above)
    middle = 0.5 * (x[1:] + x[:-1])
    matched = density * 0.5 * (below[1:] + below[:-1])
    return float((middle * matched).sum() / matched.sum())


def _shifted(above: FloatArray, law: FloatArray) -> FloatArray:
    """E above(x + Y) on the grid, Y of the given law."""
    mass = np.diff(law, prepend=0.0)
    half = (law.size - 1) // 2
    # x ranges over [-1.5, 1.5], so x + y leaves the grid: 1 below it, 0 above it
    padded = np.concatenate([np.ones(half), above, np.zeros(half)])
    return np.clip(signal.fftconvolve(padded, mass[::-1], mode="valid"), 0.0, 1.0)


def _shifted_law(first: FloatArray, second: FloatArray) -> FloatArray:
    """P(X + Y < c) on the grid, from the laws of X and Y."""
    half = (first.size - 1) // 2
    padded = np.concatenate([np.zeros(half), first, np.ones(half)])
    mass = np.diff(second, prepend=0.0)
    return np.clip(signal.fftconvolve(padded, mass, mode="valid"), 0.0, 1.0)


def _log_below(t: float, d: int) -> float:
    half = (d - 1) / 2.0
    return float(stats.beta.logcdf((1.0 + t) / 2.0, half, half))


def _tail(d: int, chance: FloatArray) -> FloatArray:
    half = (d - 1) / 2.0
    return np.asarray(2.0 * stats.beta.isf(chance, half, half) - 1.0)


def _check(num_latents: int, d: int) -> None:
    if num_latents < 1 or d < 2:
        raise ValueError("at least one latent and two dimensions are needed")
