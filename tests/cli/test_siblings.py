"""The hookpoints of a sweep's other jobs."""

import pytest

from saescope.cli.siblings import axes_of, siblings
from saescope.config import HookpointConfig
from saescope.config.sae import SaeConfig, TrainSae

RESID = {"kind": "resid", "layer": None, "depth": 0.5, "name": None}
OPTIONS = {
    "resid": RESID,
    "mlp": RESID | {"kind": "mlp"},
    "custom": RESID | {"kind": "custom", "depth": None},
}


def hookpoints(this, axes, overrides):
    return siblings(HookpointConfig, "hookpoint", this, axes, OPTIONS, overrides)


def test_the_axes_that_choose_a_hookpoint():
    axes = {"hookpoint.layer": ["1", "2"], "sae.k": ["4"], "hookpoint": ["mlp"], "hookpoints": ["x"]}
    assert axes_of("hookpoint", axes) == {"hookpoint.layer": ["1", "2"], "hookpoint": ["mlp"]}


@pytest.mark.parametrize(
    ("this", "axes", "overrides", "others"),
    [
        (
            RESID | {"layer": 3},
            {"hookpoint.layer": ["0", "3", "5"]},
            ("hookpoint.layer=3", "sae.k=4"),
            [("resid", 0), ("resid", 5)],
        ),
        (RESID, {}, (), []),
        (
            RESID | {"layer": 2, "kind": "mlp"},
            {"hookpoint": ["resid", "mlp"], "hookpoint.layer": ["2", "4"]},
            ("hookpoint=mlp", "hookpoint.layer=2"),
            [("resid", 2), ("resid", 4), ("mlp", 4)],
        ),
        (  # a fixed key of the group applies to every option
            RESID | {"layer": 7},
            {"hookpoint": ["resid", "mlp"]},
            ("hookpoint=resid", "hookpoint.layer=7"),
            [("mlp", 7)],
        ),
        (  # a job that will be refused is nobody's sibling
            RESID | {"layer": 3},
            {"hookpoint.layer": ["-1", "x", "3", "4"]},
            ("hookpoint.layer=3",),
            [("resid", 4)],
        ),
    ],
)
def test_siblings(this, axes, overrides, others):
    assert [(other.kind, other.layer) for other in hookpoints(this, axes, overrides)] == others


def test_depths_and_names():
    depths = hookpoints(RESID, {"hookpoint.depth": ["0.25", "0.5"]}, ("hookpoint.depth=0.5",))
    assert depths == (HookpointConfig("resid", depth=0.25),)
    names = ["layers.1.mlp", "layers.2"]
    this = OPTIONS["custom"] | {"name": names[0]}
    others = hookpoints(this, {"hookpoint.name": names}, (f"hookpoint.name={names[0]}",))
    assert others == (HookpointConfig("custom", name=names[1]),)


def test_saes():
    train = {"source": "train", "k": 4, "expansion_factor": 8, "tokens": 1000}
    options = {"train": train, "random": {"source": "random", "k": 4, "expansion_factor": 8}}
    axes = {"sae": ["train", "random"], "sae.expansion_factor": ["8", "16"]}
    words = ("sae=train", "sae.expansion_factor=8", "++sae.tokens=1000", "hookpoint.layer=3")
    others = siblings(SaeConfig, "sae", train, axes, options, words)
    trained = [other for other in others if isinstance(other, TrainSae)]
    assert [(other.expansion_factor, other.tokens) for other in trained] == [(16, 1000)]
