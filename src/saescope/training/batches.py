"""What a training reads: batches of activations, from any step on."""

from collections.abc import Iterator, Sized
from typing import Protocol

from torch import Tensor


class ActivationBatches(Sized, Protocol):
    """Batches [N, d_in] in a fixed order; `len` is their number."""

    @property
    def batch_tokens(self) -> int:
        """N."""
        ...

    def iter_from(self, step: int, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
        """Batches `step`, `step` + 1, …; the earlier ones need not be computed.

        With `world` processes, the share of process `rank`: the shares of all make up the batch.
        """


class MemoryBatches:
    """Consecutive rows of one tensor; rows that do not fill a batch are left out."""

    def __init__(self, rows_TD: Tensor, batch_rows: int) -> None:
        self._rows_TD = rows_TD
        self._batch_rows = batch_rows

    def __len__(self) -> int:
        return len(self._rows_TD) // self._batch_rows

    @property
    def batch_tokens(self) -> int:
        """Rows of a batch."""
        return self._batch_rows

    def iter_from(self, step: int, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
        """Batches from `step` on."""
        for at in range(step, len(self)):
            batch = self._rows_TD[at * self._batch_rows : (at + 1) * self._batch_rows]
            yield batch.tensor_split(world)[rank]


class BatchShare:
    """One process's share of the batches `start` to `stop`, as a data loader for Lightning.

    `CheckpointSaver` sets `rank` and `world` in each process.
    """

    def __init__(self, batches: ActivationBatches, start: int, stop: int) -> None:
        self._batches, self._start, self._stop = batches, start, stop
        self.rank, self.world = 0, 1

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Tensor]:
        source = self._batches.iter_from(self._start, self.rank, self.world)
        for _, batch in zip(range(len(self)), source, strict=False):
            yield batch
