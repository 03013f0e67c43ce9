"""Conversations between friends, strangers and pupils."""

from __future__ import annotations

from collections.abc import Iterator

from saescope.text.embedded.scribe import Scribe, Turn
from saescope.text.embedded.vocabulary import (
    ADJECTIVES,
    ANIMALS,
    BYE,
    COLOURS,
    FOODS,
    ROOMS,
    SUBJECTS,
    THANKS,
    THINGS,
    TRADES,
    WEEKDAYS,
    WELCOME,
)


def weather(scribe: Scribe) -> Iterator[Turn]:
    """Two people speak about the weather and change a plan."""
    degrees, day, place = scribe.number(-9, 34), scribe.pick(WEEKDAYS), scribe.place()
    sky = scribe.say("[rain|snow|fog|thunder|sunshine|strong wind|hail|clouds|a clear sky|drizzle]")
    plan = scribe.say(
        "[a picnic|a boat trip|a hike|football|gardening|a bicycle tour|painting the fence|a barbecue]"
    )
    yield 0, f"[Have you seen the forecast|What will the weather be like|Do you know the forecast] for {day}?"
    yield 1, f"[They say|The radio says|I read that] there will be {sky} and {degrees} degrees [|in {place}]."
    yield 0, f"[Oh no|Hm|Really|Well], we [wanted to do|had planned|were looking forward to] {plan}."
    yield (
        1,
        f"[Why don't we move it to|Let's do it on|How about] {scribe.pick(WEEKDAYS)}? [It should be better then|I am free].",
    )
    yield (
        0,
        f"[Good idea|That works|I have to work then], [but|and] I will [bring an umbrella|wear a coat|call {scribe.person()}].",
    )
    yield (
        1,
        f"[In {place} it is always like this|Last year was worse|I like {sky}|The garden needs it], [I think|really|you know].",
    )


def plans(scribe: Scribe) -> Iterator[Turn]:
    """Friends arrange to meet."""
    friend, day, hour = scribe.person(), scribe.pick(WEEKDAYS), scribe.number(9, 21)
    activity = scribe.say(
        "[a film|a concert|dinner|a walk|swimming|the museum|a game of chess|the new exhibition|a party]"
    )
    place, bring = scribe.place(), scribe.pick(FOODS)
    yield 0, f"[Are you free|Do you have time|What are you doing] on {day}?"
    yield (
        1,
        "[I think so|Yes, why|Not in the morning|Only after work]. [What do you have in mind|What is the plan]?",
    )
    yield (
        0,
        f"{friend} and I are going to {activity} in {place}. [Do you want to come|Would you like to join us]?",
    )
    yield 1, "[I'd love to|Sounds good|Gladly]. [When do we meet|What time]?"
    yield 0, f"At {hour} o'clock [at the station|in front of the town hall|at my place|by the bridge]."
    if scribe.chance(0.5):
        yield (
            1,
            f"[Could we make it|Is it possible to meet at] {hour + 1}? I [have a lesson|must wait for a parcel|work late].",
        )
        yield (
            0,
            f"[No problem|Fine with me], then {hour + 1}. [I will tell {friend}|{friend} is always late anyway].",
        )
        hour += 1
    yield 1, f"[Shall I bring something|Do we need food]? I could make {bring}."
    yield (
        0,
        f"[Yes, {bring} would be great|No need|{friend} already bought {scribe.pick(FOODS)}]. See you at {hour} on {day}!",
    )


def directions(scribe: Scribe) -> Iterator[Turn]:
    """Someone asks for the way."""
    goal = scribe.say(
        "[the station|the museum|the {n} hotel|the library|{n} Street|the hospital|the post office]",
        n=scribe.surname(),
    )
    mark, turn, back = scribe.surname(), scribe.number(1, 5), scribe.say("[left|right]")
    yield 0, f"[Excuse me|Sorry], [how do I get to|where is|can you tell me the way to] {goal}?"
    yield (
        1,
        f"[Go straight on|Walk down this road] [to|until you see] the {mark} [bridge|bakery|church|school], then turn {back}.",
    )
    yield 0, f"[{back.capitalize()} at the {mark}, I see|So {back}]. [Is it far|And then]?"
    yield (
        1,
        f"[Take the|Then it is the] {['first', 'second', 'third', 'fourth', 'fifth'][turn - 1]} street [on the left|on the right]. It is {scribe.number(2, 30)} minutes on foot.",
    )
    yield 0, "[Is there a bus|Can I take a tram|Could I walk]?"
    yield (
        1,
        f"[Number {scribe.number(1, 90)} stops there|You could take the {scribe.number(1, 90)}|Better to walk].",
    )
    yield 0, f"{THANKS}!"
    yield 1, f"{WELCOME}."


