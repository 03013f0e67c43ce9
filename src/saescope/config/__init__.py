"""Typed configuration: one frozen dataclass per config group, one per source of an SAE.

`saescope.config.compose` fills them from conf/; it is imported by its own name, since it needs Hydra.
"""

from saescope.config.app import AppConfig
from saescope.config.applicable import applicable
from saescope.config.catalogue import CoverageConfig
from saescope.config.causal import Ablate, Attribute, CausalConfig, NoCausal
from saescope.config.convert import from_mapping
from saescope.config.corpus import CorpusConfig
from saescope.config.dynamic_k import DynamicKConfig
from saescope.config.hookpoint import HookpointConfig
from saescope.config.location import config_dir
from saescope.config.metrics import MetricsConfig
from saescope.config.model import ModelConfig
from saescope.config.probes import ProbesConfig
from saescope.config.recipe import Recipe
from saescope.config.runtime import RuntimeConfig
from saescope.config.sae import (
    DirectionsSae,
    HubSae,
    NeuronSae,
    PcaSae,
    PythonSae,
    RandomSae,
    SaeConfig,
    SaeLensSae,
    TrainSae,
)
from saescope.config.tracking import TrackingConfig

__all__ = [
    "Ablate",
    "AppConfig",
    "Attribute",
    "CausalConfig",
    "CorpusConfig",
    "CoverageConfig",
    "DirectionsSae",
    "DynamicKConfig",
    "HookpointConfig",
    "HubSae",
    "MetricsConfig",
    "ModelConfig",
    "NeuronSae",
    "NoCausal",
    "PcaSae",
    "ProbesConfig",
    "PythonSae",
    "RandomSae",
    "Recipe",
    "RuntimeConfig",
    "SaeConfig",
    "SaeLensSae",
    "TrackingConfig",
    "TrainSae",
    "applicable",
    "config_dir",
    "from_mapping",
]
