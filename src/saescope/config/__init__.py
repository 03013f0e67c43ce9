"""Typed configuration: one frozen dataclass per config group, filled from conf/ by `cli.py`."""

from saescope.config.app import AppConfig
from saescope.config.catalogue import CoverageConfig
from saescope.config.convert import from_mapping
from saescope.config.corpus import CorpusConfig
from saescope.config.dynamic_k import DynamicKConfig
from saescope.config.hookpoint import HookpointConfig
from saescope.config.location import config_dir
from saescope.config.metrics import MetricsConfig
from saescope.config.model import ModelConfig
from saescope.config.probes import ProbesConfig
from saescope.config.runtime import RuntimeConfig
from saescope.config.sae import SaeConfig
from saescope.config.tracking import TrackingConfig

__all__ = [
    "AppConfig",
    "CorpusConfig",
    "CoverageConfig",
    "DynamicKConfig",
    "HookpointConfig",
    "MetricsConfig",
    "ModelConfig",
    "ProbesConfig",
    "RuntimeConfig",
    "SaeConfig",
    "TrackingConfig",
    "config_dir",
    "from_mapping",
]
