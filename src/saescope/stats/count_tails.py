"""Upper tails P(count >= c) of joint firing counts under independence, vectorised over many pairs."""

import numpy as np
from scipy.special import erfcx, gammaln, xlogy

from saescope.stats.arrays import FloatArray, IntArray

PRECISION = 1e-13
"""Relative size of a term at which the tail series stops."""
NEWTON_STEPS = 100
"""At most; four to eight are the rule."""

NEAR_SD, NEAR_TAIL = 2.0, 0.015
"""A count at most this many standard deviations above its mean has a larger tail than this, for sums of
independent Bernoullis: the least is e^-4 = 0.018, where none of many rare failures happens.
Nearly all pairs lie there; their tails are not computed where they cannot matter."""


def hypergeometric_tail(
    c: IntArray, a: IntArray, b: IntArray, num_units: int, *, ceiling: float = 1.0
) -> FloatArray:
    """P(X >= c) for X ~ Hypergeometric(num_units, a, b): b draws, a marked; 0 above `min(a, b)`.

    The first term is exact by log-gamma, the others follow by their ratio
    (a-j)(b-j) / ((j+1)(N-a-b+j+1)). scipy 1.17's `hypergeom.sf` takes 307 us a pair at N = 50,000, and
    4.1 us at N = 1,000,000, where this takes 5.5. Counts at or below the mean are summed from the other side.
    A pair whose tail is certain to exceed `ceiling` may stop early and is returned as 1.
    """
    c, a, b = (np.asarray(x, dtype=np.int64) for x in np.broadcast_arrays(c, a, b))
    lowest, highest = np.maximum(0, a + b - num_units), np.minimum(a, b)
    tail = np.where(c <= lowest, 1.0, 0.0)
    inside = (c > lowest) & (c <= highest)
    upper = inside & (c * float(num_units) >= a.astype(np.float64) * b)
    if ceiling <= NEAR_TAIL:
        expected = a.astype(np.float64) * b / max(1, num_units)
        variance = expected * (1.0 - a / max(1, num_units)) * (num_units - b) / max(1, num_units - 1)
        near = upper & (c <= expected + NEAR_SD * np.sqrt(variance))
        tail[near], upper = 1.0, upper & ~near
    if upper.any():
        tail[upper] = _series(c[upper], a[upper], b[upper], num_units, ceiling)
    lower = np.flatnonzero(inside & ~upper)
    if lower.size and ceiling >= 1.0:
        # P(X >= c) = 1 - P(X <= c-1), and X <= c-1 means at least b-c+1 draws among the N-a unmarked
        below = _series(b[lower] - c[lower] + 1, num_units - a[lower], b[lower], num_units, 1.0)
        tail[lower] = 1.0 - below
    elif lower.size:
        tail[lower] = 1.0
    clipped: FloatArray = np.clip(tail, 0.0, 1.0)
    return clipped


def _series(c: IntArray, a: IntArray, b: IntArray, num_units: int, ceiling: float) -> FloatArray:
    """Sum of the pmf from c upward, for lowest < c <= min(a, b)."""
    n = float(num_units)
    log_first = (
        _log_choose(a, c)
        + _log_choose(num_units - a, b - c)
        - (gammaln(n + 1) - gammaln(b + 1) - gammaln(n - b + 1))
    )
    first = np.exp(np.minimum(log_first, 0.0))
    # relative to the first term, so that tails below 1e-308 lose nothing before the end
    total = np.ones(c.size)
    result = np.full(c.size, -1.0)
    live = np.arange(c.size)
    term, j = np.ones(c.size), c.astype(np.float64)
    left_a, left_b = (a - c).astype(np.float64), (b - c).astype(np.float64)
    gap = n - a - b + c + 1.0
    while live.size:
        term = term * left_a * left_b / ((j + 1.0) * gap)
        j, left_a, left_b, gap = j + 1.0, left_a - 1.0, left_b - 1.0, gap + 1.0
        total[live] += term
        over = first[live] * total[live] > ceiling
        go = (term > PRECISION * total[live]) & ~over
        if ceiling < 1.0:
            result[live[over]] = 1.0
        if not go.all():
            live, term, j = live[go], term[go], j[go]
            left_a, left_b, gap = left_a[go], left_b[go], gap[go]
    tail: FloatArray = np.where(result >= 0, result, np.minimum(first * total, 1.0))
    return tail


