"""From curves and timings to single numbers."""

import pytest

from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.mlp_summary import Pooled, smallest_within, summarise
from saescope.dynamic_k.part import Part
from saescope.dynamic_k.variants import variants


def test_smallest_k_asks_for_all_larger_ones_too():
    ce = {0.1: 1.001, 0.3: 1.2, 0.5: 1.03, 1.0: 1.0}
    curve = {k: Pooled(1.0, ce[k], 0.0, 1.0) for k in ce}
    assert smallest_within(curve, 5) == 0.5
    assert smallest_within(curve, 1) == 1.0
    assert smallest_within({0.5: Pooled(1.0, 1.5, 0.0, 1.0)}, 1) is None


@pytest.mark.parametrize(
    ("control", "sliced", "expected"), [(1.02, 1.4, 1.4), (1.5, 1.4, 1.0), (0.6, 1.4, 1.0), (1.0, 0.8, 1.0)]
)
def test_a_speed_up_must_beat_the_control(control, sliced, expected):
    """k = 0.5 of the static mask is within 1 %, 0.3 is not, and k = 1 is the dense model, however timed."""
    cfg = DynamicKConfig(target="mlp", k=(0.3, 0.5, 1.0))
    pooled = {v: Pooled(1.0, 1.0 if v.k >= 0.5 else 2.0, 0.0, 0.9) for v in variants(cfg)}
    way = {"selector": "topk", "score": "abs_act", "granularity": "static", "impl": "sliced"}
    part = Part(
        rows=[
            {"phase": "decode_b1", "selector": "dense", "impl": "dense", "k": 1.0, "speedup": 1.0},
            {
                "phase": "decode_b1",
                "selector": "dense",
                "impl": "dense_control",
                "k": 1.0,
                "speedup": control,
            },
            {"phase": "decode_b1", **way, "k": 0.3, "speedup": 9.0},
            {"phase": "decode_b1", **way, "k": 0.5, "speedup": sliced},
            {"phase": "decode_b1", **way, "k": 1.0, "speedup": 7.0},
        ]
    )
    summarise(part, cfg, pooled)
    assert part.metrics["dynk/speedup_at_ppl_1pct"] == expected
    assert part.metrics["dynk/k_at_ppl_1pct"] == 0.5
