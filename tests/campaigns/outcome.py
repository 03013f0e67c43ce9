"""What any input may end in: a result, or a `SaescopeError` of one printable line."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, settings

from saescope.errors import SaescopeError
from tests.campaigns.conftest import TRIED

T = TypeVar("T")


def seeded(examples: int):
    """Hypothesis with the same inputs in every run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def attempt(what: str, call: Callable[[], T]) -> T | str:
    """The result, or the user error's line; any other exception fails the test."""
    try:
        found = call()
    except SaescopeError as error:
        TRIED[what, "refused"] += 1
        return one_line(str(error))
    TRIED[what, "accepted"] += 1
    return found


def one_line(text: str) -> str:
    """`text`, checked: one line that any terminal and any file takes."""
    assert text.strip(), "an error without words"
    assert text.isprintable(), repr(text)
    assert len(text) <= 4000, f"{len(text)} characters"
    text.encode("utf-8")
    return text