def _log_choose(n: IntArray, k: IntArray) -> FloatArray:
    value: FloatArray = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return value


def bernoulli_sum_tail(c: FloatArray, trials_PG: FloatArray, chance_PG: FloatArray) -> FloatArray:
    """P(X >= c) for X the sum over G of independent Binomial(trials, chance), for each of P sums.

    Saddlepoint approximation (Lugannani & Rice 1980) for whole numbers (Daniels 1987, Int. Stat. Rev. 55,
    37): with K(t) = sum trials ln(1 + chance (e^t - 1)), K'(t) = c, w = sqrt(2(tc - K)) and
    u = (1 - e^-t) sqrt(K''), P = 1 - Phi(w) + phi(w)(1/u - 1/w). Exact at the largest value; 1 at or below
    the mean, where no tail is computed. `c` and the sum of `trials` are whole, single `trials` need not be.
    """
    tail = np.zeros(c.size)
    largest, mean = trials_PG.sum(axis=1), (trials_PG * chance_PG).sum(axis=1)
    tail[c <= mean] = 1.0
    end = (c > mean) & (np.abs(c - largest) < 0.5)
    tail[end] = np.exp(xlogy(trials_PG[end], chance_PG[end]).sum(axis=1))
    inside = np.flatnonzero((c > mean) & (c < largest - 0.5))
    if not inside.size:
        return tail
    c, trials_PG, chance_PG = c[inside], trials_PG[inside], chance_PG[inside]
    t = _saddlepoint(c, trials_PG, chance_PG, mean[inside], largest[inside])
    cumulant = (trials_PG * np.log1p(chance_PG * np.expm1(t)[:, None])).sum(axis=1)
    tilted_PG = _tilted(chance_PG, t)
    curvature = (trials_PG * tilted_PG * (1.0 - tilted_PG)).sum(axis=1)
    w = np.sqrt(np.maximum(2.0 * (t * c - cumulant), 0.0))
    u = -np.expm1(-t) * np.sqrt(curvature)
    mills = np.sqrt(np.pi / 2.0) * erfcx(w / np.sqrt(2.0))  # (1 - Phi(w)) / phi(w)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.exp(-0.5 * w * w) / np.sqrt(2.0 * np.pi) * (mills + 1.0 / u - 1.0 / w)
    tail[inside] = np.where(w > 1e-3, np.clip(value, 0.0, 1.0), 0.5)  # 1/u - 1/w is rounding at the mean
    return tail


def _saddlepoint(
    c: FloatArray, trials_PG: FloatArray, chance_PG: FloatArray, mean: FloatArray, largest: FloatArray
) -> FloatArray:
    """The t > 0 at which the tilted mean is c: Newton, and halving where it leaves the bracket."""
    t = np.log(c) + np.log(largest - mean) - np.log(mean) - np.log(largest - c)  # right for equal chances
    low, high = np.zeros(c.size), np.full(c.size, np.inf)
    live = np.arange(c.size)
    for _ in range(NEWTON_STEPS):
        trials, tilted = trials_PG[live], _tilted(chance_PG[live], t[live])
        excess = (trials * tilted).sum(axis=1) - c[live]
        slope = (trials * tilted * (1.0 - tilted)).sum(axis=1)
        high[live] = np.where(excess > 0, t[live], high[live])
        low[live] = np.where(excess > 0, low[live], t[live])
        step = t[live] - excess / np.maximum(slope, 1e-300)
        halved = np.where(np.isfinite(high[live]), 0.5 * (low[live] + high[live]), 2.0 * t[live] + 1.0)
        outside = ~((step > low[live]) & (step < high[live]))
        go = np.abs(excess) > 1e-9 * c[live]
        t[live[go]] = np.where(outside, halved, step)[go]
        live = live[go]
        if not live.size:
            break
    return t


def _tilted(chance_PG: FloatArray, t: FloatArray) -> FloatArray:
    """Chances of the Bernoullis tilted by e^(tx); from 1 - chance, so that large t does not overflow."""
    with np.errstate(over="ignore"):
        fall = np.exp(-t)[:, None]
    tilted: FloatArray = chance_PG / (chance_PG + (1.0 - chance_PG) * fall + (chance_PG == 0.0))
    return tilted
