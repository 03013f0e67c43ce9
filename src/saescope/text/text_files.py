"""Text files read line by line, with errors that name file and line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saescope.errors import SaescopeError

FORM = 'each line must be an object such as {"text": "..."}'


def lines(path: Path, error: type[SaescopeError]) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1. Raises `error` for a line that is not UTF-8."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as cause:
                raise error(
                    f"{path} line {number} is not UTF-8 ({cause.reason}); save the file as UTF-8"
                ) from cause


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


def json_lines(path: Path, error: type[SaescopeError]) -> Iterator[tuple[int, Any]]:
    """Numbered JSON values, blank lines skipped. Raises `error` for a line that is no JSON."""
    for number, line in lines(path, error):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as cause:
            raise error(f"{path} line {number} is no JSON ({cause}); {FORM}") from cause
