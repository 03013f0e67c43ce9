"""Documents as rows of token ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from tokenizers import Tokenizer
from torch import Tensor

from saescope.text import embedded_corpus
from saescope.text.embedded.probe_split import Split

CONTEXT = 256
"""Tokens in a training row."""


def packed_rows(tokenizer: Tokenizer, texts: Iterable[str], count: int, length: int = CONTEXT) -> Tensor:
    """Return up to `count` rows of `length` ids: the texts in a row, each one followed by the separator."""
    rows: list[list[int]] = []
    held: list[int] = []
    for ids in _encoded(tokenizer, texts):
        held += [*ids, 0]
        while len(held) >= length and len(rows) < count:
            rows.append(held[:length])
            held = held[length:]
        if len(rows) == count:
            break
    return torch.tensor(rows, dtype=torch.long)


def corpus_rows(tokenizer: Tokenizer, split: Split, seed: int, count: int) -> Tensor:
    """Return `count` packed rows of the mixed embedded corpus."""
    return packed_rows(tokenizer, (text for _, text in embedded_corpus.documents(split, seed)), count)


def _encoded(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == 256:
            yield from (encoding.ids for encoding in tokenizer.encode_batch(batch, add_special_tokens=False))
            batch = []
    yield from (encoding.ids for encoding in tokenizer.encode_batch(batch, add_special_tokens=False))
