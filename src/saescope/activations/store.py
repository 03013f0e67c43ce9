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
        missing = [cached, *(other for other in others if other.missing_tokens)]
        passes = passes_for(missing, self.cache.cap_bytes)
        cached.companions = passes[0][1:]
        cached.live_together = lambda sources: live([point_of[source] for source in sources])
        if len(missing) > 1:
            log.info(
                "plan: activations of %d tokens at %d hookpoints of the sweep in %d %s of the model: "
                "%.3g GB, of which runtime.cache_gb=%g holds %s",
                cached.missing_tokens,
                len(missing),
                len(passes),
                "passes" if len(passes) > 1 else "pass",
                sum(source.missing_bytes for source in missing) / 1e9,
                self.cache.cap_bytes / 1e9,
                _held(missing, passes, self.cache.cap_bytes),
            )
        if cached.companions:
            log.info(
                "activation cache: one pass of the model for %d hookpoints (%.3g GB): %s",
                len(passes[0]),
                sum(source.missing_bytes for source in passes[0]) / 1e9,
                ", ".join(point_of[source].label for source in passes[0]),
            )


def passes_for(missing: Sequence[CachedActivations], cap_bytes: int) -> list[list[CachedActivations]]:
    """The passes of the model that fill all of `missing`, the first hookpoint of the list in the first pass.

    A pass has hookpoints with shards of the same rows, as many as fit under the cap together. A later pass
    evicts what jobs of an earlier one have read.
    """
    rest, passes = list(missing), []
    while rest:
        lead, *others = rest
        together, rest, room = [lead], [], cap_bytes - lead.layout.total_bytes
        for other in others:
            fits = other.layout.total_bytes <= room and other.layout.same_rows(lead.layout)
            (together if fits else rest).append(other)
            room -= other.layout.total_bytes if fits else 0
        passes.append(together)
    return passes


def _held(
    missing: Sequence[CachedActivations], passes: Sequence[Sequence[CachedActivations]], cap_bytes: int
) -> str:
    """How much of it the cap holds at a time."""
    if sum(source.layout.total_bytes for source in missing) <= cap_bytes:
        return "all at once"
    parts = [str(len(together)) for together in passes if together[0].layout.total_bytes <= cap_bytes]
    text = f"a part at a time: {' + '.join(parts) or 'no'} hookpoints"
    too_large = len(passes) - len(parts)
    return text + f", {too_large} too large by itself" * bool(too_large)
