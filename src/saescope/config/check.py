"""Checks of single values, for `__post_init__`: each raises a ConfigError that names the key."""

from collections.abc import Sequence

from saescope.errors import ConfigError, choices, nearest


def one_of(key: str, value: str, valid: Sequence[str]) -> None:
    """Raise ConfigError unless `value` is one of `valid`."""
    if value not in valid:
        raise ConfigError(f"{key}={value} is not known: {nearest(value, valid)}valid: {choices(valid)}")


def at_least(key: str, value: float | None, least: float) -> None:
    """Raise ConfigError unless `value` is null or at least `least`."""
    if value is not None and not value >= least:
        raise ConfigError(f"{key}={value} is too small: it must be {least:g} or more")


def is_seed(key: str, value: int) -> None:
    """Raise ConfigError unless `value` is a seed that numpy, torch and scikit-network all accept."""
    between(key, value, 0, 2**32 - 1)


def between(key: str, value: float | None, low: float, high: float) -> None:
    """Raise ConfigError unless `value` is null or in [low, high]."""
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{key}={value} is out of range: it must lie between {low:.10g} and {high:.10g}")
