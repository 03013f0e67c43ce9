"""The words of a command as Hydra needs them, and of a sweep's keys those that apply to a job."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from saescope.config import AppConfig, config_dir, from_mapping
from saescope.config.applicable import takes, without_keys_of_others
from saescope.config.compose import HYDRA_ERRORS, in_grammar, plain, to_config
from saescope.errors import ConfigError, choices, nearest
from saescope.version import __version__

VALUE_FLAGS = (
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
    "--experimental-rerun", "--info", "-i",
)  # fmt: skip
"""Flags of Hydra whose next word is their value."""
FLAGS = (
    *VALUE_FLAGS, "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
    "--shell-completion", "-sc",
)  # fmt: skip
HOOKPOINT_LISTS = ("hookpoint.layer", "hookpoint.depth", "hookpoint.name")
"""Keys whose list is an axis: a job has one hookpoint."""
SWEEP_FLAGS = ("-m", "--multirun", "hydra.mode=MULTIRUN")


@dataclass(frozen=True)
class Command:
    """A command line, read."""

    words: tuple[str, ...]
    """What Hydra gets."""
    num_jobs: int | None
    """Jobs of a sweep; None for a single job, and where only the sweeper knows."""
    axes: Mapping[str, list[str]] = field(default_factory=dict)
    """Values of each axis of a sweep over a product; none where only the sweeper knows."""


def version() -> str:
    """What `--version` prints."""
    return f"saescope {__version__} (Hydra {hydra.__version__})"


def read(words: Sequence[str]) -> Command:
    """The words after `saescope`, as Hydra needs them. Raises ConfigError for one that cannot be read."""
    flags: list[str] = []
    overrides: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        is_value = before in VALUE_FLAGS
        if word.startswith("-") and not is_value:
            _check_flag(word)
        (flags if is_value or word.startswith("-") else overrides).append(word)
    typed = in_grammar(overrides)
    overrides = [_one_hookpoint_a_job(override) for override in typed]
    is_sweep = bool({*SWEEP_FLAGS} & {*words})
    if overrides != typed and not is_sweep:
        flags, is_sweep = [*flags, "--multirun"], True
    num_jobs, axes = None, {}
    if is_sweep:
        sweep = _Sweep(words, overrides)
        overrides = [sweep.for_its_jobs(override) for override in overrides]
        num_jobs, axes = sweep.num_jobs(), sweep.axis_values()
    # flags last: argparse, which Hydra uses, refuses overrides on both sides of one
    return Command((*overrides, *flags), num_jobs, axes)


def _one_hookpoint_a_job(override: str) -> str:
    """`hookpoint.layer=[3,6,9]` as the axis `hookpoint.layer=3,6,9`."""
    parsed = OverridesParser.create().parse_override(override)
    key, values = parsed.get_key_element(), parsed.value()
    if key not in HOOKPOINT_LISTS or not isinstance(values, list):
        return override
    return f"{key}={','.join(map(str, values))}"


def _check_flag(word: str) -> None:
    """Raise ConfigError for a flag that Hydra does not have; argparse takes beginnings of long ones."""
    flag = word.partition("=")[0]
    long = flag.startswith("--")
    if not any(known.startswith(flag) if long else flag.startswith(known) for known in FLAGS):
        raise ConfigError(f"unknown flag '{word}': {nearest(flag, FLAGS)}valid: {choices(FLAGS)}")


@contextmanager
def arguments(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads its arguments from `sys.argv`: there they are `words`."""
    typed = list(sys.argv)
    sys.argv[1:] = words
    try:
        yield
    finally:
        sys.argv[:] = typed


def task_overrides() -> tuple[str, ...]:
    """The overrides of the job that Hydra runs; as they were typed where one of them cannot be resolved."""
    given = HydraConfig.get().overrides.task
    try:
        return tuple(given)
    except HYDRA_ERRORS:
        return tuple(cast(list[str], OmegaConf.to_container(given, resolve=False)))


def this_job(values: DictConfig) -> tuple[AppConfig, tuple[str, ...]]:
    """Configuration and overrides of the job that Hydra runs, without what is for others of its sweep.

    Raises ConfigError.
    """
    hydra_cfg = HydraConfig.get()
    overrides = task_overrides()
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return to_config(values), overrides
    forced = {word.lstrip("+").partition("=")[0]: word for word in overrides if word.startswith("++")}
    folders = [source.path for source in hydra_cfg.runtime.config_sources if source.schema == "file"]
    preset = preset_of(folders, "experiment", hydra_cfg.runtime.choices.get("experiment"))
    job, dropped = without_keys_of_others(plain(values), [*forced, *_dotted(preset)])
    gone = {forced[key] for key in dropped & set(forced)}
    return from_mapping(AppConfig, job), tuple(
        word.removeprefix("++") for word in overrides if word not in gone
    )


