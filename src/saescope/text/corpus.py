"""Training text: `corpus.source` → a stream of documents with a fingerprint."""

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from saescope.config.corpus import CorpusConfig
from saescope.left_out import LeftOut
from saescope.text import corpus_files, corpus_hub, embedded_corpus
from saescope.text.content import Text

EMBEDDED_SEED = 0
"""Seed of the embedded documents; data order has a seed of its own."""


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order."""

    texts: Callable[[], Iterator[Text]]
    """Starts the stream from the first document: the same documents in the same order in every process."""

    fingerprint: str
    """Changes when the documents change."""

    where: str
    """Config key and value it comes from, for messages."""

    unread: tuple[LeftOut, ...] = ()
    """Files of the source that are not read."""

    passed_over: Counter[str] = field(default_factory=Counter)
    """Documents that the streams started so far passed over, by reason (`empty`)."""


def open_corpus(cfg: CorpusConfig, memory: Path | None = None) -> Corpus:
    """The documents of `cfg` (every source but `memmap`, which holds tokens and no documents).

    `memory` is a folder where the commit of a Hub dataset is noted for jobs without a network.
    Raises CorpusError when the source is not there; reading may raise it later, naming file and line.
    """
    passed_over: Counter[str] = Counter()
    match cfg.source:
        case "embedded":
            return Corpus(_embedded, _embedded_fingerprint(), "the embedded corpus")
        case "local":
            assert cfg.path is not None
            files = corpus_files.text_files(cfg.path)
            return Corpus(
                lambda: corpus_files.read_texts(files, cfg.text_key, passed_over),
                f"{corpus_files.fingerprint(files)}-{cfg.text_key}",
                f"corpus.path={cfg.path}",
                corpus_files.unread_files(cfg.path),
                passed_over,
            )
        case "hf":
            commit = corpus_hub.find_commit(cfg, memory)
            return Corpus(
                lambda: corpus_hub.read_texts(cfg, commit, passed_over),
                corpus_hub.fingerprint(cfg, commit),
                f"corpus.name={cfg.name}",
                passed_over=passed_over,
            )
        case other:
            raise AssertionError(f"{other} holds no documents")


def _embedded() -> Iterator[str]:
    for _task, text in embedded_corpus.documents("train", EMBEDDED_SEED):
        yield text


def _embedded_fingerprint() -> str:
    """The generators' source and the Python whose library supplies the `code` and `reference` documents."""
    digest = hashlib.sha256(f"{platform.python_version()} {EMBEDDED_SEED}".encode())
    module_path = Path(embedded_corpus.__file__)
    for path in [module_path, *sorted((module_path.parent / "embedded").glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
