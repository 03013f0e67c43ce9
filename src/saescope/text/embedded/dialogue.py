"""Conversations of several turns whose topic state is kept from turn to turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from saescope.text.embedded.counters import complaint, doctor, phone, restaurant, shop, station
from saescope.text.embedded.encounters import directions, interview, lesson, lost, plans, weather
from saescope.text.embedded.scribe import Scribe, Turn, sentence

SCENES: tuple[tuple[Callable[[Scribe], Iterator[Turn]], tuple[str, str]], ...] = (
    (shop, ("Customer", "Clerk")), (restaurant, ("Guest", "Waiter")), (station, ("Traveller", "Clerk")),
    (weather, ("", "")), (plans, ("", "")), (phone, ("Caller", "Office")), (complaint, ("Customer", "Agent")),
    (doctor, ("Patient", "Doctor")), (directions, ("Visitor", "Local")), (lost, ("", "")),
    (interview, ("Applicant", "Manager")), (lesson, ("Pupil", "Tutor")),
)  # fmt: skip


def document(scribe: Scribe) -> str:
    """Write one conversation, as a script with speakers' names or as quoted speech."""
    scene, roles = scribe.pick(SCENES)
    names = tuple(scribe.people(2))
    speakers = roles if roles[0] and scribe.chance(0.4) else names
    turns = [(who, sentence(" ".join(scribe.say(words).split()))) for who, words in scene(scribe)]
    layout = scribe.number(0, 3)
    if layout == 0:
        heading = scribe.say(
            "[Conversation|Dialogue|A talk|Overheard] [in {p}|between {a} and {b}]\n\n",
            p=scribe.place(),
            a=names[0],
            b=names[1],
        )
        return heading + "\n".join(f"{speakers[who]}: {words}" for who, words in turns)
    if layout == 1:
        verbs = "[said|replied|answered|asked|murmured|added]"
        lines = []
        for who, words in turns:
            quoted = f'"{words[:-1]}{"," if words[-1] == "." else words[-1]}"'
            lines.append(
                f"{quoted} {scribe.say(verbs)} {names[who]}." if scribe.chance(0.6) else f'"{words}"'
            )
        return "\n".join(lines)
    return "\n".join(f"{speakers[who]}: {words}" for who, words in turns)
