"""Conversations between a guest or customer and somebody who serves."""

from __future__ import annotations

from collections.abc import Iterator

from saescope.text.embedded.scribe import Scribe, Turn, listing
from saescope.text.embedded.vocabulary import (
    BYE,
    COLOURS,
    COUNTABLES,
    FOODS,
    THANKS,
    THINGS,
    WEEKDAYS,
    WELCOME,
    YES,
)


def shop(scribe: Scribe) -> Iterator[Turn]:
    """A customer buys some things; stock and prices are remembered."""
    goods = scribe.some(COUNTABLES, scribe.number(1, 3))
    total = 0
    yield (
        0,
        f"[Good morning|Hello|Good afternoon|Hi]. [I am looking for|Do you have|I need|Have you got] {listing(goods)}.",
    )
    yield (
        1,
        f"{YES}. [They are over there|We got some this morning|Let me look|They are on the second shelf].",
    )
    for thing in goods:
        price, count, colour = scribe.number(1, 14), scribe.number(2, 20), scribe.pick(COLOURS)
        yield 0, f"How much are the [{thing}|{colour} {thing}|{thing} in the window]?"
        if scribe.chance(0.2):
            yield (
                1,
                f"[Sorry|I'm afraid], the {thing} are [sold out|reserved|not for sale] until {scribe.pick(WEEKDAYS)}.",
            )
            yield 0, "[What a pity|Oh, too bad|Never mind|Then I will come back]."
            continue
        yield (
            1,
            f"[They cost|They are|Those are] {price} crowns each[|, and they are very popular|, freshly delivered].",
        )
        yield 0, f"[Then I will take|Give me|I would like] {count} of them[|, please]."
        total += price * count
        yield (
            1,
            f"[That makes|So {count} {thing} come to|That is] {price * count} crowns. [Anything else|Is that all]?",
        )
    if total:
        yield 0, "[No, that is all|That's it for today]. How much [is that altogether|do I owe you]?"
        yield (
            1,
            f"{total} crowns in total[|, please]. [Do you need a bag|Cash or card|Would you like a receipt]?",
        )
        yield 0, f"[Yes, please|No, thank you|By card|In cash]. {THANKS}!"
    yield 1, f"{WELCOME}. {BYE}!"


def restaurant(scribe: Scribe) -> Iterator[Turn]:
    """A guest orders a meal."""
    dish, second, seats = scribe.pick(FOODS), scribe.pick(FOODS), scribe.number(1, 9)
    yield (
        0,
        f"[Hello|Good evening], [a table|do you have a table] for {seats}[, please|, by the window if possible]?",
    )
    yield (
        1,
        "[Please follow me|This way, please|You can sit here]. [Would you like the menu|Something to drink first]?",
    )
    yield (
        0,
        "[A glass of water|Some tea|Apple juice|A pot of coffee], please. What [do you recommend|is good today]?",
    )
    yield (
        1,
        f"Today the {dish} is [very good|fresh|the best choice|on offer for {scribe.number(5, 30)} crowns].",
    )
    if scribe.chance(0.5):
        yield (
            0,
            f"[I don't eat|I am allergic to] [onions|eggs|nuts|cheese|fish|milk]. Is there any in the {dish}?",
        )
        yield (
            1,
            f"[I will ask the cook|Yes, a little|No, none at all]. [The {second} is safe|We can leave it out].",
        )
    yield 0, f"Then [I'll have|bring me|we will take] the [{dish}|{second}]."
    yield 1, "[Excellent choice.|It takes about ten minutes.|Coming right up.|With rice or with bread?]"
    yield 0, f"[Fine|Perfect|That sounds good]. {THANKS}."


def station(scribe: Scribe) -> Iterator[Turn]:
    """A traveller asks about trains."""
    goal, change, day = scribe.place(), scribe.place(), scribe.pick(WEEKDAYS)
    hour, minute, platform = scribe.number(5, 20), scribe.number(1, 59), scribe.number(1, 14)
    price = scribe.number(6, 90)
    yield 0, f"[When is the next train|At what time does a train leave|Is there a train on {day}] to {goal}?"
    yield 1, f"[The next one leaves|There is one|It goes] at {hour}:{minute:02d} from platform {platform}."
    yield 0, "[Do I have to change|Is it direct|Does it go straight through]?"
    yield 1, f"[Yes, you change in {change}|No, it is direct|You change once, in {change}]."
    yield 0, f"How much is [a ticket|a return ticket|a seat in first class] to {goal}?"
    yield 1, f"{price} crowns[|, or {price * 2 - scribe.number(1, 5)} for both ways]."
    if scribe.chance(0.5):
        late = scribe.number(5, 55)
        yield 0, "[I have heard|Somebody said] that the train is late. [Is that true|Do you know more]?"
        yield (
            1,
            f"[Yes|Unfortunately yes], it is {late} minutes late because of [snow|a signal fault|works on the line].",
        )
    yield 0, f"[One ticket|Two tickets|A single], please. So platform {platform}, {hour}:{minute:02d}?"
    yield 1, f"[Exactly|That is right|Correct]. [Have a good trip|Enjoy {goal}]!"


