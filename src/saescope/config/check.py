"""Checks shared by the groups' `__post_init__`: each raises a ConfigError that names the key."""

from collections.abc import Sequence

from saescope.errors import ConfigError, choices, nearest


def one_of(key: str, value: str, valid: Sequence[str]) -> None:
    """`value` is one of `valid`."""
    if value not in valid:
        raise ConfigError(f"{key}={value} is not known: {nearest(value, valid)}valid: {choices(valid)}")


def at_least(key: str, value: float | None, least: float) -> None:
    """`value` is null or at least `least`."""
    if value is not None and not value >= least:
        raise ConfigError(f"{key}={value} is too small: it must be {least:g} or more")


def is_seed(key: str, value: int) -> None:
    """`value` is a seed that numpy, torch and scikit-network all take."""
    between(key, value, 0, 2**32 - 1)


def between(key: str, value: float | None, low: float, high: float) -> None:
    """`value` is null or lies in [low, high]."""
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{key}={value} is out of range: it must lie between {low:.10g} and {high:.10g}")
