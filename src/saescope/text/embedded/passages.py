"""Short passages about invented people, places, objects and events, with questions answered from them."""

from __future__ import annotations

from collections.abc import Callable

from saescope.text.embedded.curiosities import creature, event, treasure, voyage
from saescope.text.embedded.portraits import company, person, town
from saescope.text.embedded.scribe import Fact, Scribe

SUBJECT_KINDS: tuple[Callable[[Scribe], tuple[str, list[Fact]]], ...] = (
    person, person, town, treasure, event, creature, company, voyage,
)  # fmt: skip


def document(scribe: Scribe) -> str:
    """Write one passage with two to four questions and answers."""
    opening, facts = scribe.pick(SUBJECT_KINDS)(scribe)
    stated = scribe.shuffled([fact for fact in facts if fact[0]])
    stated = stated[: scribe.number(3, len(stated))]
    implied = [fact for fact in facts if not fact[0]]
    passage = " ".join([opening, *(scribe.say(fact[0]) for fact in stated)])
    queried = scribe.shuffled([*stated, *implied])[: scribe.number(2, 4)]
    layout = scribe.number(0, 3)
    pairs = [(scribe.say(question), answer) for _, question, answer in queried]
    if layout == 0:
        lines = [f"Question: {q}\nAnswer: {a}" for q, a in pairs]
        return "\n".join([f"Passage: {passage}", *lines])
    if layout == 1:
        lines = [f"Q: {q}\nA: {a}." for q, a in pairs]
        return "\n".join(["Read the text and answer.", passage, "", *lines])
    if layout == 2:
        questions = "\n".join(f"{i}. {q}" for i, (q, _) in enumerate(pairs, 1))
        answers = "\n".join(f"{i}. {a}" for i, (_, a) in enumerate(pairs, 1))
        return f"{passage}\n\nQuestions\n{questions}\n\nAnswers\n{answers}"
    return "\n".join([passage, "", *(f"{q} {a}." for q, a in pairs)])
