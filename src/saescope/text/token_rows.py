"""Training tokens as rows of equal length, written once and read from the cache by every later job."""

import hashlib
import io
import json
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from saescope.config.corpus import CorpusConfig
from saescope.errors import CorpusError
from saescope.files import lock, read_json, remove_leftovers, whole, write_json
from saescope.left_out import LeftOut
from saescope.runtime.meter import Meter
from saescope.text.content import as_text
from saescope.text.corpus import Corpus, open_corpus
from saescope.text.corpus_files import fingerprint
from saescope.text.packing import Ids, RowWriter, eos_of, pack
from saescope.text.token_memmap import open_tokens, read_rows, token_file

log = logging.getLogger(__name__)

VERSION = 2
"""Raised when packing changes, so that rows of an older form are not found."""


@dataclass(frozen=True)
class TokenRows:
    """Packed tokens without padding; memory-mapped where they lie in the cache."""

    train: Ids
    """[R, ctx_len] int32."""

    heldout: Ids
    """[H, ctx_len] int32, from documents that `train` does not contain."""

    digest: str
    """Hash of the tokens of both."""

    left_out: tuple[LeftOut, ...] = ()
    """Files that are not read, and empty documents passed over; not known of rows of an older version."""


@dataclass(frozen=True)
class _Request:
    """What decides the rows; counts of tokens and rows are what the caller needs."""

    cfg: CorpusConfig
    corpus: Corpus | None
    tokenizer: Any
    rows: int
    holdout_rows: int
    at_least: int


def token_rows(
    cfg: CorpusConfig, tokenizer: Any, tokens: int, folder: Path | None, at_least: int | None = None
) -> TokenRows:
    """At least `tokens` training tokens and `corpus.holdout_tokens` held-out ones, in whole rows.

    `folder` is where rows are kept for later jobs (None: in memory only). `at_least` is the fewest training
    tokens the caller can use, such as one batch (None: one row); a corpus that ends between the two gives
    fewer rows and a warning. Raises CorpusError when the source cannot be read or is too small.
    """
    least = max(1, math.ceil((at_least or 0) / cfg.ctx_len))
    rows = max(least, math.ceil(tokens / cfg.ctx_len))
    holdout = math.ceil(cfg.holdout_tokens / cfg.ctx_len)
    corpus = None if cfg.source == "memmap" else open_corpus(cfg, folder)
    request = _Request(cfg, corpus, tokenizer, rows, holdout, least * cfg.ctx_len)
    try:
        return _from_memory(request) if folder is None else _from_folder(request, folder)
    except OSError as error:
        raise CorpusError(
            f"cannot keep training tokens in {folder}: {error.strerror or error}{_file_of(error)}; "
            "free some space, or set runtime.cache=FOLDER or runtime.cache=off"
        ) from error


