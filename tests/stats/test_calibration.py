"""The promises of docs/calibration.md on fewer corpora: bounds that chance leaves about once in a hundred."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def calibration():
    path = Path(__file__).parents[2] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["calibration"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["calibration"]


def test_false_positives(calibration):
    result = calibration.false_positives(60)
    assert 0.035 < result["p"] < 0.06
    assert result["fdr"] <= 0.12  # 60 corpora at 5 %: 3 expected


def test_the_interval_holds_the_true_index(calibration):
    """Shrunk as if firings were independent, the index is 0.010 too high and 0 of 60 intervals hold it."""
    result = calibration.coverage(60, 2.0)
    assert result["coverage"] >= 0.85
    assert abs(result["bias"]) < 0.003


def test_the_interval_holds_the_true_index_with_few_bursty_documents(calibration):
    """The bootstrap alone: about half, since `si/mean` is 0.03 too high."""
    result = calibration.coverage(60, 0.5, documents=60, burst=calibration.BURSTS, latents=80)
    assert result["coverage"] >= 0.88
    assert abs(result["corrected"]) < 0.5 * result["bias"]


def test_bursts_do_not_lift_weak_preferences(calibration):
    result = calibration.coverage(20, 0.5)
    assert abs(result["bias"]) < 0.003
    assert 0 <= result["null"] < 0.003


def test_p_values_of_dynamic_k_are_calibrated(calibration):
    for shape in (20.0, 0.3):
        assert calibration.transfer(200, 60, shape) <= 0.09
        assert calibration.eta(200, 60, shape) <= 0.09


def test_p_of_an_edge(calibration):
    """Calibrated in bursts too, where the tail that orders the edges is not."""
    for burst in (calibration.NO_BURSTS, calibration.BURSTS):
        for unit in ("token", "document"):
            p, _ = calibration.edges(12, 60, burst, unit)
            assert p <= 0.06, (burst, unit)
    assert calibration.edges(4, 60, calibration.BURSTS, "token")[1] > 0.1
    assert calibration.edges_within_token(4, 60, "on_off") <= 0.06
    assert calibration.edges_found(4, 600, calibration.BURSTS, 0.1) > 0.6


def test_q_p_is_uniform_without_modules(calibration):
    values = calibration.q_p_values(80)
    assert abs(values.mean() - 11 / 21) < 3 * np.sqrt(1 / 12 / 80)
    assert (values <= 0.05).mean() <= 0.14


def test_power_grows_with_effect_and_documents(calibration):
    few, many = (calibration.power(8, 1.0, documents) for documents in (60, 600))
    weak, strong = (calibration.power(8, effect, 180) for effect in (0.25, 2.0))
    assert few < 0.1 < 0.35 < many
    assert weak < 0.1 < 0.7 < strong
