"""How generated documents are written: random choices, phrase alternatives and invented names."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from saescope.text.embedded import vocabulary
from saescope.text.embedded.probe_split import Split, split_of

T = TypeVar("T")

Fact = tuple[str, str, str]
"""A fact of a passage: sentence template (empty: implied), question template, answer."""

Turn = tuple[int, str]
"""A turn of a conversation: who speaks (0 opens it, 1 answers), and the template of what is said."""

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa])\(n\) (\w)")


class Scribe:
    """Random choices of one seed that never use a name of the other split.

    Names of people, places and ships are drawn from pools cut in two by a hash of the name, so probe
    documents speak of people and places that no training document mentions.
    """

    def __init__(self, split: Split, seed: int) -> None:
        """Start a stream of choices for a split; streams of different seeds are independent."""
        self.split: Split = split
        self.random = random.Random(f"saescope-{split}-{seed}")
        self._first_names = [name for name in vocabulary.FIRST_NAMES if split_of(name) == split]

    def pick(self, items: Sequence[T]) -> T:
        """Return one item."""
        return items[int(self.random.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Return `count` different items in random order."""
        return self.random.sample(items, count)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return all items in random order."""
        return self.random.sample(items, len(items))

    def number(self, low: int, high: int) -> int:
        """Return a whole number between `low` and `high`, both included."""
        return self.random.randint(low, high)

    def chance(self, probability: float) -> bool:
        """Return true with the given probability."""
        return self.random.random() < probability

    def say(self, template: str, **slots: object) -> str:
        """Resolve `[this|that]` alternatives (nested ones too), then `{slots}`, then `a(n)` articles."""
        while True:
            resolved = _CHOICE.sub(lambda match: self.pick(match.group(1).split("|")), template)
            if resolved == template:
                break
            template = resolved
        text = template.format_map(slots) if slots else template
        return _ARTICLE.sub(_article, text)

    def person(self) -> str:
        """Return a first name of this split."""
        return self.pick(self._first_names)

    def people(self, count: int) -> list[str]:
        """Return different first names of this split."""
        return self.random.sample(self._first_names, count)

    def surname(self) -> str:
        """Return an invented family name of this split."""
        return self._invent(vocabulary.SURNAME_STARTS, vocabulary.SURNAME_ENDS)

    def place(self) -> str:
        """Return an invented town or region of this split."""
        return self._invent(vocabulary.PLACE_STARTS, vocabulary.PLACE_ENDS)

    def coinage(self) -> str:
        """Return an invented proper noun, for ships, firms, creatures and nonsense words."""
        return self._invent(vocabulary.COIN_STARTS, vocabulary.COIN_MIDDLES, vocabulary.COIN_ENDS)

    def _invent(self, *parts: Sequence[str]) -> str:
        while True:
            name = "".join(self.pick(part) for part in parts)
            if split_of(name) == self.split:
                return name


def _article(match: re.Match[str]) -> str:
    letter, following = match.group(1), match.group(2)
    return f"{letter}{'n' if following.lower() in 'aeiou' else ''} {following}"


def listing(items: Sequence[str]) -> str:
    """Join items as English does: `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
