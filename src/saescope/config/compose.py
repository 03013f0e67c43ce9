"""Composes conf/ with Hydra, and rewrites Hydra's errors as one line with the valid names."""

import dataclasses
import re
import shlex
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from saescope.config.app import AppConfig
from saescope.config.convert import from_mapping, members
from saescope.config.location import config_dir
from saescope.errors import ConfigError, SaescopeError, choices, line, nearest

HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError, OSError)
"""What composing raises for a mistake of the user."""

PLUGINS = {
    "hydra/sweeper=optuna": "hydra-optuna-sweeper",
    "hydra/sweeper=ax": "hydra-ax-sweeper",
    "hydra/sweeper=nevergrad": "hydra-nevergrad-sweeper",
    "hydra/launcher=rq": "hydra-rq-launcher",
    "hydra/launcher=ray": "hydra-ray-launcher",
}
"""Options that exist once their package is installed."""

_OFF = {"tracking": "disabled", "dynamic_k": "none", "causal": "none", "experiment": "none", "sweep": "none"}
"""What is left when a group of the defaults is deleted (`~tracking`)."""


def compose(*overrides: str) -> AppConfig:
    """The configuration that `saescope OVERRIDES…` would run with: `compose("sae=train", "sae.k=16")`.

    Raises ConfigError, in one line, for an unknown key or option and for a value that is not valid.

    Example:
        >>> cfg = saescope.compose("sae=train", "sae.k=16")
        >>> cfg.sae.source, cfg.sae.k, cfg.sae.optimizer
        ('train', 16, 'signum')
    """
    readable = in_grammar(overrides)
    for override in readable:
        key, _, preset = override.partition("=")
        if key == "sweep" and preset not in ("none", ""):
            raise ConfigError(f"{override} is several jobs; compose one job, or run saescope -m {override}")
    return to_config(composed("config", readable))


def in_grammar(overrides: Iterable[str]) -> list[str]:
    """The same overrides in Hydra's grammar, with habits from other applications translated.

    `+experiment=smoke` is `experiment=smoke`, as for every group and key that is there already, and
    `~tracking` is `tracking=disabled`. Raises ConfigError for one that cannot be read, and shows it quoted.
    """
    groups = {path.name for path in Path(config_dir()).iterdir() if path.is_dir() and path.name != "hydra"}
    present = {*groups, "hydra/launcher", "hydra/sweeper", *config_keys(AppConfig)}
    readable = []
    for override in overrides:
        if override.startswith("~") and override[1:] in _OFF:
            override = f"{override[1:]}={_OFF[override[1:]]}"
        elif override.startswith("+") and override.lstrip("+").partition("=")[0] in present:
            override = override.lstrip("+")
        _check_grammar(override)
        _check_option(override, groups)
        readable.append(override)
    return readable


def _check_grammar(override: str) -> None:
    """Raise ConfigError for an override that Hydra cannot read; the message can be pasted into a shell."""
    parser = OverridesParser.create()
    try:
        parser.parse_override(override)
    except HydraException:
        pass
    else:
        return
    key, equals, value = override.partition("=")
    quoted = f"{key}={_quoted(value)}"
    try:
        parser.parse_override(quoted)
    except HydraException:
        equals = ""  # quotes do not help: the key is wrong
    if not equals:
        raise ConfigError(
            f"cannot read '{override}'; write overrides as key=value, and text with spaces in quotes, "
            "see `saescope --help`"
        )
    raise ConfigError(
        f"cannot read '{override}'; write overrides as key=value, lists as key=[a,b], and text with other "
        f"characters than letters a-z, digits and . / - _ in quotes within quotes: {shlex.quote(quoted)}"
    )


def _check_option(override: str, groups: Collection[str]) -> None:
    """Raise ConfigError for a list where a group has one option.

    Hydra would put one over the other without a word, and ends in a traceback where an item is no text.
    """
    parsed = OverridesParser.create().parse_override(override)
    group = parsed.key_or_group
    options = parsed.value()
    if (group not in groups and not group.startswith("hydra/")) or not isinstance(options, list):
        return
    if group in groups or not all(isinstance(option, str | QuotedString) for option in options):
        raise ConfigError(
            f"{override}: {group} takes one option, not a list; choose {group}=OPTION, or a sweep over "
            f"several: saescope -m {group}=OPTION,OPTION"
        )


