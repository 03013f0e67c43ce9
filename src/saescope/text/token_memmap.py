"""Training tokens that were packed elsewhere: sparsify's memmap format, or .npy."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from saescope.config.corpus import CorpusConfig
from saescope.errors import CorpusError
from saescope.text.packing import Ids

SEARCHED_ROWS = 64
"""Rows searched backwards for the end of the document that reaches into the held-out rows."""


def token_file(cfg: CorpusConfig) -> Path:
    """The file. Raises CorpusError when it does not exist."""
    assert cfg.path is not None
    path = Path(cfg.path).expanduser()
    if not path.is_file():
        raise CorpusError(f"corpus.path={cfg.path}: no such file (looked in {Path.cwd()})")
    return path


def read_rows(
    path: Path, *, ctx_len: int, rows: int, holdout_rows: int, eos: int, vocabulary: int
) -> tuple[Ids, Ids, int]:
    """Training rows [R, ctx_len] from the start of the file, held-out rows [H, ctx_len] from its end.

    The third value is the number of tokens available for training. A document that begins in a training row
    and reaches into the held-out rows is left out of training. Raises CorpusError for a file that is not of
    this form.
    """
    tokens = _open(path)
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
            raise CorpusError(
                f"{path} holds token {int(part.max())}, but the tokenizer knows {vocabulary}; "
                "these are tokens of another tokenizer, or not uint16 (use .npy for other types)"
            )
    return train.astype(np.int32), heldout.astype(np.int32), usable * ctx_len


def _open(path: Path) -> npt.NDArray[np.integer]:
    """All tokens [N], not read yet."""
    try:
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r")
        elif path.stat().st_size == 0:
            array = np.zeros(0, dtype=np.uint16)
        elif path.stat().st_size % 2:
            raise CorpusError(
                f"{path} holds an odd number of bytes; a file of uint16 tokens is needed, or .npy"
            )
        else:
            array = np.memmap(path, dtype=np.uint16, mode="r")
    except (OSError, ValueError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"cannot read {path}: {error}") from error
    if not np.issubdtype(array.dtype, np.integer):
        raise CorpusError(f"{path} holds {array.dtype} numbers; token ids are whole numbers")
    tokens: npt.NDArray[np.integer] = array.reshape(-1)
    return tokens
