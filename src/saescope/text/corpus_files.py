"""Local training text: .txt, .jsonl and .parquet files, in the order of their names."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from saescope.errors import CorpusError, choices, nearest
from saescope.text.text_files import FORM, json_lines, paragraphs, whole_text

ENDINGS = (".txt", ".jsonl", ".parquet")
HASHED_BYTES = 256 * 2**20
"""Up to this size the contents are hashed; beyond, sizes and times of change stand for them."""


def text_files(path: str) -> list[Path]:
    """The file, or the text files anywhere below the folder, sorted; hidden ones are left out.

    Raises CorpusError when there is none.
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
    files = sorted(
        p
        for p in place.rglob("*")
        if p.suffix in ENDINGS
        and p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(place).parts)
    )
    if not files:
        raise CorpusError(f"corpus.path={path} holds no {', '.join(ENDINGS)} file")
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


def read_texts(files: Sequence[Path], text_key: str) -> Iterator[str]:
    """Documents of all files. Raises CorpusError naming file and line for what cannot be read."""
    for path in files:
        try:
            if path.suffix == ".parquet":
                yield from _parquet(path, text_key)
            elif path.suffix == ".jsonl":
                yield from _jsonl(path, text_key)
            else:
                yield from paragraphs(path, CorpusError)
        except OSError as error:
            raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


def _jsonl(path: Path, text_key: str) -> Iterator[str]:
    for number, record in json_lines(path, CorpusError):
        text = record.get(text_key) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise CorpusError(
                f"{path} line {number} has no text under '{text_key}'; {_keys(record, text_key)}"
            )
        if text.strip():
            yield whole_text(text, f"{path} line {number}", CorpusError)


def _parquet(path: Path, text_key: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise CorpusError(f"{path} is no parquet file ({str(error).splitlines()[0]})") from error
    names = list(file.schema_arrow.names)
    if text_key not in names:
        raise CorpusError(f"{path} has no column '{text_key}'; {_keys(dict.fromkeys(names), text_key)}")
    row = 0
    try:
        for batch in file.iter_batches(batch_size=1024, columns=[text_key]):
            for text in batch.column(0).to_pylist():
                if text is not None and not isinstance(text, str):
                    raise CorpusError(
                        f"{path} row {row}: column '{text_key}' holds {type(text).__name__}, not text"
                    )
                row += 1
                if text and text.strip():
                    yield text
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read after row {row} ({str(error).splitlines()[0]})") from error


def _keys(record: Any, text_key: str) -> str:
    if not isinstance(record, dict):
        return FORM
    names = [str(name) for name in record]
    return (
        f"{nearest(text_key, names)}set corpus.text_key to one of: {choices(names, 12) or 'nothing is there'}"
    )
