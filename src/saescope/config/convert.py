"""Plain nested dictionaries → frozen dataclasses, with one-line errors that name the key."""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast, overload

from saescope.config.check import one_of
from saescope.errors import ConfigError, choices, nearest

T = TypeVar("T")

LARGEST = 2**53
"""Whole numbers up to here pass through floats and JSON unchanged."""
LONGEST = 4096
"""Bytes of a text, as of a path on Linux …"""
LONGEST_NAME = 255
"""… and of one name in it."""


@overload
def from_mapping(kind: type[T], values: Mapping[str, Any], prefix: str = "") -> T: ...
@overload
def from_mapping(kind: types.UnionType, values: Mapping[str, Any], prefix: str = "") -> Any: ...
def from_mapping(kind: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Build the dataclass `kind`, or the member of a union that `values` names, from `values`.

    The members of a union are told apart by a field that each types as another `Literal` (`source` of SAEs).

    Raises ConfigError for unknown or missing keys (with the nearest valid name, or the member of the union
    that has such a key) and for values of the wrong type. Numbers are not guessed: "8" and 8.5 are
    no integers, true is no number. A single value for a list becomes a list of that value.
    """
    if isinstance(kind, types.UnionType):
        kind = _member(kind, values, prefix)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            raise ConfigError(
                f"unknown key '{prefix}{key}': {nearest(str(key), fields)}"
                f"valid under '{prefix.rstrip('.') or 'the top level'}': {choices(fields)}"
            )
    converted: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            converted[name] = _value(hints[name], values[name], prefix + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(
                f"'{prefix}{name}' is missing; set it on the command line: {prefix}{name}=VALUE"
            )
    return kind(**converted)


def members(union: types.UnionType) -> tuple[str, dict[str, type]]:
    """The field that tells the dataclasses of a union apart, and the classes by its value."""
    by_value: dict[str, type] = {}
    tag = ""
    for kind in typing.get_args(union):
        for name, hint in typing.get_type_hints(kind).items():
            if typing.get_origin(hint) is Literal:
                tag = name
                by_value[typing.get_args(hint)[0]] = kind
    return tag, by_value


def _member(union: types.UnionType, values: Mapping[str, Any], prefix: str) -> type:
    """The class that `values` name. Raises ConfigError for a key of another member too."""
    group = prefix.rstrip(".")
    tag, by_value = members(union)
    if tag not in values:
        raise ConfigError(f"'{prefix}{tag}' is missing; choose {group}={' or '.join(by_value)}")
    value = _value(str, values[tag], prefix + tag)
    one_of(prefix + tag, value, list(by_value))
    keys_of = {name: [field.name for field in dataclasses.fields(kind)] for name, kind in by_value.items()}
    for key in values:
        owners = [name for name, keys in keys_of.items() if key in keys]
        if owners and value not in owners:
            raise ConfigError(
                f"{prefix}{key} is for {group}={' or '.join(owners)}, not for {group}={value}, "
                f"which takes {choices(name for name in keys_of[value] if name != tag)}"
            )
    return by_value[value]


def _value(hint: Any, value: Any, key: str) -> Any:
    """`value` as the annotated type, or a ConfigError that names `key`."""
    if value == "???":
        raise ConfigError(f"'{key}' must be given; set it on the command line: {key}=VALUE")
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        inner = [option for option in options if option is not type(None)]
        if len(inner) == 1:
            return _value(inner[0], value, key)
    if dataclasses.is_dataclass(hint) or origin is types.UnionType:
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"'{key}' is a group of values, not {value!r}; choose {key}=OPTION or {key}.NAME=VALUE"
            )
        return from_mapping(cast(Any, hint), value, key + ".")
    if origin is Literal:
        (only,) = typing.get_args(hint)
        if value != only:
            raise ConfigError(f"'{key}' must be {only}, not {value!r}")
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"'{key}' must be names and values, such as {key}={{width: 3}}, not {value!r}")
        return _plain(value, key)
    if origin is tuple:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            value = [value]  # one value, as a sweep gives it
        if not isinstance(value, list | tuple):
            raise ConfigError(f"'{key}' must be a list, such as [a,b], not {value!r}")
        return tuple(_value(typing.get_args(hint)[0], item, key) for item in value)
    if hint in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        _in_range(value, key, whole=hint is int)
        if hint is float or value == int(value):
            return hint(value)
    if hint is str and isinstance(value, str):
        return _text(value, key)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise ConfigError(f"'{key}' must be {names[hint]}, not {value!r}")
    return value


def _plain(value: Any, key: str) -> Any:
    """Nested names and values that JSON and YAML can represent."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ConfigError(f"'{key}' must have texts as names, not {name!r}")
        return {_text(name, key): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        _in_range(value, key, whole=False)
        return value
    return _value(str, value, key)


def _in_range(value: int | float, key: str, *, whole: bool) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"'{key}' must be a finite number, not {value}")
    if (isinstance(value, int) or whole) and abs(value) > LARGEST:
        raise ConfigError(f"'{key}' is out of range: it must lie between -2^53 and 2^53")


def _text(value: str, key: str) -> str:
    """Text that can be written to a file and used as a path."""
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise ConfigError(f"'{key}' is no UTF-8 text: {value!a}; rename what it names") from None
    if "\0" in value:
        raise ConfigError(f"'{key}' must not hold a NUL character: {value!r}")
    if size > LONGEST or any(len(part.encode()) > LONGEST_NAME for part in value.split("/")):
        raise ConfigError(
            f"'{key}' is too long: at most {LONGEST} bytes, and {LONGEST_NAME} between slashes: {value[:80]}…"
        )
    path = not key.startswith("tracking.")
    if path and value.startswith("~") and os.path.expanduser(value).startswith("~"):
        raise ConfigError(f"'{key}' names a home folder that does not exist: {value}; write the whole path")
    return value
