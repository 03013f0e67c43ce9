"""The MLPs of any model by its structure."""

import pytest
from torch import nn

from saescope.dynamic_k.mlps import edited, find_mlps
from saescope.errors import ConfigError

from .models import KINDS, F, batch, logits, tiny


@pytest.mark.parametrize("kind", KINDS)
def test_mlps_are_found_by_structure(kind):
    mlps = find_mlps(tiny(kind))
    assert [(mlp.layer, mlp.d_ff) for mlp in mlps] == [(0, F), (1, F)]
    assert all((mlp.gate is not None) == (kind == "llama") for mlp in mlps)
    seen = []
    with edited(mlps, lambda mlp, acts: seen.append((mlp.layer, acts.shape)) or acts):
        logits(tiny(kind), batch().input_ids_BT)
        assert seen == []  # another model is untouched
    assert [mlp.layer for mlp in find_mlps(tiny(kind), (1,))] == [1]
    with pytest.raises(ConfigError, match="layers 0–1"):
        find_mlps(tiny(kind), (2,))


def test_a_model_without_mlps_is_one_line():
    model = tiny("llama")
    for block in model.model.layers:
        block.mlp = nn.Identity()
    with pytest.raises(ConfigError, match="up- and a down-projection") as error:
        find_mlps(model)
    assert "\n" not in str(error.value)
