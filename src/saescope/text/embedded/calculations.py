"""Bare calculations: chains, sums, sequences and units."""

from __future__ import annotations

from saescope.text.embedded.scribe import Scribe

_UNITS = (
    ("km", "m", 1000), ("m", "cm", 100), ("cm", "mm", 10), ("kg", "g", 1000), ("hours", "minutes", 60),
    ("minutes", "seconds", 60), ("days", "hours", 24), ("weeks", "days", 7), ("litres", "ml", 1000),
    ("feet", "inches", 12), ("yards", "feet", 3), ("dozen", "pieces", 12), ("tonnes", "kg", 1000),
)  # fmt: skip


def conversion(scribe: Scribe) -> str:
    """A few unit conversions in a row."""
    lines = [
        scribe.say("[Convert the units.|Unit conversion exercise|Write each amount in the smaller unit.]")
    ]
    for large, small, factor in scribe.some(_UNITS, scribe.number(2, 5)):
        n, extra = scribe.number(2, 40), scribe.number(0, factor - 1)
        if scribe.chance(0.5):
            lines.append(f"{n} {large} = {n} * {factor} {small} = {n * factor} {small}")
        else:
            lines.append(
                f"{n} {large} and {extra} {small} = {n} * {factor} + {extra} = {n * factor + extra} {small}"
            )
    return "\n".join(lines)


def chain(scribe: Scribe) -> str:
    """Bare calculations, one under the other, each starting from the last result."""
    value = scribe.number(2, 60)
    lines = [scribe.say("[Start with {n}.|Begin at {n}.|Let x = {n}.|The first number is {n}.]", n=value)]
    for _ in range(scribe.number(4, 11)):
        kind, n = scribe.number(0, 3), scribe.number(2, 30)
        if kind == 0 and value < 500:
            n = scribe.number(2, 9)
            lines.append(f"{scribe.say('[Multiply|Multiply it]')} by {n}: {value} * {n} = {value * n}")
            value *= n
        elif kind == 1 and value > n:
            lines.append(f"{scribe.say('[Subtract|Take away]')} {n}: {value} - {n} = {value - n}")
            value -= n
        elif kind == 2 and any(value % d == 0 for d in range(2, 10)):
            n = next(d for d in range(2, 10) if value % d == 0)
            lines.append(f"Divide by {n}: {value} / {n} = {value // n}")
            value //= n
        else:
            lines.append(f"Add {n}: {value} + {n} = {value + n}")
            value += n
    lines.append(f"The result is {value}.")
    return "\n".join(lines)


def sums(scribe: Scribe) -> str:
    """A page of bare sums of one or several operations."""
    lines = [
        scribe.say("[Calculate.|Exercises|Work out the answers.|Mental arithmetic]")
        + f" Set {scribe.number(1, 400)}"
    ]
    for _ in range(scribe.number(6, 14)):
        a, b, c = scribe.number(1, 99), scribe.number(1, 99), scribe.number(2, 12)
        shape = scribe.number(0, 5)
        expression, answer = [
            (f"{a} + {b}", a + b),
            (f"{a + b} - {a}", b),
            (f"{a} * {c}", a * c),
            (f"{a * c} / {c}", a),
            (f"({a} + {b}) * {c}", (a + b) * c),
            (f"{a} + {b} * {c}", a + b * c),
        ][shape]
        lines.append(f"{expression} = {answer}")
    return "\n".join(lines)


def sequence(scribe: Scribe) -> str:
    """Continue a number sequence and state its rule."""
    start, step = scribe.number(1, 60), scribe.number(2, 14)
    if scribe.chance(0.7):
        terms = [start + step * i for i in range(7)]
        rule = f"add {step} each time"
    else:
        start, step = scribe.number(1, 7), scribe.number(2, 3)
        terms = [start * step**i for i in range(7)]
        rule = f"multiply by {step} each time"
    shown = scribe.number(3, 5)
    question = scribe.say("[What comes next|Continue the sequence|Find the next two numbers]: ")
    return (
        f"{question}{', '.join(map(str, terms[:shown]))}, ...\nRule: {rule}.\n"
        f"Answer: {terms[shown]}, {terms[shown + 1]}"
    )