class _Sweep:
    """Which options of each group the jobs of a sweep have."""

    def __init__(self, words: Sequence[str], overrides: Sequence[str]) -> None:
        parser = OverridesParser.create()
        own = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--config-dir", "-cd")]
        self.folders = [*own, config_dir()]
        self.typed = {parsed.get_key_element(): parsed for parsed in parser.parse_overrides(list(overrides))}
        preset = self._one("sweep")
        params = (
            preset_of(self.folders, "sweep", preset).get("hydra", {}).get("sweeper", {}).get("params", {})
        )
        axes = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
        self.axes = {axis.get_key_element(): axis for axis in axes} | self.typed
        self.searched = "hydra/sweeper" in self.typed
        defaults = preset_of([config_dir()], "", "config").get("defaults", [])
        self.defaults = {
            group: option for entry in defaults if isinstance(entry, dict) for group, option in entry.items()
        }

    def for_its_jobs(self, override: str) -> str:
        """The override of a key that not every option of its swept group takes, so that Hydra accepts it.

        Hydra applies what is not an axis to the default option too, and refuses a key that the default lacks.
        An axis of one value is for the jobs only; `++` adds the key to every job, and `this_job` drops it
        where it does not apply.
        """
        word, equals, value = override.partition("=")
        group, _, rest = word.lstrip("+").partition(".")
        options = self._options(group)
        key = rest.partition(".")[0]
        if not (options and key and equals) or word.startswith("~"):
            return override
        having = [takes(group, preset_of(self.folders, group, option), key) for option in options]
        default = takes(group, preset_of(self.folders, group, self.defaults.get(group)), key)
        if not any(having) or (all(having) and default):
            return override
        if not all(having):
            return f"++{override.lstrip('+')}"
        return override if self.typed[word].is_sweep_override() else f"{word}=choice({value or repr('')})"

    def num_jobs(self) -> int | None:
        """Number of jobs; None where the sweeper decides."""
        if self.searched:
            return None
        counts = [self._values(axis) for axis in self.axes.values() if axis.is_sweep_override()]
        return None if None in counts else math.prod(len(values) for values in counts if values is not None)

    def axis_values(self) -> dict[str, list[str]]:
        """Values of each axis; none where the sweeper decides."""
        if self.searched:
            return {}
        axes = {key: self._values(axis) for key, axis in self.axes.items() if axis.is_sweep_override()}
        return {} if None in axes.values() else {key: values or [] for key, values in axes.items()}

    def _options(self, group: str) -> list[str]:
        """Options of a group in the jobs; empty when the sweep does not choose among them."""
        if group in self.axes and (group not in self.typed or self.axes[group].is_sweep_override()):
            return self._values(self.axes[group]) or []
        presets = self.typed.get("experiment")
        if group in self.defaults and presets is not None and presets.is_sweep_override():
            chosen = [preset_of(self.folders, "experiment", name) for name in self._values(presets) or []]
            return [_overridden(preset).get(group, self.defaults[group]) for preset in chosen]
        return []

    def _values(self, axis: Override) -> list[str] | None:
        """The values of an axis, a fixed value as its only one; None for an interval."""
        values = axis.value()
        if isinstance(values, Glob):
            names = {
                path.stem
                for folder in self.folders
                for path in Path(folder, axis.key_or_group).glob("*.yaml")
            }
            return list(values.filter(sorted(names)))
        if not axis.is_sweep_override():
            return [str(values)]
        return list(axis.sweep_string_iterator()) if axis.is_discrete_sweep() else None

    def _one(self, group: str) -> str | None:
        override = self.typed.get(group)
        return None if override is None or override.is_sweep_override() else str(override.value())


def preset_of(folders: Sequence[str], group: str, option: str | None) -> dict[str, Any]:
    """Content of the file of an option in the first of `folders` that has it; empty for one that has none."""
    for folder in folders:
        path = Path(folder, group, f"{option}.yaml")
        if path.is_file():
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
    return {}


def _overridden(preset: Mapping[str, Any]) -> dict[str, str]:
    """Options of groups that a preset chooses, by group."""
    entries = [entry for entry in preset.get("defaults", []) if isinstance(entry, dict)]
    prefix = "override /"
    return {
        key.removeprefix(prefix): option
        for entry in entries
        for key, option in entry.items()
        if key.startswith(prefix)
    }


def _dotted(preset: Mapping[str, Any]) -> list[str]:
    """Keys of groups that a preset sets, as `group.key`."""
    return [f"{group}.{key}" for group, keys in preset.items() if isinstance(keys, dict) for key in keys]
