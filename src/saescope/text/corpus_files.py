"""Local training text: .txt, .jsonl, .parquet and other data files, in the order of their names."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from saescope.errors import CorpusError, choices
from saescope.left_out import LeftOut
from saescope.text import records
from saescope.text.content import Text, is_blank
from saescope.text.records import ENDINGS, is_saved

log = logging.getLogger(__name__)

HASHED_BYTES = 256 * 2**20
"""Up to this size the contents are hashed; beyond, sizes and times of change stand for them."""


def text_files(path: str) -> list[Path]:
    """The file, or the text files anywhere below the folder, sorted; hidden ones are left out.

    Files that are not read are named in a warning (`unread_files`). Raises CorpusError when there is none,
    and for a folder that `datasets` saved.
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
    files = [p for p in _below(place) if p.suffix in ENDINGS and p.name[0] != "."]
    if not files:
        raise CorpusError(f"corpus.path={path} holds no {', '.join(ENDINGS)} file")
    if others := [str(p.relative_to(place)) for p in _unread(place)]:
        log.warning("corpus: left out of %s: %s (files that end in %s and are not hidden are read)",
                    place, choices(others, 10), ", ".join(ENDINGS))  # fmt: skip
    return files


def unread_files(path: str) -> tuple[LeftOut, ...]:
    """The files of the folder that `text_files` does not read; a file hidden by its ending's name counts."""
    place = Path(path).expanduser()
    unread = _unread(place) if place.is_dir() else []
    why = f"Training text is read from files that end in {', '.join(ENDINGS)} and are not hidden."
    return (LeftOut("files", len(unread), len(_below(place)), why, "training"),) if unread else ()


def _unread(place: Path) -> list[Path]:
    below = _below(place)
    return [p for p in below if (p.suffix in ENDINGS) == (p.name[0] == ".")]


def _below(place: Path) -> list[Path]:
    """Files that could be meant as text, sorted: not hidden, or hidden and of an ending that is read."""
    return sorted(
        p
        for p in place.rglob("*")
        if p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(place).parts[:-1])
        and (p.name[0] != "." or p.suffix in ENDINGS)
    )


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


def read_texts(files: Sequence[Path], text_key: str, passed_over: Counter[str]) -> Iterator[Text]:
    """Documents of all files that are not empty; the others are counted in `passed_over["empty"]`.

    Raises CorpusError naming file and line for what cannot be read.
    """
    for path in files:
        for _where, text in records.read_texts(path, text_key, "corpus.text_key", CorpusError):
            if is_blank(text):
                passed_over["empty"] += 1
            else:
                yield text
