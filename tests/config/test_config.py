"""Every option of every group composes and converts; YAML and dataclasses name the same fields."""

import dataclasses
import typing
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from saescope.config import AppConfig, ModelConfig, SaeConfig, config_dir, from_mapping
from saescope.errors import ConfigError

CONF = Path(config_dir())
OPTIONS = sorted(
    (p.parent.relative_to(CONF).as_posix(), p.stem) for p in CONF.glob("*/*.yaml") if p.parent.name != "hydra"
)
# what an option needs the user to give
GIVEN = {
    ("model", "local"): ["model.name=somewhere"],
    ("hookpoint", "custom"): ["hookpoint.name=layers.3"],
    ("probes", "folder"): ["probes.path=somewhere"],
    ("sae", "saelens"): ["sae.release=somewhere"],
    ("probes", "manifest"): ["probes.path=somewhere"],
    ("corpus", "hf"): ["corpus.name=somewhere"],
    ("corpus", "local"): ["corpus.path=somewhere"],
}


def composed(*overrides: str) -> AppConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    return from_mapping(AppConfig, plain)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(group, option):
    cfg = composed(f"{group}={option}", *GIVEN.get((group, option), []))
    assert isinstance(cfg, AppConfig)


@pytest.mark.parametrize(("group", "option"), [o for o in OPTIONS if o[0] not in ("experiment", "sweep")])
def test_every_option_names_every_field(group, option):
    kind = typing.get_type_hints(AppConfig)[group]
    named = set(OmegaConf.load(CONF / group / f"{option}.yaml"))
    fields = {f.name for f in dataclasses.fields(kind)}
    if group == "sae" and option != "train":  # the training recipe stands in train.yaml only
        fields -= set(OmegaConf.load(CONF / "sae" / "train.yaml")) - named
    if group == "sae" and option != "saelens":  # and what names a release in saelens.yaml only
        fields -= {"release", "id"}
    if group == "dynamic_k" and option != "mlp":  # a key without effect is refused, not ignored
        fields -= set(OmegaConf.load(CONF / "dynamic_k" / "mlp.yaml")) - named
    assert named == fields


def test_every_option_says_its_command():
    for group, option in OPTIONS:
        text = (CONF / group / f"{option}.yaml").read_text()
        assert "saescope" in text.splitlines()[0] or group in ("experiment", "sweep"), (group, option)


def test_the_command_line_beats_the_group():
    assert composed("metrics=quick", "metrics.permutations=77").metrics.permutations == 77


def test_identity_ignores_what_does_not_change_numbers():
    a = composed()
    assert (
        a.scientific() == composed("tracking=disabled", "force=true", "runtime.batch_tokens=7").scientific()
    )
    assert a.scientific() != composed("seed=1").scientific()
    assert "dynamic_k" not in a.scientific()
    assert a.scientific() != composed("dynamic_k=mlp").scientific()
    assert a.scientific() != composed("runtime.dtype=bfloat16").scientific()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "hub", "k": "8"}, "'sae.k' must be a whole number"),
        ({"source": "hub", "k": 8.5}, "'sae.k' must be a whole number"),
        ({"source": "hub", "k": True}, "'sae.k' must be a whole number"),
        ({"source": "hub", "kk": 8}, "unknown key 'sae.kk': did you mean 'k'"),
        ({}, "'sae.source' is missing"),
        ({"source": "neurons"}, "needs a k"),
        ({"source": "random", "k": 3}, "needs a width"),
        ({"source": "saelens"}, "needs sae.release"),
        ({"source": "saelens", "release": "r", "repo": "x"}, "sae.repo=x is for sae=hub"),
        ({"source": "saelens", "release": "r", "revision": "main"}, "sae.revision is for sae=hub"),
        ({"source": "hub", "release": "r"}, "need sae=saelens"),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(SaeConfig, values, "sae.")


def test_integral_float_is_a_whole_number():
    assert from_mapping(SaeConfig, {"source": "hub", "k": 8.0}).k == 8


def test_deduped_is_for_pythia():
    assert ModelConfig("EleutherAI/pythia-70m", deduped=True).repo == "EleutherAI/pythia-70m-deduped"
    with pytest.raises(ConfigError, match="Pythia"):
        ModelConfig("openai-community/gpt2", deduped=True)
