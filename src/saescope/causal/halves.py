"""The documents in two halves: one chooses latents, the other measures what they do."""

from dataclasses import dataclass

import numpy as np

from saescope.errors import ProbeError
from saescope.stats.arrays import AnyIntArray, BoolArray


@dataclass(frozen=True)
class Halves:
    """Masks over the D documents; no document is in both, and one without counted tokens is in neither."""

    choose_D: BoolArray
    """Documents on which latents are chosen."""

    measure_D: BoolArray
    """Documents on which effects are measured."""


def split_documents(tokens_D: AnyIntArray, task_D: AnyIntArray, tasks: tuple[str, ...], seed: int) -> Halves:
    """Half of each task's documents, drawn at random; of an odd number the larger part chooses.

    `tokens_D`: counted tokens of each document. Raises ProbeError for a task of a single document.
    """
    choose_D = np.zeros(len(tokens_D), dtype=np.bool_)
    measure_D = np.zeros(len(tokens_D), dtype=np.bool_)
    rng = np.random.default_rng(seed)
    for number, task in enumerate(tasks):
        documents = rng.permutation(np.flatnonzero((task_D == number) & (tokens_D > 0)))
        if len(documents) < 2:
            raise ProbeError(
                "causal needs two documents of every task, one to choose latents on and one to measure on; "
                f"{task} has {len(documents)}: raise probes.max_tokens_per_task or add documents"
            )
        half = (len(documents) + 1) // 2
        choose_D[documents[:half]] = True
        measure_D[documents[half:]] = True
    return Halves(choose_D, measure_D)
