"""Puzzles about orders, kinds, liars, rules and seats."""

from __future__ import annotations

import itertools

from saescope.text.embedded.problem_layouts import posed_puzzle
from saescope.text.embedded.scribe import Scribe
from saescope.text.embedded.vocabulary import ADJECTIVES, ANIMALS, COLOURS, TRADES

_RELATIONS = (
    ("taller", "shorter", "tallest", "shortest"), ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"), ("richer", "poorer", "richest", "poorest"),
    ("heavier", "lighter", "heaviest", "lightest"), ("louder", "quieter", "loudest", "quietest"),
    ("stronger", "weaker", "strongest", "weakest"),
)  # fmt: skip


def ordering(scribe: Scribe) -> str:
    """Put people in order from pairwise comparisons."""
    names = scribe.people(scribe.number(3, 6))
    more, less, most, least = scribe.pick(_RELATIONS)
    clues = [
        scribe.say("[{a} is {more} than {b}|{b} is {less} than {a}].", a=a, b=b, more=more, less=less)
        for a, b in itertools.pairwise(names)
    ]
    question, answer = scribe.pick(
        [
            (f"Who is the {most}?", names[0]),
            (f"Who is the {least}?", names[-1]),
            (f"Who comes second from the {most}?", names[1]),
        ]
    )
    order = f" The order from {most} to {least} is {', '.join(names)}." if scribe.chance(0.6) else ""
    return posed_puzzle(scribe, " ".join(scribe.shuffled(clues)), question, answer, order)


def syllogism(scribe: Scribe) -> str:
    """Two or three premises about invented kinds and a conclusion to judge."""
    kinds = (
        [scribe.coinage().lower() + "s" for _ in range(3)]
        if scribe.chance(0.6)
        else [f"{x}s" for x in scribe.some(TRADES, 3)]
    )
    a, b, c = kinds
    adjective, name = scribe.pick(ADJECTIVES), scribe.person()
    premises, claim, verdict, why = scribe.pick(
        [
            (
                [f"All {a} are {b}.", f"All {b} are {c}."],
                f"All {a} are {c}.",
                "Yes",
                f"every one of the {a} is among the {b}, and those are {c}",
            ),
            (
                [f"All {a} are {b}.", f"No {b} are {c}."],
                f"Some {a} are {c}.",
                "No",
                f"the {a} are {b}, and no {b} are {c}",
            ),
            (
                [f"All {a} are {b}.", f"Some {b} are {c}."],
                f"Some {a} are {c}.",
                "Unknown",
                f"the {b} that are {c} need not be {a}",
            ),
            (
                [f"All {a} are {adjective}.", f"{name} is one of the {a}."],
                f"{name} is {adjective}.",
                "Yes",
                f"all {a} are {adjective}",
            ),
            (
                [f"All {a} are {adjective}.", f"{name} is not {adjective}."],
                f"{name} is one of the {a}.",
                "No",
                f"then {name} would be {adjective}",
            ),
            (
                [f"All {a} are {adjective}.", f"{name} is {adjective}."],
                f"{name} is one of the {a}.",
                "Unknown",
                f"others may be {adjective} too",
            ),
            (
                [f"No {a} are {b}.", f"All {c} are {b}."],
                f"Some {c} are {a}.",
                "No",
                f"all {c} are {b}, and no {a} are {b}",
            ),
        ]
    )
    text = " ".join(scribe.shuffled(premises))
    question = scribe.say(
        "[Does it follow|Is it true|Can we conclude] that {claim}",
        claim=claim[0].lower() + claim[1:-1] if not claim.startswith(name) else claim[:-1],
    )
    return posed_puzzle(scribe, text, f"{question}?", verdict, f" The reason: {why}.")


def liars(scribe: Scribe) -> str:
    """A chain of statements about who tells the truth."""
    names = scribe.people(scribe.number(3, 5))
    truth = scribe.chance(0.5)
    text = [f"{names[0]} {'tells the truth' if truth else 'lies'}."]
    for before, now in itertools.pairwise(names):
        says_truth = scribe.chance(0.5)
        text.append(
            f"{now} says that {before} {scribe.say('tells the truth' if says_truth else '[lies|is lying]')}."
        )
        truth = truth == says_truth
    return posed_puzzle(
        scribe, " ".join(text), f"Does {names[-1]} tell the truth?", "Yes" if truth else "No", ""
    )


def rules(scribe: Scribe) -> str:
    """A chain of conditions."""
    words = [
        scribe.say(
            "the {c} [lamp|door|bell|wheel|light|valve|flag] [of {p} |]", c=c, p=scribe.coinage()
        ).strip()
        for c in scribe.some(COLOURS, scribe.number(3, 5))
    ]
    verbs = [scribe.say("[moves|is on|works|opens|turns]") for _ in words]
    clauses = [
        f"If {words[i]} {verbs[i]}, then {words[i + 1]} {verbs[i + 1]}." for i in range(len(words) - 1)
    ]
    start = scribe.number(0, len(words) - 2)
    text = " ".join(scribe.shuffled(clauses)) + f" Now {words[start]} {verbs[start]}."
    target = scribe.number(0, len(words) - 1)
    answer = "Yes" if target >= start else "It cannot be known"
    return posed_puzzle(scribe, text, f"Is it certain that {words[target]} {verbs[target]}?", answer, "")


def seating(scribe: Scribe) -> str:
    """A row of people, each with an animal and a colour."""
    names = scribe.people(scribe.number(3, 4))
    pets, colours = scribe.some(ANIMALS, len(names)), scribe.some(COLOURS, len(names))
    clues = [
        f"{n} sits {'first' if i == 0 else f'directly to the right of {names[i - 1]}'}."
        for i, n in enumerate(names)
    ]
    clues += [
        scribe.say("[{n} has|{n} keeps|The owner {n} brought] the {p}.", n=n, p=p)
        for n, p in zip(names, pets, strict=True)
    ]
    clues += [f"Whoever has the {p} wears {c}." for p, c in zip(pets, colours, strict=True)]
    i = scribe.number(0, len(names) - 1)
    question, answer = scribe.pick(
        [
            (f"Which colour does {names[i]} wear?", colours[i]),
            (f"Who wears {colours[i]}?", names[i]),
            (f"Which animal has seat {i + 1}?", f"the {pets[i]}"),
            (f"Who sits in seat {i + 1}?", names[i]),
        ]
    )
    return posed_puzzle(scribe, " ".join(scribe.shuffled(clues)), question, answer, "")
