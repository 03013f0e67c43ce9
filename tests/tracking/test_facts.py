"""Names and config of a W&B run: they differ when the science differs, and hold facts only."""

import copy

import pytest
import torch

from saescope.sae.coder import untrained
from saescope.sae.neurons import NeuronBasis
from saescope.tracking.facts import NAME_LENGTH, config_of, display_name, facts, key_of, tags

CONFIG = {
    "model": {"name": None, "revision": None},
    "sae": {
        "source": "train", "k": None, "num_latents": None, "expansion_factor": 8,
        "init_seed": 1, "data_seed": 2,
    },
    "hookpoint": {"kind": "resid", "layer": None, "depth": 0.5, "name": None},
    "tracking": {"mode": "offline"},
    "seed": 3,
    "force": False,
}  # fmt: skip
RESOLVED = {
    "model": {
        "name": "owner/pythia-70m", "revision": None, "num_parameters": 70, "num_layers": 6,
        "random_init": False,
    },
    "hookpoint": {"name": "layers.3", "kind": "resid", "layer": 3, "width": 8},
    "sae": {"source": "train", "expansion_factor": 8.0, "num_latents": 64, "k": 4},
}  # fmt: skip


def test_facts_are_filled_and_hold_no_null():
    assert facts(CONFIG, RESOLVED) == {
        "model_name": "owner/pythia-70m", "num_parameters": 70, "random_init": False,
        "hookpoint_name": "layers.3", "layer": 3, "depth": 0.5,
        "sae_source": "train", "expansion_factor": 8.0, "num_latents": 64, "k": 4,
        "seed": 3, "init_seed": 1, "data_seed": 2,
    }  # fmt: skip


def test_config_is_filled_with_what_was_resolved():
    config = config_of(CONFIG, RESOLVED)
    assert config["sae"] == CONFIG["sae"] | {"k": 4, "num_latents": 64, "expansion_factor": 8.0}
    assert config["hookpoint"] == {"kind": "resid", "layer": 3, "depth": 0.5, "name": "layers.3"}
    assert config["model"] == {"name": "owner/pythia-70m"}
    assert set(config) == {"model", "sae", "hookpoint", "seed"}
    assert config_of(CONFIG)["hookpoint"] == {"kind": "resid", "depth": 0.5}


def name(identity="abcdef012345", **model) -> str:
    resolved = copy.deepcopy(RESOLVED)
    resolved["model"] |= model
    return display_name(CONFIG, resolved, identity)


def test_names_are_readable_and_end_in_the_identity():
    assert name() == "pythia-70m.layers.3.train.x8.k4.s3-1-2.abcdef01"
    assert name("abcdef992345") != name()
    assert name(revision="step1000").startswith("pythia-70m@step1000.")
    frozen = copy.deepcopy(RESOLVED)
    frozen["sae"]["freeze"] = "decoder"
    assert ".train-frozen-decoder.x8." in display_name(CONFIG, frozen, "abcdef012345")
    assert facts(CONFIG, frozen)["sae_freeze"] == "decoder"
    frozen["sae"]["freeze"] = "none"
    assert display_name(CONFIG, frozen, "abcdef012345") == name()


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("owner/pythia-70m", "pythia-70m"),
        ("/x/epoch=3/hf", "epoch=3-hf"),
        ("./mine/hf", "mine-hf"),
        ("a/b/hf", "b-hf"),
    ],
)
def test_a_path_is_more_than_its_last_folder(model, short):
    assert name(name=model).startswith(f"{short}.layers.3")


def test_a_long_name_keeps_the_identity():
    long = name(name="m" * 300)
    assert len(long) == NAME_LENGTH
    assert long.endswith(".abcdef01")


def test_the_embedded_model_is_called_so():
    resolved = copy.deepcopy(RESOLVED)
    resolved["model"]["name"] = "saescope embedded GPT-NeoX"
    config = CONFIG | {"model": {"name": "embedded"}}
    assert display_name(config, resolved, "").startswith("embedded.layers.3")
    assert tags(config, resolved) == ["embedded", "layers.3", "train"]
    assert config_of(config, resolved)["model"] == {"name": "embedded"}


def test_k_that_varies_is_absent():
    resolved = copy.deepcopy(RESOLVED)
    resolved["sae"] |= {"source": "saelens", "k": None}
    config = CONFIG | {"sae": {"source": "saelens", "k": None}}
    assert "k" not in facts(config, resolved)
    assert "k" not in config_of(config, resolved)["sae"]
    assert ".kvar." in display_name(config, resolved, "")


def test_every_source_says_its_sizes():
    """What `provenance.json` says of an SAE fills these keys, whatever its source."""
    coder = untrained(8, k=2, expansion_factor=4, num_latents=None, seed=0, dtype=torch.float32)
    for sae in (NeuronBasis(8, 2), coder):
        said = sae.provenance()
        values = facts({}, {"sae": said})
        assert (values["num_latents"], values["k"]) == (sae.num_latents, 2)
        assert values["expansion_factor"] == sae.num_latents / 8
        assert values["sae_source"]


def test_a_setting_has_its_value_under_its_key():
    config = config_of(CONFIG, RESOLVED) | facts(CONFIG, RESOLVED)
    expected = {
        "sae.k": 4, "hookpoint.depth": 0.5, "sae.init_seed": 1, "seed": 3, "hookpoint.kind": "resid",
        "model.name": "owner/pythia-70m", "model.num_parameters": 70,
    }  # fmt: skip
    for setting, value in expected.items():
        place = config
        for part in key_of(setting).split("."):
            place = place[part]
        assert place == value, setting
