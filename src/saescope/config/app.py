"""The whole configuration of one job."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from saescope.config.check import is_seed
from saescope.config.corpus import CorpusConfig
from saescope.config.dynamic_k import DynamicKConfig
from saescope.config.hookpoint import HookpointConfig
from saescope.config.metrics import MetricsConfig
from saescope.config.model import ModelConfig
from saescope.config.probes import ProbesConfig
from saescope.config.runtime import RuntimeConfig
from saescope.config.sae import SaeConfig
from saescope.config.tracking import TrackingConfig


@dataclass(frozen=True)
class AppConfig:
    """One job: model → hookpoint → SAE → probes → metrics."""

    model: ModelConfig
    sae: SaeConfig
    hookpoint: HookpointConfig
    probes: ProbesConfig
    corpus: CorpusConfig
    metrics: MetricsConfig
    dynamic_k: DynamicKConfig
    runtime: RuntimeConfig
    tracking: TrackingConfig

    seed: int = 0
    """Permutations, bootstraps, graph nulls, Leiden, random-init weights."""

    force: bool = False
    """Measure again although a finished result of this very config exists."""

    def __post_init__(self) -> None:
        is_seed("seed", self.seed)

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, nested as on the command line."""
        return dataclasses.asdict(self)

    def scientific(self) -> dict[str, Any]:
        """The part that decides the numbers: no tracking, no force, no device or batch settings.

        `dtype` stays in: bfloat16 and float32 give slightly different numbers.
        """
        values = self.as_dict()
        for key in ("tracking", "force"):
            del values[key]
        if self.sae.source != "train":  # the corpus is read by training only
            del values["corpus"]
        del values["sae"]["save_every"]
        if self.dynamic_k.target == "none":
            del values["dynamic_k"]
        values["runtime"] = {"dtype": self.runtime.dtype}
        return values
