"""Word problems about measures, shares and means."""

from __future__ import annotations

from saescope.text.embedded.problem_layouts import worked_problem
from saescope.text.embedded.scribe import Scribe
from saescope.text.embedded.vocabulary import COUNTABLES, FOODS


def recipe(scribe: Scribe) -> str:
    """Scaling a recipe."""
    name, dish = scribe.person(), scribe.pick(FOODS)
    factor, cups, eggs = scribe.number(2, 6), scribe.number(2, 9), scribe.number(2, 8)
    people = scribe.number(2, 6)
    grams = scribe.number(2, 20) * 25
    text = (
        f"A recipe for {dish} serves {people} and needs {cups} cups of flour, {eggs} eggs and {grams} g of butter. "
        f"{name} is cooking for {people * factor} people."
    )
    item, n, unit = scribe.pick([("flour", cups, "cups"), ("egg", eggs, "eggs"), ("butter", grams, "g")])
    work = [f"{people * factor} / {people} = {factor}", f"{n} * {factor} = {n * factor}"]
    return worked_problem(scribe, text, f"How much {item} is needed?", work, f"{n * factor} {unit}")


def area(scribe: Scribe) -> str:
    """Area and perimeter of a rectangle."""
    name, a, b = scribe.person(), scribe.number(2, 40), scribe.number(2, 30)
    place = scribe.say("[garden|field|room|carpet|courtyard|playground|poster|sheet of card|vegetable bed]")
    text = scribe.say(
        "{name} [measures|owns|draws|plans] a rectangular {place} that is {a} m long and {b} m wide.",
        name=name,
        place=place,
        a=a,
        b=b,
    )
    if scribe.chance(0.5):
        return worked_problem(
            scribe, text, f"What is the area of the {place}?", [f"{a} * {b} = {a * b}"], f"{a * b} m2"
        )
    work = [f"{a} + {b} = {a + b}", f"2 * {a + b} = {2 * (a + b)}"]
    return worked_problem(scribe, text, f"What is the perimeter of the {place}?", work, f"{2 * (a + b)} m")


def percent(scribe: Scribe) -> str:
    """A share of a whole in percent."""
    name, thing = scribe.person(), scribe.pick(COUNTABLES)
    share, base = scribe.pick([5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80]), scribe.number(1, 40) * 20
    part = share * base // 100
    text = scribe.say(
        "[Of the {base} {thing} in {name}'s store, {share} percent are sold.|{name} counts {base} {thing}"
        " and finds that {share} percent are damaged.|{name} paints {share} percent of {base} {thing}.]",
        base=base,
        thing=thing,
        name=name,
        share=share,
    )
    work = [f"{base} / 100 * {share} = {part}", f"{base} - {part} = {base - part}"]
    return worked_problem(
        scribe, text, "How many are these, and how many remain?", work, f"{part}, and {base - part} remain"
    )


def average(scribe: Scribe) -> str:
    """The mean of several scores."""
    names = scribe.people(scribe.number(3, 5))
    scores = [scribe.number(1, 50) for _ in names]
    scores[-1] += (-sum(scores)) % len(names)
    unit = scribe.say("[points|goals|pages|laps|kilometres|fish|tickets]")
    text = " ".join(
        scribe.say("{n} [scores|records|reports|counts] {s} {unit}.", n=n, s=s, unit=unit)
        for n, s in zip(names, scores, strict=True)
    )
    total = sum(scores)
    work = [f"{' + '.join(map(str, scores))} = {total}", f"{total} / {len(names)} = {total // len(names)}"]
    return worked_problem(scribe, text, "What is the average?", work, f"{total // len(names)} {unit}")


def clock(scribe: Scribe) -> str:
    """When something ends, given its start and duration."""
    name = scribe.person()
    hour, minute, length = scribe.number(6, 18), scribe.number(0, 11) * 5, scribe.number(3, 40) * 5
    end = hour * 60 + minute + length
    occasion = scribe.say(
        "[lesson|film|train ride|meeting|concert|football match|shift|walk|exam|flight|swim]"
    )
    text = scribe.say(
        "{name}'s {occasion} [starts|begins] at {h}:{m:02d} and [lasts|takes] {n} minutes.",
        name=name,
        occasion=occasion,
        h=hour,
        m=minute,
        n=length,
    )
    work = [
        f"{length} minutes = {length // 60} h {length % 60} min",
        f"{hour}:{minute:02d} + {length // 60} h {length % 60} min = {end // 60}:{end % 60:02d}",
    ]
    return worked_problem(scribe, text, f"When does the {occasion} end?", work, f"{end // 60}:{end % 60:02d}")
