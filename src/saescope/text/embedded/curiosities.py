"""Invented objects, events, animals and voyages."""

from __future__ import annotations

from saescope.text.embedded.scribe import Fact, Scribe, listing
from saescope.text.embedded.vocabulary import (
    ADJECTIVES,
    ANIMALS,
    COLOURS,
    COUNTABLES,
    FOODS,
    MATERIALS,
    MONTHS,
    SEASONS,
)


def treasure(scribe: Scribe) -> tuple[str, list[Fact]]:
    """An object in a collection."""
    noun = scribe.say(
        "[crown|vase|sword|clock|mask|lantern|bowl|statue|harp|shield|globe|chest|cup|mirror|bell]"
    )
    title, material, colour = scribe.coinage(), scribe.pick(MATERIALS), scribe.pick(COLOURS)
    maker, place, finder = f"{scribe.person()} {scribe.surname()}", scribe.place(), scribe.person()
    year, height, price = scribe.number(900, 1900), scribe.number(6, 190), scribe.number(2, 90) * 50
    opening = scribe.say(
        "The {title} {noun} is a(n) {adj} {noun} [made of|carved from|worked in] {material}.",
        title=title,
        noun=noun,
        adj=scribe.pick(ADJECTIVES),
        material=material,
    )
    whole = f"the {title} {noun}"
    return opening, [
        (f"It was made by {maker}[| in the town of {place}].", f"Who made {whole}?", maker),
        (f"[Experts|Historians|Most books] date it to {year}.", f"From what year is {whole}?", str(year)),
        (f"It [measures|stands] {height} cm [in height|high].", f"How high is {whole}?", f"{height} cm"),
        (
            f"[A band|A stripe|One side] of it is painted {colour}.",
            f"Which colour is mentioned for {whole}?",
            colour,
        ),
        (
            f"{finder} found it [under a floor|in a well|in an attic|behind a wall|in a shipwreck] near {place}.",
            f"Who found {whole}?",
            finder,
        ),
        (
            f"At a sale it [fetched|brought] {price} crowns.",
            f"What price did {whole} fetch?",
            f"{price} crowns",
        ),
        ("", f"What is {whole} made of?", material),
    ]


def event(scribe: Scribe) -> tuple[str, list[Fact]]:
    """A festival, race or disaster in an invented place."""
    place, month, day = scribe.place(), scribe.pick(MONTHS), scribe.number(1, 28)
    kind = scribe.say(
        "[boat race|kite festival|great fire|flood|song contest|bread fair|chess tournament|storm|parade]"
    )
    winner, year, crowd = (
        f"{scribe.person()} {scribe.surname()}",
        scribe.number(1700, 2019),
        scribe.number(2, 99) * 50,
    )
    dish, cause = (
        scribe.pick(FOODS),
        scribe.say("[a broken lamp|an old law|a bet|a long drought|a lost letter|a royal visit]"),
    )
    opening = scribe.say(
        "The {kind} of {place} [took place|happened|was held] on {day} {month} {year}.",
        kind=kind,
        place=place,
        day=day,
        month=month,
        year=year,
    )
    return opening, [
        (
            f"It [began with|started because of|goes back to] {cause}.",
            f"What did the {kind} [begin with|go back to]?",
            cause,
        ),
        (
            f"[More than|Almost|Some] {crowd} people [came|were there|saw it].",
            f"How many people saw the {kind}?",
            str(crowd),
        ),
        (
            f"[The hero of the day|The most praised person|The main witness] was {winner}.",
            f"Who was the [main person|hero] of the {kind}?",
            winner,
        ),
        (f"Afterwards everybody [ate|was served|shared] {dish}.", "What did the people eat?", dish),
        ("", f"In which month was the {kind} of {place}?", month),
        ("", f"In which year was the {kind}?", str(year)),
    ]


def creature(scribe: Scribe) -> tuple[str, list[Fact]]:
    """An invented species."""
    name, like, land = scribe.coinage().lower(), scribe.pick(ANIMALS), scribe.place()
    colour, food, season = scribe.pick(COLOURS), scribe.pick(COUNTABLES), scribe.pick(SEASONS)
    weight, young, years = scribe.number(1, 90), scribe.number(1, 9), scribe.number(2, 60)
    opening = scribe.say(
        "The {name} is a(n) {adj} animal [that looks like a(n) {like}|related to the {like}] and lives"
        " in [the hills|the forests|the marshes|the lakes] of {land}.",
        name=name,
        adj=scribe.pick(ADJECTIVES),
        like=like,
        land=land,
    )
    return opening, [
        (f"Its [fur|skin|coat|back] is {colour}.", f"What colour is the {name}?", colour),
        (
            f"An adult weighs [about|up to|at least] {weight} kg.",
            f"How heavy is an adult {name}?",
            f"{weight} kg",
        ),
        (f"It [eats|feeds on|hides] {food}.", f"What does the {name} eat or hide?", food),
        (
            f"[In|Every] {season} it [builds a nest|sleeps for weeks|sheds its coat|wanders south].",
            f"Which season is special for the {name}?",
            season,
        ),
        (
            f"A mother has {young} young [at a time|in a litter].",
            f"How many young does a {name} have?",
            str(young),
        ),
        (f"It [may live|lives] for {years} years.", f"How long does a {name} live?", f"{years} years"),
        ("", f"Which animal is the {name} compared with?", like),
        ("", f"Where does the {name} live?", land),
    ]


def voyage(scribe: Scribe) -> tuple[str, list[Fact]]:
    """The journey of a ship."""
    ship, start, goal = scribe.coinage(), scribe.place(), scribe.place()
    captain, days, crew = f"{scribe.person()} {scribe.surname()}", scribe.number(9, 240), scribe.number(6, 90)
    cargo, month, year = scribe.some(COUNTABLES, 2), scribe.pick(MONTHS), scribe.number(1580, 1910)
    opening = scribe.say(
        "In {month} {year} the ship {ship} left {start} [for|bound for|on the way to] {goal}.",
        month=month,
        year=year,
        ship=ship,
        start=start,
        goal=goal,
    )
    return opening, [
        (
            f"Captain {captain} [was in command|led the crew|had planned it for years].",
            f"Who was the captain of the {ship}?",
            captain,
        ),
        (
            f"[There were|She carried] {crew} sailors on board.",
            f"How many sailors were on the {ship}?",
            str(crew),
        ),
        (f"The cargo was {listing(cargo)}.", f"What was the cargo of the {ship}?", listing(cargo)),
        (f"The journey [took|lasted] {days} days.", "How long was the journey?", f"{days} days"),
        ("", f"From where did the {ship} leave?", start),
        ("", f"What was the goal of the {ship}?", goal),
        ("", f"In which year did the {ship} leave?", str(year)),
    ]
