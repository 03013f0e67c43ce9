"""`compose(...)` from Python: the configuration of the command line, and its errors in one line."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from saescope.config import HubSae, TrainSae, config_dir
from saescope.config.compose import compose, in_grammar
from saescope.errors import ConfigError


def test_overrides_as_on_the_command_line():
    assert compose().sae == HubSae()
    cfg = compose("sae=train", "sae.k=16", "model=pythia-70m", "metrics=quick", "experiment=smoke")
    assert cfg.sae == TrainSae(k=16, tokens=100_000)
    assert cfg.model.name == "EleutherAI/pythia-70m"
    assert compose("objective=si/excess").scientific() == compose().scientific()
    assert not GlobalHydra.instance().is_initialized()


def test_inside_another_hydra():
    with initialize_config_dir(config_dir(), version_base="1.3"):
        assert compose("seed=3").seed == 3
        assert GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["sae=nope"],
            "sae=nope is not known: valid: directions, frozen_decoder, frozen_encoder, hub, neurons, pca",
        ),
        (["seed=x"], "'seed' must be a whole number"),
        (["sede=1"], "unknown key 'sede': did you mean 'seed'"),
        (["sae.kk=1"], "unknown key 'sae.kk': did you mean 'k'"),
        (
            ["sae.init_seed=1"],
            "sae.init_seed is for sae=train or random or directions, not for sae=hub, which takes repo",
        ),
        (
            ["+sae.init_seed=1"],
            "sae.init_seed is for sae=train or random or directions, not for sae=hub, which takes repo",
        ),
        (["sae=neurons", "sae.repo=x"], "sae.repo is for sae=hub, not for sae=neurons, which takes k"),
        (["sae.options.x=1"], "sae.options is for sae=python, not for sae=hub"),
        (["sae=python", "sae.target=m:f", "sae.options.x=1"], r"put a \+ before it: \+sae.options.x=VALUE"),
        (["sae=python"], "'sae.target' must be given"),
        (["dynamic_k.tokens=100"], "'dynamic_k.tokens' does not apply to the chosen option of 'dynamic_k'"),
        (["model=[1,2]"], "model takes one option, not a list"),
        (["sae=[train,pca]"], "sae takes one option, not a list; .* saescope -m sae=OPTION,OPTION"),
        (["hydra/launcher=[1]"], "hydra/launcher takes one option, not a list"),
        (["seed=${nope}"], "Interpolation key 'nope' not found"),
        (["seed=[1"], "write overrides as key=value"),
        (["seed"], "cannot read 'seed'; write overrides as key=value"),
        (["modèle=x"], "cannot read 'modèle=x'; write overrides as key=value"),
        (["model=local"], "'model.name' must be given; set it on the command line: model.name=VALUE"),
        (["hookpoint=custom"], "hookpoint=custom needs hookpoint.name"),
        (["objective=si/exces"], "objective=si/exces is no metric of a job: did you mean 'si/excess'"),
        (["objective=matched_si"], "objective=matched_si is no metric of a job"),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna needs a plugin: pip install hydra-optuna-sweeper"),
        (["+sweep=k"], "sweep=k is several jobs"),
        (["~sae"], "'sae' is missing"),
        (["sweep=k"], "sweep=k is several jobs; compose one job, or run saescope -m sweep=k"),
        (["sae.k=1,2"], "Ambiguous value"),
    ],
)
def test_errors_are_one_line(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        compose(*overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("+experiment=smoke", "experiment=smoke"),
        ("++model=pythia-70m", "model=pythia-70m"),
        ("+seed=3", "seed=3"),
        ("+hookpoint.layer=3", "hookpoint.layer=3"),
        ("~tracking", "tracking=disabled"),
        ("~sweep", "sweep=none"),
    ],
)
def test_habits_are_understood(typed, same):
    assert in_grammar([typed]) == [same]
    assert compose(typed) == compose(same)


VALUES = [
    "/x/epoch=3/hf",
    "a#b",
    "f(x)",
    "(x",
    "{a",
    "[x]/y",
    "données/モデル",
    "it's",
    'a"b',
    "a'b\"c",
    "a\\'b",
    "a=b\\",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_that_cannot_be_read_is_shown_as_the_shell_needs_it(value):
    with pytest.raises(ConfigError) as caught:
        compose("model=local", f"model.name={value}")
    message = str(caught.value)
    assert message.startswith(f"cannot read 'model.name={value}'; ")
    (pasted,) = shlex.split(message.partition("within quotes: ")[2])
    assert compose("model=local", pasted).model.name == value


def test_options_name_no_file_or_repository_by_accident():
    """What the user has to give is missing (`???`) or null in conf/, never a stray word."""
    for path in sorted(Path(config_dir()).glob("*/*.yaml")):
        values = yaml.safe_load(path.read_text()) or {}
        for key in ("name", "repo", "path", "release"):
            value = values.get(key)
            assert value in (None, "???", "embedded") or "/" in value, (path.name, key, value)


def test_the_config_package_needs_neither_hydra_nor_torch():
    code = "import sys, saescope.config; assert not {'hydra', 'omegaconf', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