def phone(scribe: Scribe) -> Iterator[Turn]:
    """A call to an office, with a message to be left."""
    boss, firm = f"{scribe.pick(['Mr', 'Ms', 'Dr'])} {scribe.surname()}", scribe.coinage()
    caller, number = f"{scribe.person()} {scribe.surname()}", scribe.number(200000, 989999)
    topic = scribe.say(
        "[the contract|an order of {t}|the invoice|the meeting|a broken machine|the delivery of {t}|a job]",
        t=scribe.pick(COUNTABLES),
    )
    yield 1, f"{firm}, [good morning|hello], how can I help you?"
    yield (
        0,
        f"[This is {caller}|My name is {caller}]. [Could I speak to|May I talk to|Is] {boss} [there|please]?",
    )
    yield (
        1,
        f"[I'm sorry|Unfortunately], {boss} is [in a meeting|out of the office|on holiday until {scribe.pick(WEEKDAYS)}].",
    )
    yield 0, f"[Could you take a message|Please leave a note]? It is about {topic}."
    yield 1, "[Of course|One moment, I need a pencil]. [What is your number|How do you spell your name]?"
    yield (
        0,
        f"My number is {number}[|, and the name is {caller}]. [It is urgent|There is no hurry|Any time is fine].",
    )
    yield (
        1,
        f"[So that is|Let me repeat:] {caller}, {number}, about {topic}. [I will pass it on|{boss} will call you back].",
    )
    yield 0, f"{THANKS}. {BYE}."


def complaint(scribe: Scribe) -> Iterator[Turn]:
    """A customer complains about a purchase."""
    thing, day, number = scribe.pick(THINGS), scribe.pick(WEEKDAYS), scribe.number(1000, 9999)
    fault = scribe.say(
        "[broken|scratched|too small|too large|{c} instead of {d}|empty|dirty|missing a part|wet]",
        c=scribe.pick(COLOURS),
        d=scribe.pick(COLOURS),
    )
    yield 0, f"I [bought|ordered] a {thing} [here |from you |]on {day}, and it [is|arrived] {fault}."
    yield (
        1,
        "I am [very |]sorry to hear that. [Do you have the receipt|What is the order number|May I see it]?",
    )
    yield (
        0,
        f"[Yes, here it is|The order number is {number}|No, I lost it]. [I want my money back|I need a new one].",
    )
    yield (
        1,
        f"We can [replace the {thing}|repair it|give you a voucher|refund {scribe.number(5, 90)} crowns]. [Is that all right]?",
    )
    yield 0, "[How long will that take|When can I have it|And who pays the postage]?"
    yield (
        1,
        f"[About|At most] {scribe.number(2, 20)} days. [We pay the postage|You will get a letter|We will call you].",
    )
    yield (
        0,
        f"[Fine|All right|I am not happy, but fine]. The number is {number}, [don't forget|please note it|remember].",
    )


def doctor(scribe: Scribe) -> Iterator[Turn]:
    """A patient describes what hurts."""
    part = scribe.say("[back|knee|head|stomach|shoulder|throat|left ear|right foot|hand|neck|tooth]")
    days = scribe.number(2, 21)
    yield 1, "[What can I do for you|Good morning, what is wrong|How are you feeling today]?"
    yield (
        0,
        f"My {part} [hurts|has been aching|feels stiff], [doctor|and I cannot sleep|especially at night].",
    )
    yield (
        1,
        "[How long|Since when] have you had this? [Did you fall|Have you lifted something heavy|Any fever]?",
    )
    yield (
        0,
        f"For {days} days. It started [after a run|when I moved a {scribe.pick(THINGS)}|at work|on {scribe.pick(WEEKDAYS)}].",
    )
    yield (
        1,
        f"[Let me have a look|Please sit down]. Your {part} is [a little swollen|red|fine, I think|not broken].",
    )
    yield 0, "[Is it serious|Do I need medicine|Can I go to work|What should I do]?"
    yield (
        1,
        f"[Rest for {scribe.number(2, 10)} days|Take one tablet in the evening|Drink a lot of tea] and [come back on {scribe.pick(WEEKDAYS)}|keep it warm].",
    )
    yield 0, f"{THANKS}, doctor."
