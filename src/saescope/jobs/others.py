"""What a job of a sweep may do for the other jobs while it is at it."""

from dataclasses import dataclass

from saescope.config import HookpointConfig, TrainSae


@dataclass(frozen=True)
class OtherJobs:
    """Jobs of the sweep without a result yet that differ from this one in one group alone."""

    hookpoints: tuple[HookpointConfig, ...] = ()
    """They read the same text with the same model: its activations are stored in the same passes."""

    trainings: tuple[TrainSae, ...] = ()
    """They train on the same activations: side by side, where these cannot be stored."""

    together: bool = False
    """Train side by side in any case."""


NONE = OtherJobs()
