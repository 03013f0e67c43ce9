"""Opens the activations of a job: from the cache of `runtime.cache`, or from the model every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from saescope.activations.cache import open_cache
from saescope.activations.cached import CachedActivations
from saescope.activations.key import activation_key, model_digest
from saescope.activations.source import ActivationSource
from saescope.model.hookpoints import Hookpoint
from saescope.runtime.meter import Meter
from saescope.text.packing import Ids
from saescope.text.windows import Windows


class ActivationStore:
    """One model's activations in one precision."""

    def __init__(self, setting: str, cap_gb: float, model: Any, dtype: torch.dtype) -> None:
        """`setting` is `runtime.cache`. Raises CacheError when the folder cannot be written."""
        self.cache = open_cache(setting, cap_gb)
        self._model, self._dtype = model, dtype

    @cached_property
    def model(self) -> str:
        """Hash of the model (`model_digest`)."""
        return model_digest(self._model)

    @contextmanager
    def opened(
        self,
        live: ActivationSource,
        hookpoint: Hookpoint,
        rows: Ids | Windows,
        *,
        fill: bool = True,
        missing: str = "model",
    ) -> Iterator[ActivationSource]:
        """`live`, behind the cache if there is one.

        `fill` runs the language model now for all missing shards, with progress under the name `missing`;
        without it (several processes) the first process that needs a shard computes it.
        """
        if self.cache is None:
            yield live
            return
        key = activation_key(self.model, hookpoint, rows, live.d_in, self._dtype)
        with CachedActivations(self.cache, key, live) as source:
            if fill and (tokens := source.missing_tokens):
                with Meter(missing, tokens, "tokens") as meter:
                    source.build(meter.advance)
            yield source
