"""Names and config of a W&B run: they differ when the science differs, and hold facts only."""

import copy

import pytest

from saescope.tracking.facts import NAME_LENGTH, config_of, display_name, facts

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