def lost(scribe: Scribe) -> Iterator[Turn]:
    """Two people at home look for something."""
    thing, rooms = scribe.pick(THINGS), scribe.some(ROOMS, 3)
    colour = scribe.pick(COLOURS)
    yield 0, f"Have you seen my {colour} {thing}? [I can't find it|I need it now|It was here yesterday]."
    for room in rooms[:-1]:
        yield 1, f"[Did you look|Have you checked|Maybe it is] in the {room}?"
        yield (
            0,
            f"[Yes|I have just been there|I looked twice], [it is not in|there is only a {scribe.pick(THINGS)} in] the {room}.",
        )
    yield (
        1,
        f"[Wait|Oh], {scribe.person()} [took|borrowed|moved|was playing with] it. [Look|Try] in the {rooms[-1]}.",
    )
    yield (
        0,
        f"[Here it is|Found it]! The {thing} was [under|behind|next to] a {scribe.pick(THINGS)} in the {rooms[-1]}.",
    )


def interview(scribe: Scribe) -> Iterator[Turn]:
    """A job interview."""
    trade, years, place = scribe.pick(TRADES), scribe.number(1, 25), scribe.place()
    yield 1, f"[Welcome|Please sit down]. Why do you want to work [as a(n) {trade}|for us as a(n) {trade}]?"
    yield (
        0,
        f"I have worked as a(n) {trade} in {place} for {years} years, and [I like the work|I want something new].",
    )
    yield 1, f"[What did you learn in {place}|Why did you leave {place}|What was hardest there]?"
    yield (
        0,
        f"[I learned|They taught me] [to be {scribe.pick(ADJECTIVES)}|some {scribe.pick(SUBJECTS)}|to listen]. [The firm closed|I moved].",
    )
    yield (
        1,
        f"[When could you start|Which salary do you expect]? {scribe.number(12, 60) * 100} crowns a month [is usual|is our limit].",
    )
    yield (
        0,
        f"[From {scribe.pick(WEEKDAYS)} on|That is fine|I hoped for more]. [Would I work alone|Who leads the team]?",
    )
    yield (
        1,
        f"[You would work with {scribe.person()}|The head is {scribe.person()} {scribe.surname()}]. We will [write|call] [this week|soon].",
    )


def lesson(scribe: Scribe) -> Iterator[Turn]:
    """A pupil asks a tutor."""
    subject, a, b = scribe.pick(SUBJECTS), scribe.number(3, 20), scribe.number(3, 12)
    animal = scribe.pick(ANIMALS)
    yield (
        0,
        f"I don't understand [my {subject} homework|the {subject} exercise|what we did in {subject}].",
    )
    yield 1, "[Which part|Show me|What is the question]?"
    if scribe.chance(0.5):
        yield 0, f"It says: a farmer has {a} pens with {b} {animal}s each. How many {animal}s are there?"
        yield 1, f"[What is|Then multiply] {a} times {b}?"
        yield 0, f"{a * b + scribe.pick([0, 0, 10, -1])}?"
        yield 1, f"It is {a * b}. [Well done for trying|Write it down|Now the next one]."
    else:
        yield (
            0,
            f"[We have to write|The teacher wants] {scribe.number(2, 9)} pages about {subject} [and the {animal}|in {scribe.place()}].",
        )
        yield 1, "[Start with a plan.|Read the chapter first.|What do you find interesting about it?]"
        yield (
            0,
            f"[Maybe how|I wonder why] a {scribe.pick(ADJECTIVES)} {animal} [sleeps|hunts|finds its way|lives in a group].",
        )
        yield (
            1,
            "[Good|That is a good question]. [Then begin there|Look it up in the library|Make a list of three points].",
        )
    yield 0, f"{THANKS}. When do we meet [again|next]?"
    yield 1, f"On {scribe.pick(WEEKDAYS)} at {scribe.number(13, 19)}. [Bring the book|Don't be late|{BYE}]."
