"""Puzzles about what changes: dates, swapped things, rooms and walks."""

from __future__ import annotations

import datetime

from saescope.text.embedded.problem_layouts import posed_puzzle
from saescope.text.embedded.scribe import Scribe, listing
from saescope.text.embedded.vocabulary import COLOURS, MONTHS, ROOMS, THINGS, WEEKDAYS


def date(scribe: Scribe) -> str:
    """Calendar arithmetic."""
    day = datetime.date(scribe.number(1950, 2030), scribe.number(1, 12), scribe.number(1, 28))
    step = scribe.number(1, 60) * scribe.pick([1, -1])
    other = day + datetime.timedelta(days=step)
    name = scribe.person()
    if scribe.chance(0.5):
        text = scribe.say(
            "[Today is {d}.|{n} writes a letter on {d}.|It is {d} when {n} arrives.]", d=_date(day), n=name
        )
        when = f"{step} days later" if step > 0 else f"{-step} days earlier"
        return posed_puzzle(scribe, text, scribe.say("What is the date {when}?", when=when), _date(other), "")
    weekday = scribe.number(0, 6)
    result = WEEKDAYS[(weekday + step) % 7]
    text = scribe.say(
        "[Today is {w}.|{n} starts a new job on a {w}.|A parcel for {n} was sent on {w}.]",
        w=WEEKDAYS[weekday],
        n=name,
    )
    question = f"Which day of the week is it {abs(step)} days {'later' if step > 0 else 'earlier'}?"
    return posed_puzzle(
        scribe,
        text,
        question,
        result,
        f" {abs(step)} days are {abs(step) // 7} weeks and {abs(step) % 7} days.",
    )


def swaps(scribe: Scribe) -> str:
    """Follow objects that people swap."""
    names = scribe.people(scribe.number(3, 5))
    things = [f"{scribe.pick(COLOURS)} {thing}" for thing in scribe.some(THINGS, len(names))]
    thing_of = dict(zip(names, things, strict=True))
    text = [f"{listing([f'{n} has a(n) {t}' for n, t in thing_of.items()])}."]
    for _ in range(scribe.number(2, 5)):
        a, b = scribe.some(names, 2)
        thing_of[a], thing_of[b] = thing_of[b], thing_of[a]
        text.append(
            scribe.say(
                "[Then|Next,|Now|After that,] {a} and {b} [swap|trade|exchange] [things|what they hold|objects].",
                a=a,
                b=b,
            )
        )
    person = scribe.pick(names)
    return posed_puzzle(
        scribe,
        scribe.say(" ".join(text)),
        f"What does {person} have [now|at the end]?",
        f"the {thing_of[person]}",
        "",
    )


def rooms(scribe: Scribe) -> str:
    """Follow people and a thing through a house."""
    names, places = scribe.people(scribe.number(2, 3)), scribe.some(ROOMS, 4)
    thing = scribe.pick(THINGS)
    room_of = {n: scribe.pick(places) for n in names}
    text = [f"{n} is in the {room_of[n]}." for n in names]
    holder: str | None = None
    spot = room_of[names[0]]
    text.append(f"The {thing} is in the {spot}.")
    for _ in range(scribe.number(3, 8)):
        who = scribe.pick(names)
        if holder == who and scribe.chance(0.35):
            text.append(scribe.say("{n} [drops|leaves|puts down] the {t}.", n=who, t=thing))
            holder, spot = None, room_of[who]
        elif holder is None and room_of[who] == spot and scribe.chance(0.7):
            text.append(scribe.say("{n} [takes|picks up|grabs] the {t}.", n=who, t=thing))
            holder = who
        else:
            room_of[who] = scribe.pick([p for p in places if p != room_of[who]])
            text.append(scribe.say("{n} [goes|walks|moves|runs] to the {p}.", n=who, p=room_of[who]))
    person = scribe.pick(names)
    if scribe.chance(0.6):
        return posed_puzzle(
            scribe,
            " ".join(text),
            f"Where is the {thing}?",
            f"in the {room_of[holder] if holder else spot}",
            "",
        )
    return posed_puzzle(scribe, " ".join(text), f"Where is {person}?", f"in the {room_of[person]}", "")


def walk(scribe: Scribe) -> str:
    """Where a walker ends on a grid."""
    name, moves = scribe.person(), {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
    x = y = 0
    text = [f"{name} starts at the {scribe.say('[well|gate|tree|tower|fountain]')} of {scribe.place()}."]
    for _ in range(scribe.number(3, 6)):
        way, n = scribe.pick(list(moves)), scribe.number(1, 20)
        x, y = x + moves[way][0] * n, y + moves[way][1] * n
        text.append(
            scribe.say(
                "[{name}|Then {name}|Next {name}] [walks|goes|runs] {n} steps {way}.", name=name, n=n, way=way
            )
        )
    east = f"{abs(x)} steps {'east' if x >= 0 else 'west'}"
    north = f"{abs(y)} steps {'north' if y >= 0 else 'south'}"
    return posed_puzzle(
        scribe, " ".join(text), f"Where is {name} now, seen from the start?", f"{east} and {north}", ""
    )


def _date(day: datetime.date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"
