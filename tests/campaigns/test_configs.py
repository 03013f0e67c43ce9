"""Overrides through Hydra's composition, and plain values through `from_mapping`."""

import dataclasses
import json
import math
import typing

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from saescope.config import AppConfig, SaeConfig, config_dir, from_mapping
from saescope.config.compose import HYDRA_ERRORS, config_keys, in_one_line
from saescope.config.convert import members
from saescope.errors import line
from saescope.runfolder.identity import identity
from saescope.runfolder.write import to_yaml
from tests.campaigns.conftest import TRIED
from tests.campaigns.outcome import attempt, one_line, seeded

KEYS = [key for key in config_keys(AppConfig) if not dataclasses.is_dataclass(getattr(AppConfig, key, None))]
GROUPS = ["model", "sae", "hookpoint", "probes", "corpus", "metrics", "runtime", "tracking"]
OPTIONS = {
    "sae": [
        "hub",
        "saelens",
        "train",
        "random",
        "neurons",
        "pca",
        "directions",
        "frozen_decoder",
        "frozen_encoder",
        "soft_frozen_decoder",
        "python",
    ],
    "hookpoint": ["resid", "mlp", "attention"],
    "metrics": ["default", "quick"],
    "tracking": ["wandb", "offline", "disabled"],
}

WORDS = [
    "null",
    "true",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1",
    "-0.0",
    "1e-320",
    "0.5",
    str(2**31),
    str(2**63),
    str(-(2**63) - 1),
    str(10**400),
    "[]",
    "[1,2]",
    "{}",
    "{a:1}",
    "???",
    "''",
    "' '",
    "'8'",
    "~",
    "1_0",
    "0x10",
    "${seed}",
    "${nope}",
    "${oc.env:HOME}",
    "${sae}",
    "\\${x}",
    "~root",
    "~nobody-there/x",
    "/",
    "..",
    "../" * 40,
    "x" * 5000,
    "'a\nb'",
    "'\x1b[31m'",
    "'\x00'",
    "'\ud800'",
    "'日本'",
    "'<script>'",
    "a=b",
    "a,b",
    "'",
    '"',
    "[",
    "$",
    "\\",
    "!!python/object:os.system",
    "&a",
    "*a",
]
"""Wrong types, extremes, and text that some layer might take for syntax."""

overrides = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(KEYS), st.one_of(st.integers(0, 9), st.floats(0, 1), st.sampled_from(WORDS))
        ).map(lambda part: f"{part[0]}={part[1]}"),
        st.tuples(
            st.sampled_from(["", "", "", "+", "++", "~"]),
            st.one_of(st.sampled_from(KEYS), st.sampled_from(GROUPS), st.text(max_size=12)),
            st.one_of(
                st.sampled_from(WORDS), st.integers().map(str), st.floats().map(str), st.text(max_size=20)
            ),
        ).map(lambda part: f"{part[0]}{part[1]}={part[2]}"),
    ),
    min_size=1,
    max_size=2,
)
choice = st.fixed_dictionaries(
    {}, optional={group: st.sampled_from(names) for group, names in OPTIONS.items()}
)

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(1, 50),
    st.floats(0, 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=4),
    st.sampled_from([2**63, -(2**63), 10**30, math.nan, math.inf, -math.inf, 5e-324, "~x/y", "\0", "\ud800"]),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaves, inner, max_size=3)
)


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    with initialize_config_dir(config_dir(), version_base="1.3"):
        yield


def check(cfg: AppConfig) -> None:
    """A config that was accepted can be written, read back, and hashed."""
    assert isinstance(cfg, AppConfig)
    text = to_yaml(cfg.as_dict())
    text.encode("utf-8")
    assert from_mapping(AppConfig, yaml.safe_load(text)).as_dict() == cfg.as_dict()
    json.dumps(cfg.as_dict(), allow_nan=False)
    assert len(identity(cfg, {})) == 12


@seeded(250)
@given(overrides, choice)
def test_overrides_compose_or_are_refused_in_one_line(args, chosen):
    args = [f"{group}={option}" for group, option in chosen.items()] + args
    try:
        composed = compose("config", overrides=args)
        plain = OmegaConf.to_container(composed, resolve=True)
    except HYDRA_ERRORS as error:  # what `main` catches
        TRIED["command lines", "refused"] += 1
        one_line(line(in_one_line(error)))
        return
    plain = typing.cast(dict, plain)
    if isinstance(cfg := attempt("command lines", lambda: from_mapping(AppConfig, plain)), AppConfig):
        check(cfg)


def defaults(source: str) -> dict:
    needed = {"saelens": ["sae.release=x"], "python": ["sae.target=m:f"]}.get(source, [])
    composed = compose("config", overrides=["hydra.job.name=x", f"sae={source}", *needed])
    return typing.cast(dict, OmegaConf.to_container(composed, resolve=True))


def source_of(key: str) -> str:
    """An SAE source that has this key."""
    _, kinds = members(SaeConfig)
    having = [source for source, kind in kinds.items() if key in config_keys(kind, "sae.")]
    return having[0] if having else "hub"


@seeded(2000)
@given(st.sampled_from(KEYS), values)
def test_any_value_in_any_field(key, value):
    plain = defaults_once(source_of(key))
    *groups, last = key.split(".")
    inner = plain
    for group in groups:
        inner = inner[group]
    inner[last] = value
    if isinstance(cfg := attempt("field values", lambda: from_mapping(AppConfig, plain)), AppConfig):
        check(cfg)


_defaults: dict[str, dict] = {}


def defaults_once(source: str = "hub") -> dict:
    import copy

    if source not in _defaults:
        _defaults[source] = defaults(source)
    return copy.deepcopy(_defaults[source])


@seeded(60)
@given(values)
def test_any_value_as_a_whole_config(value):
    if isinstance(value, dict):
        attempt("whole configs", lambda: from_mapping(AppConfig, value))
    for group in GROUPS:
        attempt(
            "whole configs", lambda group=group: from_mapping(AppConfig, {**defaults_once(), group: value})
        )
