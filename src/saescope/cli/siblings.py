"""The other jobs of a sweep that differ from this one in one config group alone, such as the hookpoint."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from saescope.config import from_mapping
from saescope.errors import ConfigError

Axes = Mapping[str, Sequence[str]]
"""Values of each swept key, as they are written on the command line."""


def axes_of(group: str, axes: Axes) -> dict[str, list[str]]:
    """Those axes that choose the option of `group` or a key of it."""
    return {key: list(values) for key, values in axes.items() if key.partition(".")[0] == group}


def siblings(
    kind: Any,
    group: str,
    settings: Mapping[str, Any],
    axes: Axes,
    options: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str],
) -> tuple[Any, ...]:
    """The settings of `group` in every job that differs from this one in them alone.

    Args:
        kind: dataclass of the settings, or union of dataclasses.
        group: name of the config group.
        settings: those of this job.
        axes: `axes_of` the group.
        options: settings of every option of the group that is swept.
        overrides: those of this job, axes included.
    """
    this = from_mapping(kind, settings)
    others = _all(kind, group, settings, axes, options, overrides)
    return tuple(other for other in dict.fromkeys(others) if other != this)


def _all(
    kind: Any,
    group: str,
    settings: Mapping[str, Any],
    axes: Axes,
    options: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str],
) -> Iterator[Any]:
    words = [word.lstrip("+").partition("=") for word in overrides]
    fixed = {key: value for key, _, value in words if key.startswith(f"{group}.") and key not in axes}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        option = chosen.pop(group, None)
        job = dict(settings if option is None else options.get(option, {}))
        for key, value in ({} if option is None else fixed).items() | chosen.items():
            job[key.removeprefix(f"{group}.")] = yaml.safe_load(value)
        try:
            yield from_mapping(kind, job)
        except ConfigError:  # that job will say so
            continue
