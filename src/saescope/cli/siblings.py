"""The hookpoints of a sweep's other jobs: jobs that differ from this one in the hookpoint alone."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from saescope.config import HookpointConfig, from_mapping
from saescope.errors import ConfigError

GROUP = "hookpoint"

Axes = Mapping[str, Sequence[str]]
"""Values of each swept key, as they are written on the command line."""


def hookpoint_axes(axes: Axes) -> dict[str, list[str]]:
    """Those axes that choose the hookpoint."""
    return {key: list(values) for key, values in axes.items() if key.partition(".")[0] == GROUP}


def siblings(
    hookpoint: Mapping[str, Any],
    axes: Axes,
    options: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str],
) -> tuple[HookpointConfig, ...]:
    """The hookpoint of every job that a sweep over `axes` has beside this one, all other settings equal.

    Args:
        hookpoint: the hookpoint settings of this job.
        axes: `hookpoint_axes`.
        options: settings of every option of the group `hookpoint` that is swept.
        overrides: those of this job, axes included.
    """
    this = from_mapping(HookpointConfig, hookpoint)
    return tuple(other for other in dict.fromkeys(_all(hookpoint, axes, options, overrides)) if other != this)


def _all(
    hookpoint: Mapping[str, Any],
    axes: Axes,
    options: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str],
) -> Iterator[HookpointConfig]:
    words = [word.lstrip("+").partition("=") for word in overrides]
    fixed = {key: value for key, _, value in words if key.startswith(f"{GROUP}.") and key not in axes}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        option = chosen.pop(GROUP, None)
        settings = dict(hookpoint if option is None else options.get(option, {}))
        for key, value in ({} if option is None else fixed).items() | chosen.items():
            settings[key.removeprefix(f"{GROUP}.")] = yaml.safe_load(value)
        try:
            yield from_mapping(HookpointConfig, settings)
        except ConfigError:  # that job will say so
            continue
