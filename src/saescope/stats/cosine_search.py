"""The nearest rows of another dictionary, by blocks: what a matching of large dictionaries needs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saescope.stats.arrays import IntArray

Float32Array = npt.NDArray[np.float32]

BLOCK_ROWS, BLOCK_COLUMNS = 512, 4096
"""Cosines held at a time: 8 MB."""


@dataclass(frozen=True)
class Nearest:
    """For every row a the `m` columns of largest cosine, and what was dropped at most."""

    index_Am: IntArray
    """Columns, nearest first."""
    cosine_Am: Float32Array
    cutoff_A: Float32Array
    """Largest cosine of the row that was dropped; -2, below any cosine, where none was."""
    best_B: Float32Array
    """Largest cosine of every column with any row."""


def unit_rows(rows_Fd: npt.NDArray[np.floating]) -> Float32Array:
    """A float32 copy with rows of norm 1; a row of zeros stays. ValueError for NaN or infinite values."""
    unit = np.array(rows_Fd, dtype=np.float32, order="C")
    norm_F = np.sqrt(np.einsum("fd,fd->f", unit, unit, dtype=np.float64))
    if not np.isfinite(norm_F).all():
        raise ValueError("rows with NaN or infinite values")
    unit /= np.where(norm_F > 0.0, norm_F, 1.0).astype(np.float32)[:, None]
    return unit


def nearest_rows(
    unit_Ad: Float32Array, unit_Bd: Float32Array, m: int, progress: Callable[[int], None] | None = None
) -> Nearest:
    """The `m` nearest unit rows of B for each of A, and for B the largest cosine only.

    `progress` is called with the rows of A that are done. Memory: 8 bytes for each of A * m, and 20 MB.
    """
    num_a, num_b = len(unit_Ad), len(unit_Bd)
    m = min(m, num_b)
    # indices fit 32 bits; the largest dropped cosine is kept as one entry more
    index = np.empty((num_a, m), dtype=np.int32)
    cosine = np.empty((num_a, m), dtype=np.float32)
    cutoff = np.full(num_a, -2.0, dtype=np.float32)
    best_B = np.full(num_b, -2.0, dtype=np.float32)
    for top in range(0, num_a, BLOCK_ROWS):
        rows = slice(top, min(num_a, top + BLOCK_ROWS))
        block = unit_Ad[rows]
        top_index = np.zeros((len(block), 0), dtype=np.int32)
        top_cosine = np.zeros((len(block), 0), dtype=np.float32)
        for left in range(0, num_b, BLOCK_COLUMNS):
            tile = block @ unit_Bd[left : left + BLOCK_COLUMNS].T
            part = best_B[left : left + BLOCK_COLUMNS]
            np.maximum(part, tile.max(axis=0), out=part)
            if left == 0:
                columns = np.broadcast_to(np.arange(tile.shape[1], dtype=np.int32), tile.shape)
                top_index, top_cosine = _largest(columns, tile, m + 1)
            else:
                floor = top_cosine.min(axis=1) if top_cosine.shape[1] > m else np.full(len(block), -2.0)
                new_i, new_c = _above(tile, floor.astype(np.float32), left)
                top_index, top_cosine = _largest(
                    np.hstack([top_index, new_i]), np.hstack([top_cosine, new_c]), m + 1
                )
        order = np.argsort(-top_cosine, axis=1, kind="stable")
        top_index = np.take_along_axis(top_index, order, axis=1)
        top_cosine = np.take_along_axis(top_cosine, order, axis=1)
        index[rows], cosine[rows] = top_index[:, :m], top_cosine[:, :m]
        if num_b > m:
            cutoff[rows] = top_cosine[:, m]
        if progress is not None:
            progress(len(block))
    return Nearest(index.astype(np.int64), cosine, cutoff, best_B)


def _largest(
    index: npt.NDArray[np.int32], value: Float32Array, m: int
) -> tuple[npt.NDArray[np.int32], Float32Array]:
    """The `m` largest of every row, in no order."""
    if value.shape[1] <= m:
        return index, value
    chosen = np.argpartition(value, value.shape[1] - m, axis=1)[:, -m:]
    return np.take_along_axis(index, chosen, axis=1), np.take_along_axis(value, chosen, axis=1)


def _above(tile: Float32Array, floor: Float32Array, left: int) -> tuple[npt.NDArray[np.int32], Float32Array]:
    """Entries of every row above its floor, padded to the longest row with -2."""
    flat = np.flatnonzero(tile > floor[:, None])
    row, column = np.divmod(flat, tile.shape[1])
    count = np.bincount(row, minlength=len(tile))
    place = np.arange(flat.size) - np.repeat(np.cumsum(count) - count, count)
    index = np.zeros((len(tile), count.max(initial=0)), dtype=np.int32)
    value = np.full(index.shape, -2.0, dtype=np.float32)
    index[row, place] = left + column
    value[row, place] = tile.ravel()[flat]
    return index, value