def _quoted(value: str) -> str:
    """`value` as a quoted string of Hydra's grammar: a backslash counts before a quote or the end only."""
    mark = "'" if '"' in value else '"'
    escaped = re.sub(rf"(\\*)({mark}|$)", lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), value)
    return f"{mark}{escaped}{mark}"


def composed(name: str, overrides: Sequence[str], root: type = AppConfig) -> DictConfig:
    """`conf/<name>.yaml` with overrides; errors name the keys of the dataclass `root`. Raises ConfigError."""
    outer = GlobalHydra.instance().hydra  # state of a Hydra application that calls this function
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir(), version_base="1.3"):
            return hydra.compose(name, overrides=list(overrides))
    except HYDRA_ERRORS as error:
        raise ConfigError(in_one_line(error, root)) from error
    finally:
        GlobalHydra.instance().hydra = outer


def to_config(values: DictConfig) -> AppConfig:
    """The values that Hydra composed, as `AppConfig`. Raises ConfigError."""
    return from_mapping(AppConfig, plain(values))


def plain(values: DictConfig, root: type = AppConfig) -> dict[str, Any]:
    """The values as plain dictionaries and lists, interpolations resolved. Raises ConfigError."""
    try:
        return cast(dict[str, Any], OmegaConf.to_container(values, resolve=True))
    except HYDRA_ERRORS as error:
        raise ConfigError(in_one_line(error, root)) from error


def in_one_line(error: Exception, root: type = AppConfig) -> str:
    """`error` of the configuration class `root` in one line, with what was valid."""
    if isinstance(error, SaescopeError):
        return str(error)
    command = "saescope --cfg job" if root is AppConfig else "saescope-coverage --help"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        valid = [name for name in error.options if name]
        if package := PLUGINS.get(f"{group}={option}"):
            return f"{group}={option} needs a plugin: pip install {package}"
        return f"{group}={option} is not known: {nearest(option, valid)}valid: {choices(valid)}"
    text = line(str(error))
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}; choose another hydra.run.dir or hydra.sweep.dir"
    match = re.search(r"[Cc]ould not override '([^']+)'", text)
    if isinstance(error, ConfigCompositionException) and match:
        key = match[1].split("@")[0]
        parent, _, last = key.rpartition(".")
        hints = config_keys(root)
        if message := _union_key_error(key, hints, error):
            return message
        if typing.get_origin(hints.get(parent)) is Mapping:
            return f"{parent} has no {last} yet; put a + before it: +{key}=VALUE"
        if key in hints:
            return f"'{key}' does not apply to the chosen option of '{parent}'; see conf/{parent}/"
        siblings = [k.rpartition(".")[2] for k in hints if k.rpartition(".")[0] == parent]
        if siblings and not key.startswith("hydra"):
            return (
                f"unknown key '{key}': {nearest(last, siblings)}"
                f"valid under '{parent or 'the top level'}': {choices(siblings)}"
            )
        return f"unknown key '{key}': {nearest(key, hints)}`{command}` prints all keys"
    return f"{text.removesuffix('.')}; write overrides as key=value, see `{command.split()[0]} --help`"


def config_keys(kind: type, prefix: str = "") -> dict[str, Any]:
    """Dotted names of all fields and groups, with their types; a union has the fields of all members."""
    keys: dict[str, Any] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        keys[prefix + field.name] = hint
        for inner in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
            if dataclasses.is_dataclass(inner):
                keys |= config_keys(cast(type, inner), f"{prefix}{field.name}.")
    return keys


def _union_key_error(key: str, hints: Mapping[str, Any], error: Exception) -> str | None:
    """The error of `from_mapping` for a key under a union of dataclasses; None for a valid key."""
    group, _, name = key.partition(".")
    union = hints.get(group)
    if not (name and isinstance(union, types.UnionType)):
        return None
    node = getattr(error.__cause__, "parent_node", None)  # of the group, as it was composed up to here
    tag, _ = members(union)
    if not (isinstance(node, DictConfig) and tag in node):
        return None
    try:
        from_mapping(union, {tag: node[tag], name.partition(".")[0]: None}, f"{group}.")
    except ConfigError as mismatch:
        return str(mismatch)
    return None
