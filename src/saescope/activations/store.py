"""Opens the activations of a job: from the cache of `runtime.cache`, or from the model every time."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch

from saescope.activations.cache import ActivationCache, open_cache
from saescope.activations.cached import CachedActivations
from saescope.activations.key import activation_key, model_digest
from saescope.activations.source import ActivationSource
from saescope.model.hookpoints import Hookpoint
from saescope.runtime.meter import Meter
from saescope.text.packing import Ids
from saescope.text.windows import Windows

log = logging.getLogger(__name__)

Live = Callable[[Sequence[Hookpoint]], ActivationSource]
"""Activations of some hookpoints from the model, side by side."""


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

    def has_room(self, tokens: int, width: int) -> bool:
        """Whether activations [tokens, width] fit under the cap of the cache."""
        num_bytes = tokens * width * self._dtype.itemsize
        return self.cache is not None and num_bytes <= self.cache.cap_bytes

    @contextmanager
    def opened(
        self,
        live: Live,
        hookpoint: Hookpoint,
        rows: Ids | Windows,
        *,
        companions: Callable[[], Iterable[Hookpoint]] = tuple,
        fill: bool = True,
        missing: str = "model",
    ) -> Iterator[ActivationSource]:
        """Activations of `hookpoint` over `rows`, from the cache if there is one.

        `fill` runs the language model now for all missing shards, with progress under the name `missing`, and
        writes the shards of the `companions` in the same passes: hookpoints that other jobs will read, called
        when something is missing. Without it (several processes) the first process that needs a shard
        computes it.
        """
        source = live([hookpoint])
        if self.cache is None:
            yield source
            return
        with ExitStack() as stack:
            cached = stack.enter_context(self._cached(self.cache, source, hookpoint, rows))
            if fill and (tokens := cached.missing_tokens):
                with ExitStack() as while_filling, Meter(missing, tokens, "tokens") as meter:
                    others = {
                        while_filling.enter_context(
                            self._cached(self.cache, live([point]), point, rows)
                        ): point
                        for point in companions()
                    }
                    self._together(cached, hookpoint, others, live)
                    cached.build(meter.advance)
                    cached.companions = []
            yield cached

    def _cached(
        self, cache: ActivationCache, live: ActivationSource, hookpoint: Hookpoint, rows: Ids | Windows
    ) -> CachedActivations:
        return CachedActivations(
            cache, activation_key(self.model, hookpoint, rows, live.d_in, self._dtype), live
        )

    def _together(
        self,
        cached: CachedActivations,
        hookpoint: Hookpoint,
        others: dict[CachedActivations, Hookpoint],
        live: Live,
    ) -> None:
        """Let `cached` fill as many of the others as the cap of the cache has room for."""
        assert self.cache is not None
        point_of = {cached: hookpoint, **others}
        room = self.cache.cap_bytes - cached.layout.total_bytes
        for other in others:
            num_bytes = other.layout.total_bytes
            if other.missing_tokens and other.layout.same_rows(cached.layout) and num_bytes <= room:
                room -= num_bytes
                cached.companions.append(other)
        cached.live_together = lambda sources: live([point_of[source] for source in sources])
        if cached.companions:
            log.info(
                "activation cache: one pass of the model for %d hookpoints (%.2f GB): %s",
                1 + len(cached.companions),
                (1 + len(cached.companions)) * cached.layout.total_bytes / 1e9,
                ", ".join(point_of[source].label for source in [cached, *cached.companions]),
            )
