"""Marks everything here as a campaign, and counts the inputs tried."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

TRIED: Counter[tuple[str, str]] = Counter()
"""(what was attacked, how it ended) → inputs."""


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Any:
    """A byte-level BPE tokenizer of 400 tokens."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_folder)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.campaign)


def pytest_terminal_summary(terminalreporter):
    if TRIED:
        terminalreporter.section("inputs tried")
    for what in dict.fromkeys(what for what, _ in TRIED):
        ends = ", ".join(f"{n} {end}" for (name, end), n in sorted(TRIED.items()) if name == what)
        total = sum(n for (name, _), n in TRIED.items() if name == what)
        terminalreporter.write_line(f"{what}: {total} inputs ({ends})")
