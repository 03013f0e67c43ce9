"""How well the SAE reconstructs: sums pooled over all tokens, then divided once."""

import numpy as np

from saescope.stats.arrays import FloatArray


def quality(
    n: int,
    sum_x_d: FloatArray,
    sum_x2: float,
    sum_err2: float,
    sum_cos: float,
    sum_norm_ratio: float,
    sum_dot: float,
    sum_xhat2: float,
    l0_sum: float,
) -> dict[str, float | None]:
    """The sae/ metrics from sums over `n` tokens of input x, reconstruction xh, error e = x - xh.

    `sum_x_d` is the vector sum of x, `sum_x2` of |x|^2, `sum_err2` of |e|^2, `sum_cos` of
    cos(x, xh), `sum_norm_ratio` of |xh|/|x|, `sum_dot` of x.xh, `sum_xhat2` of |xh|^2, `l0_sum` of
    active latents.

    FVU: `variance_unexplained`; mse = E|e|^2 summed over dimensions;
    reconstruction_bias = E|xh|^2 / E[x.xh] (arXiv 2404.16014, eq. 10; 1 = unbiased).
    None where a denominator is 0. Raises ValueError without tokens.
    """
    if n <= 0:
        raise ValueError("no tokens")
    fvu = variance_unexplained(n, sum_x_d, sum_x2, sum_err2)
    values: dict[str, float | None] = {
        "sae/fvu": fvu,
        "sae/explained_variance": None if fvu is None else 1.0 - fvu,
        "sae/mse": sum_err2 / n,
        "sae/cosine": sum_cos / n,
        "sae/l0": l0_sum / n,
        "sae/l2_ratio": sum_norm_ratio / n,
        "sae/reconstruction_bias": _ratio(sum_xhat2, sum_dot),
    }
    return {
        key: None if value is None or not np.isfinite(value) else float(value)
        for key, value in values.items()
    }


def variance_share(top_deviation: float, n: int, sum_x_d: FloatArray, sum_x2: float) -> float | None:
    """Share of Σ‖x − E x‖² that some tokens carry, from their part of it, `top_deviation`.

    The other sums are those of ``quality``. None for a constant input.
    """
    mean = np.asarray(sum_x_d, dtype=np.float64) / n
    variance = sum_x2 - n * float(mean @ mean)
    return top_deviation / variance if variance > 1e-12 * sum_x2 else None


def variance_unexplained(n: int, sum_x_d: FloatArray, sum_x2: float, sum_err2: float) -> float | None:
    """FVU = E|e|^2 / (E|x|^2 - |E x|^2); the sums are those of ``quality``.

    As sae_lens ``ExplainedVarianceCalculator``. None for a constant input: there is no variance to explain.
    """
    mean = np.asarray(sum_x_d, dtype=np.float64) / n
    second = sum_x2 / n
    variance = second - float(mean @ mean)
    # a constant input leaves only rounding
    return _ratio(sum_err2 / n, variance if variance > 1e-12 * second else 0.0)


def _ratio(above: float, below: float) -> float | None:
    return above / below if below != 0 else None
