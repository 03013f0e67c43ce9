"""Word problems about people who count, buy, travel and share."""

from __future__ import annotations

from saescope.text.embedded.problem_layouts import worked_problem
from saescope.text.embedded.scribe import Scribe
from saescope.text.embedded.vocabulary import COUNTABLES

_GAINS = (
    "[finds|picks up|collects|gathers] {n} more",
    "[buys|orders|brings home] {n} more",
    "[is given|receives|gets] {n} [more |]by {other}",
    "[wins|earns] another {n}",
    "[adds|puts in] {n} from [the cupboard|the shed|a second box|the market]",
)


_LOSSES = (
    "[gives|hands|lends|sells] {n} to {other}",
    "[loses|drops|breaks|throws away] {n} of them",
    "[uses|needs|sets aside] {n} for [a school project|a party|the fair|a neighbour|the next day]",
    "[sends|mails|ships] {n} to [a cousin|a friend|the museum|the village shop]",
)


_QUESTION = "[How many {thing} does {name} have [now|at the end|left|in the end]?|What is the final number of {thing}?]"


def story(scribe: Scribe) -> str:
    """A chain of gains and losses of one person's things, worked_problem step by step."""
    name, other = scribe.people(2)
    thing = scribe.pick(COUNTABLES)
    total = scribe.number(5, 90)
    where = scribe.say("[|||at home |in the shop |in a box |in the garden |on the shelf ]")
    text = [
        scribe.say(
            "{name} [has|starts with|owns|begins the {day} with] {n} {thing} {where}.",
            name=name,
            n=total,
            thing=thing,
            where=where,
            day=scribe.say("[day|week|morning|month]"),
        ).replace(" .", ".")
    ]
    work = []
    for step in range(scribe.number(1, 5)):
        kind = scribe.number(0, 5)
        before = total
        if kind == 0 and total % 2 == 0 and total > 2:
            event, total, sign = "[gives away|sells|shares out] half of them", total // 2, "/ 2"
        elif kind == 1 and total < 100:
            factor = scribe.number(2, 4)
            event = {2: "doubles the number", 3: "triples the number", 4: "ends up with four times as many"}[
                factor
            ]
            total, sign = total * factor, f"* {factor}"
        elif kind in (2, 3) and total > 4:
            n = scribe.number(1, total - 1)
            event, total, sign = scribe.pick(_LOSSES), total - n, f"- {n}"
        else:
            n = scribe.number(2, 60)
            event, total, sign = scribe.pick(_GAINS), total + n, f"+ {n}"
        lead = scribe.say(
            "[Then|Next,|After that,|Later,|On {day},|In the afternoon|The next day]", day="Monday"
        )
        who = scribe.pick([name, name, "the owner"]) if step == 0 else name
        event = scribe.say(event, n=sign.split()[1], other=other)
        text.append(f"{lead} {who} {event}.")
        work.append(f"{before} {sign} = {total}")
    question = scribe.say(_QUESTION, thing=thing, name=name)
    return worked_problem(scribe, " ".join(text), question, work, f"{total} {thing}")


def shopping(scribe: Scribe) -> str:
    """Prices, quantities, a discount and the change."""
    name = scribe.person()
    first, second = scribe.some(COUNTABLES, 2)
    a, b, p, q = (scribe.number(2, 15), scribe.number(2, 12), scribe.number(1, 12), scribe.number(1, 15))
    money = scribe.pick(["dollars", "euros", "pounds", "crowns", "coins"])
    cost = a * p + b * q
    text = scribe.say(
        "[{name} buys|{name} wants|At the market {name} takes|In the shop {name} pays for] {a} {first} at {p} {money}"
        " [each|apiece|a piece] and {b} {second} at {q} {money} [each|apiece].",
        name=name,
        a=a,
        first=first,
        p=p,
        money=money,
        b=b,
        second=second,
        q=q,
    )
    work = [f"{a} * {p} = {a * p}", f"{b} * {q} = {b * q}", f"{a * p} + {b * q} = {cost}"]
    if scribe.chance(0.4):
        rest = scribe.number(1, 60)
        text += scribe.say(
            " {name} [pays with|hands over|gives the clerk] {paid} {money}.",
            name=name,
            paid=cost + rest,
            money=money,
        )
        work.append(f"{cost + rest} - {cost} = {rest}")
        return worked_problem(
            scribe,
            text,
            scribe.say("How much [change|money back] does {name} get?", name=name),
            work,
            f"{rest} {money}",
        )
    if scribe.chance(0.4):
        off = scribe.number(1, cost - 1) if cost > 1 else 1
        text += scribe.say(" There is a [discount|voucher|rebate] of {off} {money}.", off=off, money=money)
        work.append(f"{cost} - {off} = {cost - off}")
        cost -= off
    return worked_problem(
        scribe,
        text,
        scribe.say("[What is the total price?|How much does it cost altogether?]"),
        work,
        f"{cost} {money}",
    )


