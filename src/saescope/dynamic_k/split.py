"""Calibration and evaluation windows of different documents."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saescope.errors import ProbeError
from saescope.text.windows import Windows


@dataclass(frozen=True)
class Split:
    """Window numbers; no document has windows in both."""

    calibration_W: npt.NDArray[np.int64]
    evaluation_W: npt.NDArray[np.int64]


def split(windows: Windows, calibration_tokens: int, evaluation_tokens: int) -> Split:
    """Documents of each task taken by turns, so that both sides run through the whole file; in file order.

    Each side gets about its budget of counted tokens in equal shares per task, whole windows, at least one
    window of every task. Raises ProbeError for a task of a single document.
    """
    size_W = np.array([mask.sum() for mask in windows.counted])
    task_W = windows.task_D[windows.doc_W]
    sides: tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]]] = ([], [])
    for number, task in enumerate(windows.tasks):
        mine = np.flatnonzero((task_W == number) & (size_W > 0))
        turn = np.unique(windows.doc_W[mine], return_inverse=True)[1]
        if turn.max(initial=0) == 0:
            raise ProbeError(
                "dynamic_k needs two documents of every task, one to calibrate on and one to evaluate on; "
                f"{task} has one: raise probes.max_tokens_per_task or add documents"
            )
        for side, first, budget in ((sides[0], 1, calibration_tokens), (sides[1], 0, evaluation_tokens)):
            taken = mine[turn % 2 == first]
            before = np.cumsum(size_W[taken]) - size_W[taken]
            side.append(taken[before < budget / len(windows.tasks)])
    return Split(np.concatenate(sides[0]), np.concatenate(sides[1]))
