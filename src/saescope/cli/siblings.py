"""The other jobs of a sweep that differ from this one in one config group alone, such as the hookpoint."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from saescope.cli.command import command
from saescope.cli.command_line import preset_of
from saescope.config import AppConfig, HookpointConfig, SaeConfig, TrainSae, from_mapping
from saescope.errors import ConfigError
from saescope.jobs.job import Context

Axes = Mapping[str, Sequence[str]]
"""Values of each swept key, as they are written on the command line."""


def with_other_jobs(context: Context, cfg: AppConfig) -> Context:
    """The context of the job that Hydra runs, with what other jobs of its sweep have in common with it."""
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return context
    folders = [source.path for source in hydra_cfg.runtime.config_sources if source.schema == "file"]

    def others(kind: Any, group: str, settings: Any) -> tuple[Any, ...]:
        axes = axes_of(group, command().axes)
        options = {name: preset_of(folders, group, name) for name in axes.get(group, ())}
        return siblings(kind, group, dataclasses.asdict(settings), axes, options, context.overrides)

    saes = others(SaeConfig, "sae", cfg.sae) if isinstance(cfg.sae, TrainSae) else ()
    return dataclasses.replace(
        context,
        hookpoints=others(HookpointConfig, "hookpoint", cfg.hookpoint),
        trainings=tuple(sae for sae in saes if isinstance(sae, TrainSae)),
        together=hydra_cfg.runtime.choices.get("hydra/launcher") == "together",
    )


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
    words = [word.lstrip("+").partition("=") for word in overrides]
    fixed = {key: value for key, _, value in words if key.startswith(f"{group}.") and key not in axes}
    others: list[Any] = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        option = chosen.pop(group, None)
        job = dict(settings if option is None else options.get(option, {}))
        for key, value in ({} if option is None else fixed).items() | chosen.items():
            job[key.removeprefix(f"{group}.")] = yaml.safe_load(value)
        with suppress(ConfigError):  # that job will say so
            others.append(from_mapping(kind, job))
    this = from_mapping(kind, settings)
    return tuple(other for other in dict.fromkeys(others) if other != this)
