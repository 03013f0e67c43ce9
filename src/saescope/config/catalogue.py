"""Configuration of `saescope-coverage`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saescope.config.check import at_least, between, one_of
from saescope.config.hookpoint import KINDS as HOOKPOINT_KINDS
from saescope.errors import ConfigError, choices, nearest

KINDS = tuple(kind for kind in HOOKPOINT_KINDS if kind != "custom")
FLAGS = ("--help", "--live", "--version")
LISTS = ("models", "kind", "layers", "depth")


@dataclass(frozen=True)
class CoverageConfig:
    """Which hookpoints to look up, and where to write the table."""

    models: tuple[str, ...]
    """Names (`pythia-70m`, `pythia-70m-deduped`), Hub ids, folders."""

    kind: tuple[str, ...] = ("resid",)
    """Of `resid`, `mlp`, `attention`; `all` for the three."""

    layers: tuple[int, ...] | None = None
    """0-based blocks; null: by depth."""

    depth: tuple[float, ...] = (0.25, 0.5, 0.75)
    """0 to 1, as in `hookpoint.depth`."""

    expansion: int = 32
    """num_latents / width of an SAE to be trained."""

    k: int = 32
    """Active latents per token of an SAE to be trained."""

    csv: str | None = None
    """File for the table as CSV."""

    json: str | None = None
    """File for the table as JSON, with all that is known about each row."""

    markdown: str | None = None
    """File for the table as Markdown."""

    live: bool = False
    """Ask the Hub for the current contents of the repositories."""

    def __post_init__(self) -> None:
        for kind in self.kind:
            one_of("kind", kind, (*KINDS, "all"))
        for layer in self.layers or ():
            at_least("layers", layer, 0)
        for depth in self.depth:
            between("depth", depth, 0.0, 1.0)
        at_least("expansion", self.expansion, 1)
        at_least("k", self.k, 1)
        if not self.models or not all(model.strip() for model in self.models):
            raise ConfigError("models is empty; give names, such as models=pythia-70m,gpt2")
        if not self.kind or not (self.depth if self.layers is None else self.layers):
            raise ConfigError("no hookpoint is asked for; give layers=3 or depth=0.5, and kind=resid")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The requested kinds, `all` replaced by all kinds."""
        return KINDS if "all" in self.kind else tuple(dict.fromkeys(self.kind))


def override(arg: str) -> str:
    """A word of the command line as an override in Hydra's grammar.

    There are no sweeps here, so `models=a,b` is a list. Raises ConfigError for a flag that does not exist.
    """
    if arg == "--live":
        return "live=true"
    if arg.startswith("-"):
        raise ConfigError(
            f"unknown flag '{arg}': {nearest(arg, FLAGS)}valid: {choices(FLAGS)}; all else is key=value"
        )
    key, _, value = arg.partition("=")
    if key.startswith("hydra"):
        raise ConfigError(f"unknown key '{key}': saescope-coverage starts no jobs; see its --help")
    is_list = key in LISTS and "," in value and not re.search(r"[\[\](){}'\"]", value)
    return f"{key}=[{value}]" if is_list else arg


def listed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values; a single value of a list key becomes a list (`models=gpt2`)."""
    return {
        key: [value] if key in LISTS and not isinstance(value, list | None) else value
        for key, value in values.items()
    }
