"""Overrides through Hydra's composition, and plain values through `from_mapping`."""

import dataclasses
import json
import math
import types
import typing
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from saescope.config import AppConfig, config_dir, from_mapping
from saescope.config.compose import compose as command_line
from saescope.config.compose import config_keys
from saescope.config.convert import members
from saescope.runfolder.identity import identity
from saescope.runfolder.write import to_yaml
from tests.campaigns.outcome import attempt, seeded

KEYS = [key for key in config_keys(AppConfig) if not dataclasses.is_dataclass(getattr(AppConfig, key, None))]
GROUPS = [field.name for field in dataclasses.fields(AppConfig) if (Path(config_dir()) / field.name).is_dir()]
UNIONS = {
    key: hint for key, hint in typing.get_type_hints(AppConfig).items() if isinstance(hint, types.UnionType)
    and all(map(dataclasses.is_dataclass, typing.get_args(hint)))
}  # fmt: skip
"""Groups with a dataclass for each choice."""
OPTIONS = {
    group: sorted(path.stem for path in (Path(config_dir()) / group).glob("*.yaml"))
    for group in [*GROUPS, "sweep", "experiment", "hydra/launcher"]
}
"""Every option of every group, as `conf/` has them."""

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
choice = st.dictionaries(st.sampled_from(sorted(OPTIONS)), st.integers(0, 99), max_size=3).map(
    lambda drawn: {group: OPTIONS[group][at % len(OPTIONS[group])] for group, at in drawn.items()}
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


@pytest.fixture(autouse=True)
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


@seeded(400)
@given(overrides, choice)
def test_overrides_compose_or_are_refused_in_one_line(args, chosen):
    args = [f"{group}={option}" for group, option in chosen.items()] + args
    if isinstance(cfg := attempt("command lines", lambda: command_line(*args)), AppConfig):
        check(cfg)


NEEDED = {
    ("sae", "saelens"): ["sae.release=x"],
    ("sae", "python"): ["sae.target=m:f"],
    ("probes", "folder"): ["probes.path=x"],
    ("probes", "manifest"): ["probes.path=x"],
    ("corpus", "local"): ["corpus.path=x"],
    ("corpus", "hf"): ["corpus.name=x/y"],
    ("model", "local"): ["model.name=x"],
    ("hookpoint", "custom"): ["hookpoint.name=layers.0"],
}  # fmt: skip
"""What an option leaves open."""


def defaults(**chosen: str) -> dict:
    """The config of these options, as plain values."""
    needed = [word for option in chosen.items() for word in NEEDED.get(option, [])]
    options = [f"{group}={option}" for group, option in chosen.items()]
    composed = compose("config", overrides=["hydra.job.name=x", *options, *needed])
    return typing.cast(dict, OmegaConf.to_container(composed, resolve=True))


def option_with(key: str) -> dict[str, str]:
    """Options of a union's group under which a key applies; none for other groups."""
    group, _, _ = key.partition(".")
    if group == "dynamic_k" != key:
        return {"dynamic_k": "mlp"}  # whose file has all the keys
    if group not in UNIONS or group == key:
        return {}
    tag, kinds = members(UNIONS[group])
    values = {value for value, kind in kinds.items() if key in config_keys(kind, f"{group}.")}
    for option in OPTIONS[group]:
        if yaml.safe_load((Path(config_dir()) / group / f"{option}.yaml").read_text()).get(tag) in values:
            return {group: option}
    raise AssertionError(f"no option in conf/{group} has {key}")


def replaced(plain: dict, key: str, value: object) -> dict:
    """The config with one value replaced."""
    *groups, last = key.split(".")
    inner = plain
    for group in groups:
        inner = inner[group]
    inner[last] = value
    return plain


@seeded(2500)
@given(st.sampled_from(KEYS), values)
def test_any_value_in_any_field(key, value):
    plain = replaced(defaults_once(**option_with(key)), key, value)
    if isinstance(cfg := attempt("field values", lambda: from_mapping(AppConfig, plain)), AppConfig):
        check(cfg)


def likely(hint: object) -> st.SearchStrategy:
    """Values of the type a field has, at its edges and beyond."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(likely, inner))
    if origin is tuple:
        return st.lists(likely(inner[0]), max_size=4)
    if origin is typing.Literal or hint is str:
        return st.sampled_from([*map(str, inner), *NAMES, "", "日本", "a/b"])
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.one_of(
            st.integers(0, 5000), st.sampled_from([-1, 0, 1, 20, 2**31, 2**32, 2**53, 2**53 + 1])
        )
    if hint is float:
        return st.one_of(st.floats(0, 1), st.sampled_from([-0.0, 1e-300, 1.0, 1.5, 1e300, 2**53]))
    if hint is type(None):
        return st.none()
    return values


NAMES = sorted(
    {
        word
        for path in Path(config_dir()).rglob("*.yaml")
        for word in path.read_text().replace(",", " ").replace("|", " ").split()
        if word.isidentifier() and word.islower()
    }
)
"""Words of the option files: among them every valid choice."""
HINTS = config_keys(AppConfig)


@seeded(2500)
@given(st.data())
def test_likely_values_of_fields(data):
    keys = data.draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2))
    plain = defaults_once(**{group: option for key in keys for group, option in option_with(key).items()})
    for key in keys:
        *above, _ = key.split(".")
        if not above or key.rpartition(".")[2] in (plain[above[0]] or {}):  # not replaced as a whole before
            replaced(plain, key, data.draw(likely(HINTS[key])))
    if isinstance(cfg := attempt("likely field values", lambda: from_mapping(AppConfig, plain)), AppConfig):
        check(cfg)


def test_every_option_composes():
    """The defaults of every group's every option are a config that is written and read back."""
    for group, options in OPTIONS.items():
        for option in options:
            if group != "hydra/launcher":
                plain = defaults(**{group: option})
                cfg = attempt("options", lambda plain=plain: from_mapping(AppConfig, plain))
                assert isinstance(cfg, AppConfig), (group, option, cfg)
                check(cfg)


def test_every_field_is_attacked():
    """Every field of every dataclass of the config, those of unions too, is among the keys."""

    def names(kind: type, prefix: str) -> set[str]:
        hints = typing.get_type_hints(kind)
        fields = {prefix + field.name for field in dataclasses.fields(kind)}
        inner = [
            (field.name, member)
            for field in dataclasses.fields(kind)
            for member in (hints[field.name], *typing.get_args(hints[field.name]))
            if dataclasses.is_dataclass(member)
        ]
        return fields.union(*(names(typing.cast(type, member), f"{prefix}{name}.") for name, member in inner))

    assert names(AppConfig, "") == set(KEYS)
    for key in KEYS:
        assert key.rpartition(".")[2] in str(defaults_once(**option_with(key))), key


_defaults: dict[str, dict] = {}


def defaults_once(**chosen: str) -> dict:
    """`defaults`, composed once."""
    import copy

    key = str(sorted(chosen.items()))
    if key not in _defaults:
        _defaults[key] = defaults(**chosen)
    return copy.deepcopy(_defaults[key])


@seeded(120)
@given(values)
def test_any_value_as_a_whole_config(value):
    if isinstance(value, dict):
        attempt("whole configs", lambda: from_mapping(AppConfig, value))
    for group in GROUPS:
        attempt(
            "whole configs", lambda group=group: from_mapping(AppConfig, {**defaults_once(), group: value})
        )
