"""Text files read line by line, with errors that name file and line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saescope.errors import SaescopeError

FORM = 'each line must be an object such as {"text": "..."}'


def lines(path: Path, error: type[SaescopeError]) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1, without a byte-order mark.

    Raises `error` for a line that is not UTF-8, and for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as cause:
        raise error(f"{path} line {number} is not UTF-8 ({cause.reason}); save the file as UTF-8") from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror or cause}") from cause


def paragraphs(path: Path, error: type[SaescopeError]) -> Iterator[str]:
    """Documents between blank lines."""
    block: list[str] = []
    for _number, line in lines(path, error):
        if line.strip():
            block.append(line)
        elif block:
            yield "".join(block).rstrip("\r\n")
            block = []
    if block:
        yield "".join(block).rstrip("\r\n")


def whole_text(text: str, where: str, error: type[SaescopeError]) -> str:
    r"""`text`. Raises `error` for half a surrogate pair, which JSON can spell (`\ud800`) and UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as cause:
        raise error(f"{where}: {text[cause.start]!a} is half a character; correct the text") from cause
    return text


def json_lines(path: Path, error: type[SaescopeError]) -> Iterator[tuple[int, Any]]:
    """Numbered JSON values, blank lines skipped. Raises `error` for a line that is no JSON."""
    for number, line in lines(path, error):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as cause:
            raise error(f"{path} line {number} is no JSON ({cause}); {FORM}") from cause
