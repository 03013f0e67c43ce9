import numpy as np
import pytest

from saescope.stats.scaling import log_slope

SIZES = [14e6, 31e6, 70e6, 160e6, 410e6]


def suite(slope: float, seed: int, layers: int = 3, seeds: int = 2, wobble: float = 0.02):
    """SI = 0.1 + slope · log10 P + what a layer adds + a slope that differs by layer + seed noise."""
    rng = np.random.default_rng(seed)
    shift, tilt = rng.normal(0, 0.1, layers), rng.normal(0, wobble, layers)
    rows = [
        (size, layer, 0.1 + (slope + tilt[layer]) * np.log10(size) + shift[layer] + rng.normal(0, 0.003))
        for size in SIZES for layer in range(layers) for _ in range(seeds)
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


def test_exact_line_without_noise():
    slope = log_slope([1e6, 1e7, 1e8], ["a"] * 3, [0.1, 0.3, 0.5])
    assert (slope.slope, slope.intercept) == (pytest.approx(0.2), pytest.approx(-1.1))
    assert (slope.low, slope.high, slope.sizes, slope.layers) == (None, None, 3, 1)


def test_planted_slope_is_found():
    slope = log_slope(*suite(0.08, seed=0, wobble=0.004))
    assert slope.low < 0.08 < slope.high
    assert slope.low > 0


@pytest.mark.parametrize("layers", [3, 6])
def test_interval_covers_no_slope_as_often_as_it_says(layers):
    hits = 0
    for seed in range(200):
        slope = log_slope(*suite(0.0, seed, layers), resamples=200)
        hits += slope.low <= 0 <= slope.high
    assert 180 <= hits <= 199


def test_a_layer_effect_at_every_size_does_not_widen_the_interval():
    slope = log_slope(*suite(0.05, seed=1, wobble=0.0))
    assert slope.high - slope.low < 0.02


def test_one_layer_is_judged_by_its_seeds():
    slope = log_slope(*suite(0.05, seed=2, layers=1, seeds=4, wobble=0.0))
    assert slope.low < 0.05 < slope.high


def test_sizes_weigh_the_same_however_many_layers_they_have():
    sizes, layers, values = [1e6, 1e7, 1e8], [0, 0, 0], [0.0, 1.0, 0.0]
    more = log_slope([*sizes, 1e8, 1e8], [*layers, 0, 0], [*values, 0.0, 0.0])
    assert more.slope == pytest.approx(log_slope(sizes, layers, values).slope) == pytest.approx(0)


def test_two_sizes_are_no_scaling():
    assert log_slope([1e6, 1e7, 1e7], [0, 0, 1], [0.1, 0.2, 0.3]) is None


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="differ in length"):
        log_slope([1e6], [0, 1], [0.1])
    with pytest.raises(ValueError, match="positive"):
        log_slope([0, 1e6, 1e7], [0] * 3, [0.1] * 3)
