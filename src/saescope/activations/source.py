"""Sources of activations: the language model here, the disk in `cached.py`.

A row is one context: a packed training row, all of whose tokens count, or a probe window, some of whose do.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.text.packing import Ids
from saescope.text.windows import Windows, batches

Indices = npt.NDArray[np.int64]


class ActivationReader(Protocol):
    """The part of `saescope.model.capture.Capture` that is used here."""

    def __call__(self, input_ids_BT: Tensor) -> Tensor:
        """Activations [B, T, d_in]."""
        ...

    def width(self) -> int:
        """d_in."""
        ...


class ActivationSource(Protocol):
    """Activations of rows, in any order."""

    @property
    def sizes_R(self) -> Indices:
        """Counted tokens of each row."""
        ...

    @property
    def d_in(self) -> int:
        """Width of the hookpoint."""
        ...

    def read(self, rows: Indices) -> Tensor:
        """Activations [N, d_in] of the counted tokens of the rows with these numbers, in their order."""
        ...


class LiveActivations:
    """Activations from the language model, `batch_rows` rows in one forward pass.

    The last bits of a row may depend on the rows it shares a pass with, as matrix products do.
    """

    def __init__(
        self,
        capture: ActivationReader,
        rows: Ids,
        batch_rows: int,
        device: str | torch.device,
        d_in: int | None = None,
    ) -> None:
        self.capture = capture
        self.rows = rows
        self.batch_rows = max(1, batch_rows)
        self.device = torch.device(device)
        self.d_in = d_in if d_in is not None else capture.width()
        self.sizes_R = np.full(len(rows), rows.shape[1], dtype=np.int64)

    def read(self, rows: Indices) -> Tensor:
        """Activations [len(rows) × ctx_len, d_in] in the model's dtype, on its device."""
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
        return out.flatten(0, 1) if out is not None else torch.empty(0, self.d_in, device=self.device)


class LiveWindows:
    """Activations of the counted tokens of probe windows, windows of similar length in one forward pass."""

    def __init__(
        self,
        capture: ActivationReader,
        windows: Windows,
        batch_tokens: int,
        device: str | torch.device,
        d_in: int,
    ) -> None:
        self.capture = capture
        self.windows = windows
        self.batch_tokens = batch_tokens
        self.device = torch.device(device)
        self.d_in = d_in
        self.sizes_R = np.diff(windows.row_W)

    def read(self, rows: Indices) -> Tensor:
        """Activations [N, d_in] in the model's dtype, on its device."""
        starts = np.cumsum(self.sizes_R[rows]) - self.sizes_R[rows]
        start_of = dict(zip(rows.tolist(), starts.tolist(), strict=True))
        out: Tensor | None = None
        for batch in batches(self.windows, rows, self.batch_tokens):
            # on the host, which then need not wait
            counted_N = batch.counted_BT.flatten().nonzero().flatten()
            first_B = np.array([start_of[w] for w in batch.window_B.tolist()])
            at_N = laid_end_to_end(first_B, first_B + self.sizes_R[batch.window_B.numpy()])
            with torch.inference_mode():
                values_BTD = self.capture(batch.input_ids_BT.to(self.device))
                values_ND = values_BTD.flatten(0, 1)[counted_N.to(self.device)]
            if out is None:
                out = values_ND.new_empty(int(self.sizes_R[rows].sum()), self.d_in)
            out[torch.from_numpy(at_N).to(self.device)] = values_ND
        return out if out is not None else torch.empty(0, self.d_in, device=self.device)


def laid_end_to_end(start_B: Indices, stop_B: Indices) -> Indices:
    """The numbers from each start to before its stop, one range after the other."""
    size_B = stop_B - start_B
    before_B = np.cumsum(size_B) - size_B
    numbers: Indices = np.arange(size_B.sum()) + np.repeat(start_B - before_B, size_B)
    return numbers


def row_order(num_rows: int, data_seed: int, epoch: int = 0) -> Indices:
    """All row numbers in the order of one epoch; it depends on the seed only, not on the machine."""
    return np.random.default_rng([data_seed, epoch]).permutation(num_rows).astype(np.int64)
