"""Kept fractions in any spelling."""

import pytest

from saescope.config import from_mapping
from saescope.config.dynamic_k import DynamicKConfig
from saescope.errors import ConfigError


def test_an_int_one_keeps_everything():
    assert DynamicKConfig(target="mlp", k=(1.0,)).k == (1.0,)
    assert from_mapping(DynamicKConfig, {"target": "mlp", "k": 1}).k == (1.0,)
    assert from_mapping(DynamicKConfig, {"target": "mlp", "k": [1, 0.5]}).k == (0.5, 1.0)
    with pytest.raises(ConfigError, match="twice"):
        from_mapping(DynamicKConfig, {"target": "mlp", "k": [1, 1.0]})
