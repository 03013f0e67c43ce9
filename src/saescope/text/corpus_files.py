"""Local training text: .txt, .jsonl, .parquet and other data files, in the order of their names."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from saescope.errors import CorpusError, choices
from saescope.text import records
from saescope.text.content import Text, is_blank
from saescope.text.records import ENDINGS, is_saved

log = logging.getLogger(__name__)

HASHED_BYTES = 256 * 2**20
"""Up to this size the contents are hashed; beyond, sizes and times of change stand for them."""


def text_files(path: str) -> list[Path]:
    """The file, or the text files anywhere below the folder, sorted; hidden ones are left out.

    Files of other endings are named in a warning. Raises CorpusError when there is none, and for a folder
    that `datasets` saved.
    """
    place = Path(path).expanduser()
    if place.is_file():
        if place.suffix not in ENDINGS:
            raise CorpusError(
                f"corpus.path={path}: cannot read '{place.suffix}' files; valid: {', '.join(ENDINGS)} "
                "(tokens in a file: corpus.source=memmap)"
            )
        return [place]
    if not place.is_dir():
        raise CorpusError(f"corpus.path={path}: no such file or folder (looked in {Path.cwd()})")
    if is_saved(place):
        raise CorpusError(
            f"corpus.path={path} is a folder saved by Hugging Face datasets: corpus=hf corpus.name={path}"
        )
    visible = sorted(
        p
        for p in place.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(place).parts)
    )
    files = [p for p in visible if p.suffix in ENDINGS]
    if not files:
        raise CorpusError(f"corpus.path={path} holds no {', '.join(ENDINGS)} file")
    if others := [str(p.relative_to(place)) for p in visible if p.suffix not in ENDINGS]:
        log.warning("corpus: left out of %s: %s (files that end in %s are read)", place, choices(others, 10),
                    ", ".join(ENDINGS))  # fmt: skip
    return files


def fingerprint(files: Sequence[Path]) -> str:
    """Hash of the contents where that takes a moment, of sizes and times of change where it would not.

    Raises CorpusError naming the file that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        small = sum(path.stat().st_size for path in files) <= HASHED_BYTES
        for path in files:
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} ".encode())
            if small:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                digest.update(f"{path.resolve()} {stat.st_mtime_ns}".encode())
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return digest.hexdigest()


def read_texts(files: Sequence[Path], text_key: str) -> Iterator[Text]:
    """Documents of all files that are not empty.

    Raises CorpusError naming file and line for what cannot be read.
    """
    for path in files:
        for _where, text in records.read_texts(path, text_key, "corpus.text_key", CorpusError):
            if not is_blank(text):
                yield text
