import numpy as np
import pytest

from saescope.stats import quality
from saescope.stats.reconstruction import variance_share


def sums(x: np.ndarray, xh: np.ndarray, l0: float = 3.0) -> dict[str, float | None]:
    norm, norm_h, dot = np.linalg.norm(x, axis=1), np.linalg.norm(xh, axis=1), (x * xh).sum(1)
    return quality(
        len(x), x.sum(0), (x**2).sum(), ((x - xh) ** 2).sum(), (dot / (norm * norm_h)).sum(),
        (norm_h / norm).sum(), dot.sum(), (xh**2).sum(), l0 * len(x),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("d", "s", "mu"), [(512, 1, 0), (512, 1, 1), (512, 0.5, 3), (768, 5, 0), (768, 1, 10), (512, 0.7, 0.1)]
)
def test_explained_variance_ignores_the_mean(d: int, s: float, mu: float) -> None:  # true 0.91
    rng = np.random.default_rng(0)
    x = s * rng.standard_normal((4096, d)) + mu * rng.standard_normal(d)
    result = sums(x, x + 0.3 * s * rng.standard_normal((4096, d)))
    assert result["sae/explained_variance"] == pytest.approx(0.91, abs=0.002)
    assert result["sae/fvu"] == pytest.approx(0.09, abs=0.002)
    assert result["sae/mse"] == pytest.approx(0.09 * s**2 * d, rel=0.01)


def test_by_hand() -> None:
    x, xh = np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert sums(x, xh) == pytest.approx(
        {
            "sae/fvu": 0.5,  # error 1 a token; variance 4 - |(1,1)|^2 = 2
            "sae/explained_variance": 0.5,
            "sae/mse": 1.0,
            "sae/cosine": 1.0,
            "sae/l0": 3.0,
            "sae/l2_ratio": 0.5,
            "sae/reconstruction_bias": 0.5,
        }
    )


def test_the_share_of_some_tokens_by_hand() -> None:
    x = np.array([[9.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])  # mean 3; deviations 36, 4, 4, 4
    assert variance_share(36.0, 4, x.sum(0), (x**2).sum()) == pytest.approx(36 / 48)
    assert variance_share(0.0, 4, np.full(2, 4.0), 8.0) is None  # constant


def test_pooled_not_per_batch() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((50, 8)) + 5, rng.standard_normal((50, 8)) - 5])
    xh = x + rng.standard_normal(x.shape)
    whole = ((x - xh) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert sums(x, xh)["sae/fvu"] == pytest.approx(whole)


def test_degenerate_sums() -> None:
    x = np.ones((4, 3))
    constant = sums(x, 0.5 * x)
    assert constant["sae/fvu"] is None
    assert constant["sae/mse"] == pytest.approx(0.75)
    assert quality(2, np.ones(2), 4.0, 1.0, 1.0, 1.0, 0.0, 0.0, 2.0)["sae/reconstruction_bias"] is None
    with pytest.raises(ValueError, match="tokens"):
        quality(0, np.zeros(2), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