def _file_of(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def check_corpus(cfg: CorpusConfig, tokenizer: Any) -> None:
    """Open the source and read its first document: what is wrong shows before anything slow is loaded.

    Raises CorpusError when the source is not there, cannot be read or holds nothing.
    """
    eos_of(tokenizer)
    if cfg.source == "memmap":
        open_tokens(cfg, len(tokenizer))
    elif cfg.source != "embedded":
        corpus = open_corpus(cfg)
        first = next(corpus.texts(), None)
        if first is None:
            raise CorpusError(f"{corpus.where} holds no text")
        as_text(first, tokenizer, cfg.chat, "corpus.chat", corpus.where, CorpusError)


def rows_digest(rows: Ids) -> str:
    """Hash of the tokens and the shape of `rows`."""
    digest = hashlib.sha256(f"{rows.shape}".encode())
    digest.update(np.ascontiguousarray(rows, dtype=np.int32).data)
    return digest.hexdigest()


def _from_memory(request: _Request) -> TokenRows:
    train, heldout = io.BytesIO(), io.BytesIO()
    empty = _fill(request, train, heldout)
    parts = [np.frombuffer(part.getvalue(), dtype=np.int32) for part in (train, heldout)]
    rows = [part.reshape(-1, request.cfg.ctx_len) for part in parts]
    return _checked(request, rows[0], rows[1], empty)


def _from_folder(request: _Request, folder: Path) -> TokenRows:
    cfg, key = request.cfg, _key(request)
    entry = folder / key
    entry.mkdir(parents=True, exist_ok=True)
    mine = os.access(entry, os.W_OK)  # the rows of another user are read as they are
    # a concurrent job waits and then finds the rows
    with lock(folder / f"{key}.lock") if mine else nullcontext():
        if mine:
            (entry / "used").touch()
        cached = _open(request, entry)
        if cached is not None:
            log.info("corpus: %d training rows of %d tokens found in %s", *cached.train.shape, entry)
            return cached
        remove_leftovers(entry)
        with whole(entry / "train.i32") as train_path, whole(entry / "heldout.i32") as heldout_path:
            with train_path.open("wb") as train, heldout_path.open("wb") as heldout:
                empty = _fill(request, train, heldout)
            built = _checked(request, _map(train_path, cfg.ctx_len), _map(heldout_path, cfg.ctx_len), empty)
        index = {
            "train_rows": len(built.train),
            "heldout_rows": len(built.heldout),
            "ctx_len": cfg.ctx_len,
            "digest": built.digest,
            "empty_texts": empty,
        }
        write_json(entry / "index.json", index)  # last: its presence says that the rows are complete
        return _open(request, entry) or built


def _fill(request: _Request, train: BinaryIO, heldout: BinaryIO) -> int:
    """Write the rows of both splits; the number of empty documents that were passed over.

    Raises CorpusError when there are too few rows.
    """
    cfg, started = request.cfg, time.perf_counter()
    eos = eos_of(request.tokenizer)
    where = request.corpus.where if request.corpus else f"corpus.path={cfg.path}"
    if request.corpus is None:
        train_rows, heldout_rows, train_tokens = read_rows(
            cfg, rows=request.rows, holdout_rows=request.holdout_rows, eos=eos,
            vocabulary=len(request.tokenizer),
        )  # fmt: skip
        train_tokens = min(train_tokens, train_rows.size)
        train.write(train_rows.tobytes())
        heldout.write(heldout_rows.tobytes())
        heldout_tokens = heldout_rows.size
    else:
        writers = (
            RowWriter(train, request.rows, cfg.ctx_len, eos),
            RowWriter(heldout, request.holdout_rows, cfg.ctx_len, eos),
        )
        with Meter("tokenise the corpus", sum(writer.room for writer in writers), "tokens") as meter:
            texts = (
                as_text(text, request.tokenizer, cfg.chat, "corpus.chat", where, CorpusError)
                for text in request.corpus.texts()
            )
            pack(_counted(texts, writers, meter), request.tokenizer, *writers)
        train_tokens, heldout_tokens = writers[0].tokens, writers[1].tokens
    if train_tokens // cfg.ctx_len * cfg.ctx_len < request.at_least:
        raise CorpusError(
            f"{where} gives {train_tokens} training tokens ({heldout_tokens} more are held out), "
            f"but at least {request.at_least} are needed; give more text, or lower runtime.batch_tokens or "
            "corpus.ctx_len"
        )
    if request.holdout_rows and heldout_tokens < cfg.ctx_len:
        raise CorpusError(
            f"{where} gives {heldout_tokens} held-out tokens, but at least one row of {cfg.ctx_len} is "
            "needed; give more documents, or set corpus.holdout_tokens=0"
        )
    requested = request.rows * cfg.ctx_len
    if train_tokens < requested:
        log.warning("%s ends after %d training tokens; %d were requested", where, train_tokens, requested)
    log.info("corpus: %d training and %d held-out tokens from %s in %.1f s",
             train_tokens, heldout_tokens, where, time.perf_counter() - started)  # fmt: skip
    return request.corpus.passed_over["empty"] if request.corpus else 0


def _counted(texts: Iterable[str], writers: Sequence[RowWriter], meter: Meter) -> Iterator[str]:
    """The texts, while `meter` shows how many tokens are written."""
    for text in texts:
        meter.advance(sum(writer.tokens for writer in writers) - meter.done)
        yield text


def _key(request: _Request) -> str:
    """Hash of all that decides the rows."""
    cfg = request.cfg
    source = request.corpus.fingerprint if request.corpus else fingerprint([token_file(cfg)])
    parts = [
        VERSION, cfg.source, cfg.dtype, source, cfg.ctx_len, request.rows, request.holdout_rows,
        tokenizer_digest(request.tokenizer), cfg.chat, getattr(request.tokenizer, "chat_template", None),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def tokenizer_digest(tokenizer: Any) -> str:
    """Hash of what turns text into tokens: vocabulary, merges, normalisation, and the EOS token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content: Any = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    else:
        content = json.loads(backend.to_str())
        for state in ("truncation", "padding"):  # set by whoever called it last, not by the tokenizer
            content.pop(state, None)
    return hashlib.sha256(json.dumps([content, tokenizer.eos_token_id]).encode()).hexdigest()


def _open(request: _Request, entry: Path) -> TokenRows | None:
    """The rows of a cache folder; None when they are missing, incomplete or damaged."""
    index = read_json(entry / "index.json")
    if not isinstance(index, dict):
        return None
    ctx_len = request.cfg.ctx_len
    parts = []
    for name in ("train", "heldout"):
        path, rows = entry / f"{name}.i32", index.get(f"{name}_rows")
        if not isinstance(rows, int) or not path.is_file() or path.stat().st_size != rows * ctx_len * 4:
            log.warning("corpus: %s is damaged; tokens are written again", path)
            return None
        parts.append(_map(path, ctx_len))
    digest = _digest(*parts)
    if digest != index.get("digest"):
        log.warning("corpus: %s is damaged (checksum); tokens are written again", entry)
        return None
    empty = index.get("empty_texts")
    return _checked(request, parts[0], parts[1], empty if isinstance(empty, int) else 0, digest)


def _map(path: Path, ctx_len: int) -> Ids:
    """A file of rows, memory-mapped."""
    if path.stat().st_size == 0:  # cannot be mapped
        return np.zeros((0, ctx_len), dtype=np.int32)
    return np.memmap(path, dtype=np.int32, mode="r").reshape(-1, ctx_len)


def _digest(train: Ids, heldout: Ids) -> str:
    return hashlib.sha256(f"{rows_digest(train)} {rows_digest(heldout)}".encode()).hexdigest()


def _checked(request: _Request, train: Ids, heldout: Ids, empty: int, digest: str | None = None) -> TokenRows:
    """The rows, when they are enough for this caller (another one may have been content with fewer)."""
    if train.size < request.at_least:
        raise CorpusError(
            f"the corpus gives {train.size} training tokens, but at least {request.at_least} are needed; "
            "give more text, or lower runtime.batch_tokens or corpus.ctx_len"
        )
    why = "The document of the training text is empty."
    left_out = [LeftOut("texts", empty, None, why, "training")] if empty else []
    left_out += request.corpus.unread if request.corpus else ()
    return TokenRows(train, heldout, digest or _digest(train, heldout), tuple(left_out))
