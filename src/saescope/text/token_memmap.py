"""Training tokens that were packed elsewhere: raw integers, such as sparsify's memmap format, or .npy."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from saescope.config.corpus import DTYPES, CorpusConfig
from saescope.errors import CorpusError
from saescope.text.packing import Ids

SEARCHED_ROWS = 64
"""Rows searched backwards for the end of the document that reaches into the held-out rows."""


EXAMINED = 2**20
"""Numbers at the start of a raw file from which their width is judged."""


def token_file(cfg: CorpusConfig) -> Path:
    """The file. Raises CorpusError when it does not exist."""
    assert cfg.path is not None
    path = Path(cfg.path).expanduser()
    if not path.is_file():
        raise CorpusError(f"corpus.path={cfg.path}: no such file (looked in {Path.cwd()})")
    return path


def open_tokens(cfg: CorpusConfig, vocabulary: int) -> npt.NDArray[np.integer]:
    """All tokens of the file [N], memory-mapped, as `corpus.dtype` says; null: uint16, as sparsify's.

    Raises CorpusError for a file that cannot be read, and for null where the file or the `vocabulary` (number
    of tokens that the tokenizer knows) says that the numbers are wider.
    """
    path = token_file(cfg)
    try:
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r")
            if cfg.dtype is not None and array.dtype != np.dtype(cfg.dtype):
                raise CorpusError(
                    f"corpus.dtype={cfg.dtype}, but {path} says itself that it holds {array.dtype}; "
                    "leave corpus.dtype out"
                )
        else:
            array = _raw(path, cfg.dtype, vocabulary)
    except (OSError, ValueError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"cannot read {path}: {error}") from error
    if not np.issubdtype(array.dtype, np.integer):
        raise CorpusError(f"{path} holds {array.dtype} numbers; token ids are whole numbers")
    tokens: npt.NDArray[np.integer] = array.reshape(-1)
    return tokens


def read_rows(
    cfg: CorpusConfig, *, rows: int, holdout_rows: int, eos: int, vocabulary: int
) -> tuple[Ids, Ids, int]:
    """Training rows [R, ctx_len] from the start of the file, held-out rows [H, ctx_len] from its end.

    The third value is the number of tokens available for training. A document that begins in a training row
    and reaches into the held-out rows is left out of training. Raises CorpusError for a file that is not of
    this form.
    """
    tokens, ctx_len = open_tokens(cfg, vocabulary), cfg.ctx_len
    table = tokens[: len(tokens) // ctx_len * ctx_len].reshape(-1, ctx_len)
    first_heldout = max(0, len(table) - holdout_rows)
    usable = first_heldout
    if holdout_rows and first_heldout:
        start = max(0, first_heldout - SEARCHED_ROWS)
        ends = np.flatnonzero(table[start:first_heldout].reshape(-1) == eos)
        # without an EOS nearby nobody knows where documents end: one row is left out as distance
        usable = start + int(ends[-1]) // ctx_len if len(ends) else first_heldout - 1
    train, heldout = table[: min(rows, usable)], table[first_heldout:] if holdout_rows else table[:0]
    for part in (train, heldout):
        if part.size and (int(part.min()) < 0 or int(part.max()) >= vocabulary):
            worst = int(part.min()) if int(part.min()) < 0 else int(part.max())
            raise CorpusError(
                f"{cfg.path} read as {tokens.dtype} holds token {worst}, but the tokenizer knows "
                f"{vocabulary}: another tokenizer's, or another width: corpus.dtype={'|'.join(DTYPES)}"
            )
    return train.astype(np.int32), heldout.astype(np.int32), usable * ctx_len


def _raw(path: Path, dtype: str | None, vocabulary: int) -> npt.NDArray[np.integer]:
    """The numbers of a file without a header. Raises CorpusError where their width is in doubt."""
    kind, size = np.dtype(dtype or "uint16"), path.stat().st_size
    if size == 0:  # cannot be mapped
        return np.zeros(0, dtype=kind)
    if size % kind.itemsize:
        raise CorpusError(
            f"{path} holds {size:,} bytes, which are no {kind} tokens of {kind.itemsize} bytes each; "
            f"set corpus.dtype to one of: {', '.join(DTYPES)}, or give .npy"
        )
    if dtype is None:
        if wider := _wider(path):
            raise CorpusError(
                f"{path} looks like {wider} tokens: read as uint16, as sparsify does, all numbers between "
                f"them would be 0. Set corpus.dtype={wider} (or corpus.dtype=uint16 where that is meant)"
            )
        if vocabulary > 2**16:
            raise CorpusError(
                f"{path}: the tokenizer knows {vocabulary:,} tokens, more than uint16 holds; say what the "
                "file holds, such as corpus.dtype=uint32"
            )
    array: npt.NDArray[np.integer] = np.memmap(path, dtype=kind, mode="r")
    return array


def _wider(path: Path) -> str | None:
    """The wider type of which only the low halves are ever set, judged from the start of the file, if any."""
    halves = np.fromfile(path, dtype="<u2", count=EXAMINED)
    for name, step in (("int64", 4), ("uint32", 2)):
        whole = halves[: len(halves) // step * step].reshape(-1, step)
        if len(whole) >= 8 and whole[:, 0].any() and not whole[:, 1:].any():
            return name
    return None
