"""Sparse matrices with more entries than memory holds twice, walked through in blocks of rows."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from saescope.stats import scratch
from saescope.stats.arrays import AnyIntArray, Csr, IntArray

BLOCK_ENTRIES = 2**24
"""Entries of a block of rows; a row is never cut."""


def row_blocks(indptr: AnyIntArray) -> Iterator[slice]:
    """Slices of consecutive rows with at most `BLOCK_ENTRIES` entries each, or one row of more."""
    start, rows = 0, len(indptr) - 1
    while start < rows:
        stop = int(np.searchsorted(indptr, int(indptr[start]) + BLOCK_ENTRIES, side="right")) - 1
        stop = min(max(stop, start + 1), rows)
        yield slice(start, stop)
        start = stop


def entry_blocks(num_entries: int) -> Iterator[slice]:
    """Slices of `BLOCK_ENTRIES` entries."""
    for start in range(0, num_entries, BLOCK_ENTRIES):
        yield slice(start, min(start + BLOCK_ENTRIES, num_entries))


def fits_in_memory(matrix: Csr) -> bool:
    """Whether the matrix may be copied as a whole."""
    return bool(matrix.data.nbytes + matrix.indices.nbytes <= scratch.LARGE_BYTES)


def is_binary(matrix: Csr) -> bool:
    """Whether the matrix is csr with int32 ones and sorted, distinct indices in each row."""
    if matrix.format != "csr" or matrix.dtype != np.int32 or not matrix.has_canonical_format:
        return False
    return all(bool((matrix.data[entries] == 1).all()) for entries in entry_blocks(matrix.nnz))


def rows_of(matrix: Csr, rows: slice) -> Csr:
    """Consecutive rows, without a copy of their entries."""
    ends = matrix.indptr[rows.start : rows.stop + 1].astype(np.int64)
    entries = slice(int(ends[0]), int(ends[-1]))
    part = sparse.csr_matrix((rows.stop - rows.start, matrix.shape[1]), dtype=matrix.dtype)
    # set one by one: the constructor copies what is less than half of a larger array
    part.data, part.indices = matrix.data[entries], matrix.indices[entries]
    part.indptr = (ends - ends[0]).astype(matrix.indices.dtype)
    return part


def some_rows(matrix: Csr, numbers: IntArray) -> Csr:
    """`matrix[numbers]`, in any order; in a file where the matrix is large."""
    if fits_in_memory(matrix):
        return matrix[numbers]
    indptr = np.concatenate([[0], np.cumsum(np.diff(matrix.indptr)[numbers], dtype=np.int64)])
    data, indices = (scratch.empty(int(indptr[-1]), kind) for kind in (matrix.data.dtype.type, np.int32))
    for rows in row_blocks(indptr):
        part, entries = matrix[numbers[rows]], slice(int(indptr[rows.start]), int(indptr[rows.stop]))
        data[entries], indices[entries] = part.data, part.indices
    return sparse.csr_matrix((data, indices, indptr), shape=(numbers.size, matrix.shape[1]))


def column_counts(matrix: Csr) -> IntArray:
    """Entries of each column."""
    counts = np.zeros(matrix.shape[1], dtype=np.int64)
    for entries in entry_blocks(matrix.nnz):
        counts += np.bincount(matrix.indices[entries], minlength=matrix.shape[1])
    return counts


def some_columns(matrix: Csr, numbers: IntArray) -> Csr:
    """`matrix[:, numbers]`; the matrix itself, not a copy, where these are all columns."""
    if numbers.size == matrix.shape[1]:
        return matrix
    if fits_in_memory(matrix):
        return matrix[:, numbers]
    size = int(column_counts(matrix)[numbers].sum())
    data, indices = scratch.empty(size, matrix.data.dtype.type), scratch.empty(size, np.int32)
    indptr = np.zeros(matrix.shape[0] + 1, dtype=np.int64)
    for rows in row_blocks(matrix.indptr):
        part = rows_of(matrix, rows)[:, numbers]
        at = int(indptr[rows.start])
        indptr[rows.start + 1 : rows.stop + 1] = at + part.indptr[1:]
        data[at : at + part.nnz], indices[at : at + part.nnz] = part.data, part.indices
    return sparse.csr_matrix((data, indices, indptr), shape=(matrix.shape[0], numbers.size))


def by_column(matrix: Csr) -> sparse.csc_matrix:
    """The matrix column by column, rows in ascending order."""
    if fits_in_memory(matrix):
        return sparse.csc_matrix(matrix)
    counts = column_counts(matrix)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    data, indices = scratch.empty(matrix.nnz, matrix.data.dtype.type), scratch.empty(matrix.nnz, np.int32)
    following = indptr[:-1].copy()
    for rows in row_blocks(matrix.indptr):
        part = rows_of(matrix, rows).tocsc()
        sizes = np.diff(part.indptr).astype(np.int64)
        places = np.repeat(following - part.indptr[:-1], sizes) + np.arange(part.nnz)
        data[places], indices[places] = part.data, part.indices + rows.start
        following += sizes
    return sparse.csc_matrix((data, indices, indptr), shape=matrix.shape)


def stacked(parts: list[Csr], num_columns: int) -> Csr:
    """Blocks of rows one below the other; `parts` is emptied meanwhile."""
    if len(parts) == 1:
        return parts.pop()
    size = sum(part.nnz for part in parts)
    data, indices = scratch.empty(size, parts[0].data.dtype.type), scratch.empty(size, np.int32)
    indptr, at = [np.zeros(1, dtype=np.int64)], 0
    parts.reverse()
    while parts:
        part = parts.pop()
        data[at : at + part.nnz], indices[at : at + part.nnz] = part.data, part.indices
        indptr.append(at + part.indptr[1:].astype(np.int64))
        at += part.nnz
    ends = np.concatenate(indptr)
    return sparse.csr_matrix((data, indices, ends), shape=(ends.size - 1, num_columns))
