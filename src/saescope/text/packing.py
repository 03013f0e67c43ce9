"""Documents → rows of `ctx_len` tokens without padding, and which documents are held out.

The token stream is EOS, document, EOS, document, …, as sparsify packs it; rows are cut from it end to end.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from saescope.errors import CorpusError

Ids = npt.NDArray[np.int32]

HOLDOUT_SHARE = 16
"""One document in this many is held out."""

BATCH_CHARS = 500_000
BATCH_DOCUMENTS = 512
"""Characters and documents that are tokenised together, at most."""


def is_held_out(text: str) -> bool:
    """Whether a document belongs to the validation split.

    The hash of the text alone decides: the same for every amount of text read, and equal texts stay together.
    """
    # A salt of its own, because the embedded corpus has already been split by the unsalted hash.
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"saescope heldout")
    return int.from_bytes(digest.digest(), "big") % HOLDOUT_SHARE == 0


class RowWriter:
    """Writes up to `rows` rows of int32 tokens to a file, document by document."""

    def __init__(self, file: BinaryIO, rows: int, ctx_len: int, eos: int) -> None:
        self.file = file
        self.room = rows * ctx_len
        self.ctx_len = ctx_len
        self.eos = eos
        self.tokens = 0
        """Tokens written, EOS included."""

    @property
    def full(self) -> bool:
        """Whether all rows are complete."""
        return self.tokens >= self.room

    @property
    def rows(self) -> int:
        """Complete rows."""
        return self.tokens // self.ctx_len

    def add(self, documents: Iterable[list[int]]) -> None:
        """Append tokenised documents; what does not fit any more is dropped."""
        parts = [part for ids in documents if ids for part in ([self.eos], ids)]
        stream = np.fromiter(itertools.chain.from_iterable(parts), dtype=np.int32)
        stream = stream[: self.room - self.tokens]
        self.file.write(stream.tobytes())
        self.tokens += len(stream)

    def finish(self) -> None:
        """Cut the file after the last complete row."""
        self.file.truncate(self.rows * self.ctx_len * 4)
        self.file.flush()


def pack(texts: Iterator[str], tokenizer: Any, train: RowWriter, heldout: RowWriter) -> None:
    """Tokenise documents (no special tokens added) until both writers are full or the texts end.

    Documents of a split that is already full are read but not tokenised.
    """
    for batch in _batches(texts):
        for writer, held_out in ((train, False), (heldout, True)):
            chosen = [text for text in batch if is_held_out(text) is held_out] if not writer.full else []
            if chosen:
                writer.add(tokenizer(chosen, add_special_tokens=False, verbose=False)["input_ids"])
        if train.full and heldout.full:
            break
    train.finish()
    heldout.finish()


def eos_of(tokenizer: Any) -> int:
    """The token between documents. Raises CorpusError when the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise CorpusError(
            "this tokenizer has no end-of-sequence token, which separates training documents; "
            "set eos_token in its tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Lists of texts, long enough for a tokenizer to use all cores, short enough to drop few at the end."""
    batch: list[str] = []
    chars = 0
    for text in texts:
        batch.append(text)
        chars += len(text)
        if chars >= BATCH_CHARS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch
