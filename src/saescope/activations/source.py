"""Where training gets activations from: computed on the fly here, from disk in `cached.py`."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.text.packing import Ids

Indices = npt.NDArray[np.int64]


class Reads(Protocol):
    """What is used of `saescope.capture.Capture`."""

    def __call__(self, input_ids_BT: Tensor) -> Tensor:
        """Activations [B, T, d_in]."""
        ...

    def width(self) -> int:
        """d_in."""
        ...


class ActivationSource(Protocol):
    """Activations of packed rows, in any order."""

    @property
    def num_rows(self) -> int:
        """R."""
        ...

    @property
    def d_in(self) -> int:
        """Width of the hookpoint."""
        ...

    def read(self, rows: Indices) -> Tensor:
        """Activations [len(rows), ctx_len, d_in] of the rows with these numbers, in their order."""
        ...


class LiveActivations:
    """Activations from the language model, `batch_rows` rows in one forward pass.

    The last bits of a row may depend on the rows it shares a pass with, as matrix products do.
    """

    def __init__(
        self, capture: Reads, rows: Ids, batch_rows: int, device: str | torch.device, d_in: int | None = None
    ) -> None:
        self.capture = capture
        self.rows = rows
        self.batch_rows = max(1, batch_rows)
        self.device = torch.device(device)
        self.d_in = d_in if d_in is not None else capture.width()

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.rows)

    def read(self, rows: Indices) -> Tensor:
        """Activations [len(rows), ctx_len, d_in] in the model's dtype, on its device."""
        chosen = torch.from_numpy(self.rows[rows].astype(np.int64))
        out: Tensor | None = None
        for start in range(0, len(chosen), self.batch_rows):
            part = chosen[start : start + self.batch_rows].to(self.device)
            with torch.inference_mode():
                values = self.capture(part)
            # copied outside inference mode: autograd refuses to save inference tensors
            if out is None:
                out = torch.empty((len(chosen), *values.shape[1:]), dtype=values.dtype, device=values.device)
            out[start : start + len(part)] = values
        return out if out is not None else torch.empty(0, self.rows.shape[1], self.d_in, device=self.device)


def row_order(num_rows: int, data_seed: int, epoch: int = 0) -> Indices:
    """All row numbers in the order of one epoch; the same for the same seed everywhere."""
    return np.random.default_rng([data_seed, epoch]).permutation(num_rows).astype(np.int64)
