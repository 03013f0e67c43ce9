"""Activations of training rows and probe windows: from the model, or from a cache that all jobs share."""

from saescope.activations.cache import ActivationCache, NoRoomError, open_cache
from saescope.activations.cached import CachedActivations
from saescope.activations.key import ActivationKey, activation_key, model_digest, weights_digest
from saescope.activations.source import (
    ActivationSource,
    LiveActivations,
    LiveWindows,
    laid_end_to_end,
    row_order,
)
from saescope.activations.store import ActivationStore
from saescope.errors import CacheError

__all__ = [
    "ActivationCache",
    "ActivationKey",
    "ActivationSource",
    "ActivationStore",
    "CacheError",
    "CachedActivations",
    "LiveActivations",
    "LiveWindows",
    "NoRoomError",
    "activation_key",
    "laid_end_to_end",
    "model_digest",
    "open_cache",
    "row_order",
    "weights_digest",
]
