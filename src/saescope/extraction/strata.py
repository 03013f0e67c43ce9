"""Sums kept apart by task and group of documents: what leaving a group out needs."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from saescope.stats.resampling import document_groups

Sums = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Strata:
    """Cells of task × group; the last group of a task holds the documents that are never left out.

    Without groups the cells are the tasks.
    """

    task_D: npt.NDArray[np.int64]
    num_tasks: int
    num_groups: int = 0

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.num_tasks * (self.num_groups + 1)

    @cached_property
    def cell_D(self) -> npt.NDArray[np.int64]:
        """Cell of each document."""
        group_D = document_groups(self.task_D, self.num_groups)
        cell_D: npt.NDArray[np.int64] = self.task_D * (self.num_groups + 1) + np.where(
            group_D < 0, self.num_groups, group_D
        )
        return cell_D

    def by_task(self, sums: Sums) -> Sums:
        """Sums over the cells of each task, [K, …]."""
        return {name: self._apart(value).sum(axis=1) for name, value in sums.items()}

    def without_each_group(self, sums: Sums) -> list[Sums]:
        """Sums by task with each group left out; empty without groups."""
        apart = {name: self._apart(value) for name, value in sums.items()}
        return [
            {name: value.sum(axis=1) - value[:, group] for name, value in apart.items()}
            for group in range(self.num_groups)
        ]

    def _apart(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """[K, groups + 1, …] of sums by cell."""
        return values.reshape(self.num_tasks, self.num_groups + 1, *values.shape[1:])
