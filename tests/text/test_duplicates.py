"""Near-duplicates: exact copies, small edits, scripts without spaces; against comparing all pairs."""

import itertools

import numpy as np
import pytest

from saescope.text.duplicates import OVERLAP, WORDS, find_repeats

POOL = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in "lmnrst"]


def words(rng: np.random.Generator, n: int) -> list[str]:
    return [str(word) for word in rng.choice(POOL, n)]


def by_hand(a: str, b: str) -> float:
    """Jaccard index of the sets of 8-grams."""
    sets = []
    for text in (a, b):
        parts = text.split()
        sets.append({tuple(parts[i : i + WORDS]) for i in range(max(1, len(parts) - WORDS + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_copies_and_small_edits():
    rng = np.random.default_rng(0)
    text, other = words(rng, 200), words(rng, 200)
    edited = [*text[:100], "EDITED", *text[101:]]
    texts = [" ".join(t) for t in (text, other, text, edited, text[:100])]
    texts.append("  ".join(texts[0].upper().split(" ")))  # case and spaces do not count
    repeats = find_repeats(texts, [0] * 6)
    assert repeats.first_D.tolist() == [0, 1, 0, 0, 4, 0]
    assert not repeats.elsewhere_D.any()


def test_short_texts_repeat_only_when_they_are_equal():
    assert find_repeats(["a b c", "a b d", "a b c", "a b c d"], [0] * 4).first_D.tolist() == [0, 1, 0, 3]


def test_other_tasks_are_told_apart():
    text = " ".join(words(np.random.default_rng(1), 50))
    repeats = find_repeats([text, text, text, "unlike"], [0, 1, 1, 1])
    assert repeats.first_D.tolist() == [0, 1, 1, 3]
    assert repeats.elsewhere_D.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    "text",
    [
        "今日は朝から雨が降っていて、駅まで歩くのに三十分もかかりました。",
        "วันนี้ฝนตกตั้งแต่เช้าและต้องเดินไปสถานีนานมาก",
    ],
)
def test_scripts_without_spaces(text):
    longer = text * 3
    assert find_repeats([longer, longer[:-1], longer[::-1]], [0] * 3).first_D.tolist() == [0, 0, 2]


def test_templates_with_other_words_are_no_duplicates():
    rng = np.random.default_rng(2)
    texts = [
        f"Answer the following question as well as you can: {' '.join(words(rng, 30))}" for _ in range(200)
    ]
    assert find_repeats(texts, [0] * 200).first_D.tolist() == list(range(200))


def test_the_search_misses_no_pair():
    rng = np.random.default_rng(3)
    texts = []
    for _ in range(40):
        base = words(rng, int(rng.integers(5, 120)))
        for _ in range(3):
            copy = [word if rng.random() > 0.01 else "changed" for word in base]
            texts.append(" ".join(copy[int(rng.integers(0, 4)) :]))
    order = rng.permutation(len(texts))
    texts = [texts[i] for i in order]
    first: list[int] = []
    for number, text in enumerate(texts):
        heads = [other for other in range(number) if first[other] == other]
        first.append(next((other for other in heads if by_hand(text, texts[other]) >= OVERLAP), number))
    assert find_repeats(texts, [0] * len(texts)).first_D.tolist() == first
    assert 20 < sum(a != i for i, a in enumerate(first)) < len(texts) - 20


def test_nothing_and_no_words():
    assert find_repeats([], []).first_D.tolist() == []
    assert find_repeats(["", " "], [0, 0]).first_D.tolist() == [0, 0]


def test_ten_thousand_copies_take_no_time_squared():
    rng = np.random.default_rng(4)
    base = [" ".join(words(rng, 40)) for _ in range(20)]
    texts = list(itertools.islice(itertools.cycle(base), 10_000))
    assert find_repeats(texts, [0] * len(texts)).first_D.tolist() == [i % 20 for i in range(10_000)]
