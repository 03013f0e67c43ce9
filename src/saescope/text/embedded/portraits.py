"""Invented people, towns and firms."""

from __future__ import annotations

from saescope.text.embedded.scribe import Fact, Scribe
from saescope.text.embedded.vocabulary import (
    ADJECTIVES,
    COLOURS,
    COUNTABLES,
    MATERIALS,
    SUBJECTS,
    TRADES,
    WEEKDAYS,
)


def person(scribe: Scribe) -> tuple[str, list[Fact]]:
    """A short life."""
    name = f"{scribe.person()} {scribe.surname()}"
    born, town, trade, other = scribe.number(1610, 1985), scribe.place(), scribe.pick(TRADES), scribe.place()
    subject, friend, work = scribe.pick(SUBJECTS), f"{scribe.person()} {scribe.surname()}", scribe.coinage()
    opening = scribe.say(
        "{name} was a(n) {adj} {trade} [from|who grew up in|born in] {town}.",
        name=name,
        adj=scribe.pick(ADJECTIVES),
        trade=trade,
        town=town,
    )
    moved, age = born + scribe.number(18, 40), scribe.number(45, 96)
    return opening, [
        (f"[{name} was born in {born}|The year of birth was {born}].", f"When was {name} born?", str(born)),
        (
            f"[At school|As a child|At the age of ten], {name} [loved|studied|was drawn to] {subject}.",
            f"Which subject did {name} [love|study] [at school|as a child|early in life]?",
            subject,
        ),
        (
            f"In {moved} {name} [moved|went|sailed] to {other} [to find work|with two sisters|after a quarrel|for good].",
            f"Where did {name} [move|go] in {moved}?",
            other,
        ),
        (
            f"[A close friend|A rival|A pupil|A neighbour] was {friend}.",
            f"Who is named [besides|together with] {name}?",
            friend,
        ),
        (
            f"The [best known|most famous|last] work of {name} is called '{work}'.",
            f"What is the [title|name] of the [work|famous work] of {name}?",
            work,
        ),
        (
            f"{name} died [in {other} |peacefully |]at the age of {age}.",
            f"At what age did {name} die?",
            str(age),
        ),
        ("", f"What was the [profession|trade] of {name}?", trade),
        ("", f"Which town did {name} come from?", town),
    ]


def town(scribe: Scribe) -> tuple[str, list[Fact]]:
    """A town, its founding and what it is known for."""
    name, river, founder = scribe.place(), scribe.coinage(), f"{scribe.person()} {scribe.surname()}"
    year, size, material = scribe.number(820, 1890), scribe.number(3, 900) * 100, scribe.pick(MATERIALS)
    day, goods, neighbour = scribe.pick(WEEKDAYS), scribe.pick(COUNTABLES), scribe.place()
    away = scribe.number(4, 90)
    opening = scribe.say(
        "{name} is a(n) {adj} [town|village|harbour|city|market town] [on the river {river}|by the"
        " river {river}|where the river {river} meets the sea].",
        name=name,
        adj=scribe.pick(ADJECTIVES),
        river=river,
    )
    return opening, [
        (
            f"It was [founded|settled|first mentioned] in {year}.",
            f"In which year was {name} [founded|settled]?",
            str(year),
        ),
        (
            f"[Its founder was {founder}|The first mayor was {founder}|{founder} drew the first map of it].",
            f"Which person [is tied to|is linked with] {name}?",
            founder,
        ),
        (f"[About|Around|Nearly] {size} people live there.", f"How many people live in {name}?", str(size)),
        (
            f"Most [houses|roofs|bridges|towers] are [built|made] of {material}.",
            f"Which material is [used|common] in {name}?",
            material,
        ),
        (
            f"A [market|fair] for {goods} is held every {day}.",
            f"On which day is the [market|fair] in {name}?",
            day,
        ),
        (
            f"[The nearest town is|The road leads to|To the north lies] {neighbour}, {away} km away.",
            f"How far is {neighbour} from {name}?",
            f"{away} km",
        ),
        ("", f"On which river does {name} lie?", river),
    ]


def company(scribe: Scribe) -> tuple[str, list[Fact]]:
    """A firm and its products."""
    name, goods, place = scribe.coinage(), scribe.pick(COUNTABLES), scribe.place()
    head, year, staff = (
        f"{scribe.person()} {scribe.surname()}",
        scribe.number(1790, 2015),
        scribe.number(8, 980),
    )
    rival, colour, abroad = scribe.coinage(), scribe.pick(COLOURS), scribe.place()
    opening = scribe.say(
        "{name} is a [company|firm|workshop|factory] in {place} that [makes|sells|repairs|exports] {goods}.",
        name=name,
        place=place,
        goods=goods,
    )
    return opening, [
        (f"[The owner is|It is led by|It was started by] {head}.", f"Who [leads|owns] {name}?", head),
        (f"It [opened|was founded] in {year}.", f"When was {name} founded?", str(year)),
        (
            f"[It employs|There are] {staff} workers[| in two halls|, most of them young].",
            f"How many workers does {name} have?",
            str(staff),
        ),
        (
            f"Its [main rival|largest customer|old partner] is {rival}.",
            f"Which other firm is named with {name}?",
            rival,
        ),
        (
            f"The [sign over the door|delivery van|packaging] is {colour}.",
            f"Which colour does {name} use?",
            colour,
        ),
        (
            f"A second [branch|office|shop] is planned in {abroad}.",
            f"Where is a second branch of {name} planned?",
            abroad,
        ),
        ("", f"What does {name} deal in?", goods),
    ]
