"""Settings of `causal`: what is refused, and which size is the headline's."""

import pytest

from saescope.config import Ablate, NoCausal, app
from saescope.config.causal import METHOD_VERSION
from saescope.config.compose import compose
from saescope.errors import ConfigError
from saescope.runfolder.identity import identity


def test_the_default_ablates_nothing():
    assert compose().causal == NoCausal()


def test_the_values_in_conf_are_the_defaults_in_python():
    assert compose("causal=ablate").causal == Ablate()


@pytest.mark.parametrize(("sizes", "headline"), [((0.1,), 0.1), ((0.3, 0.1), 0.1), ((0.4, 0.1, 0.2), 0.2)])
def test_the_headline_is_the_middle_size(sizes, headline):
    assert Ablate(sizes=sizes).headline_size == headline


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("causal.select=sy", "did you mean"),
        ("causal.to=nought", "valid: zero, mean, resample"),
        ("causal.sizes=[]", "is empty"),
        ("causal.sizes=[0.1,0.1]", "twice"),
        ("causal.sizes=[5]", "share of the task's activation mass"),
        ("causal.draws=3", "20 or more"),
        ("causal.ablated_draws=0", "between 1 and 50"),
        ("causal.tokens=10", "64 or more"),
        ("causal.num_latents=0", "1 or more"),
        ("causal.layers=[]", "each further layer once"),
        ("causal.layers=[1,1]", "each further layer once"),
        ("causal.layers=[-1]", "0 or more"),
    ],
)
def test_what_is_refused(override, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        compose("causal=ablate", override)


@pytest.mark.parametrize("to", ["zero", "mean"])
def test_draw_tokens_are_limited_where_they_are_used(to):
    if to == "zero":
        assert compose("causal=ablate", "causal.tokens=100").causal.tokens == 100
    else:
        with pytest.raises(ConfigError, match=r"causal\.draw_tokens=512 .* between 64 and 100"):
            compose("causal=ablate", f"causal.to={to}", "causal.tokens=100")


def test_what_does_not_apply_is_no_part_of_the_identity():
    """Results of versions without these keys are found again."""
    plain = compose("causal=ablate").scientific()["causal"]
    assert "layers" not in plain
    assert "num_latents" not in plain
    assert compose("causal=ablate", "causal.layers=[0,1]").scientific()["causal"]["layers"] == (0, 1)


@pytest.mark.parametrize("method", ["ablate", "attribute"])
def test_results_of_an_earlier_method_are_of_another_identity(monkeypatch, method):
    """The same settings gave other numbers before the stage ran in float32."""
    cfg, plain = compose(f"causal={method}"), compose()
    before = [identity(job, {}) for job in (cfg, plain)]
    monkeypatch.setattr(app, "METHOD_VERSION", METHOD_VERSION - 1)
    assert identity(cfg, {}) != before[0]
    assert identity(plain, {}) == before[1]
    assert "version" not in cfg.as_dict()["causal"]


def test_a_key_of_ablate_is_none_of_none():
    with pytest.raises(ConfigError, match=r"causal\.tokens is for causal=attribute or ablate"):
        compose("causal.tokens=100")