def travel(scribe: Scribe) -> str:
    """Speed, time and distance."""
    name, place, goal = scribe.person(), scribe.place(), scribe.place()
    speed, hours = scribe.number(2, 24) * 5, scribe.number(2, 12)
    how = scribe.pick(
        ["A train", "A bus", "A lorry", "A ferry", f"{name}'s car", f"{name} on a bicycle", "A tram"]
    )
    way = speed * hours
    kind = scribe.number(0, 2)
    if kind == 0:
        text = f"{how} goes from {place} to {goal} at {speed} km per hour and needs {hours} hours."
        return worked_problem(
            scribe, text, f"How far is {goal} from {place}?", [f"{speed} * {hours} = {way}"], f"{way} km"
        )
    if kind == 1:
        text = f"{how} covers the {way} km between {place} and {goal} at {speed} km per hour."
        return worked_problem(
            scribe,
            text,
            "How many hours does the journey take?",
            [f"{way} / {speed} = {hours}"],
            f"{hours} hours",
        )
    text = f"{how} covers {way} km from {place} to {goal} in {hours} hours."
    return worked_problem(
        scribe, text, "What is the average speed?", [f"{way} / {hours} = {speed}"], f"{speed} km per hour"
    )


def sharing(scribe: Scribe) -> str:
    """Division with a remainder among people or boxes."""
    name, thing = scribe.person(), scribe.pick(COUNTABLES)
    groups, each = scribe.number(2, 12), scribe.number(2, 20)
    rest = scribe.number(0, groups - 1)
    total = groups * each + rest
    text = scribe.say(
        "{name} [packs|divides|sorts|shares] {total} {thing} [equally|evenly] [among|between]"
        " {groups} [friends|boxes|baskets|children|tables|teams].",
        name=name,
        total=total,
        thing=thing,
        groups=groups,
    )
    work = [f"{groups} * {each} = {groups * each}", f"{total} - {groups * each} = {rest}"]
    question = scribe.say(
        "How many {thing} [does each get|go to each], and how many are left over?", thing=thing
    )
    return worked_problem(scribe, text, question, work, f"{each} each with {rest} left over")


def ages(scribe: Scribe) -> str:
    """Ages of people now and in some years."""
    a, b, c = scribe.people(3)
    young, gap, later = scribe.number(3, 40), scribe.number(1, 25), scribe.number(2, 20)
    factor = scribe.number(2, 3)
    text = f"{a} is {young} years old. {b} is {gap} years older than {a}, and {c} is {factor} times as old as {a}."
    ages_now = {a: young, b: young + gap, c: young * factor}
    first, second = scribe.some([a, b, c], 2)
    total = ages_now[first] + ages_now[second] + 2 * later
    work = [
        f"{b} is {young} + {gap} = {young + gap}",
        f"{c} is {factor} * {young} = {young * factor}",
        f"{ages_now[first]} + {ages_now[second]} + 2 * {later} = {total}",
    ]
    question = f"How old will {first} and {second} be together in {later} years?"
    return worked_problem(scribe, text, question, work, f"{total} years")
