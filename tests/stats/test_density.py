import numpy as np
import pytest

from saescope.stats import feature_statistics, log10_density_histogram, supported


def test_statistics_by_hand() -> None:
    count = np.array([0, 1, 10, 100, 500])
    result = feature_statistics(count, 1000, np.array([False, False, False, True, True]))
    assert result == pytest.approx(
        {
            "features/num_latents": 5,
            "features/alive_frac": 0.8,
            "features/dead_frac": 0.2,
            "features/supported": 2,
            "features/log10_density_mean": (-3 - 2 - 1 + np.log10(0.5)) / 4,
            "features/density_gt_1pct_frac": 0.4,
            "features/density_gt_10pct_frac": 0.2,
        }
    )
    assert feature_statistics(np.zeros(3, int), 10, np.zeros(3, bool))["features/log10_density_mean"] is None
    with pytest.raises(ValueError, match="token"):
        feature_statistics(count, 0, count > 0)


def test_support_needs_firings_and_documents() -> None:
    assert supported(np.array([50, 49, 50]), np.array([10, 10, 9])).tolist() == [True, False, False]


def test_histogram_counts_every_live_latent_once() -> None:
    counts, edges = log10_density_histogram(np.array([0, 1, 1000, 37]), 1000)
    assert counts.sum() == 3
    assert counts[-1] == 1
    assert edges[0] == -7
    assert log10_density_histogram(np.array([1]), 10**9)[0][0] == 1
