"""Cards of the most specialised latents: how often each task activates them, and on which text."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from saescope.metrics import at_floor
from saescope.report.adjacency import WITHIN_TOKEN, address_of
from saescope.report.numbers import count, figure, p_value, percent
from saescope.runfolder.run import Columns, Run
from saescope.runfolder.values import finite

CONTEXTS = 5
"""Contexts shown on a card."""
_FEATURES = ("latent", "docs", "density", "max_act", "si", "si_p", "si_q", "top_task", "community")
_EXAMPLES = ("latent", "rank", "task", "activation", "token", "context_before", "context_after")
_BEFORE, _AFTER = 140, 70
"""Characters of text shown before and after the token."""
_CONTROL = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "␡", 0x0A: "↵", 0x09: "⇥"}


@dataclass(frozen=True)
class Context:
    """One token on which the latent is active, with the text before and after it."""

    task: str
    before: str
    token: str
    after: str
    activation: str
    strength: float
    """Activation as a share of the strongest shown, 0 to 1."""


@dataclass(frozen=True)
class Rate:
    """A task's share of the latent's summed rates."""

    task: str
    share: float
    label: str


@dataclass(frozen=True)
class Card:
    """What the page shows of one latent."""

    latent: int
    si: str
    facts: list[tuple[str, str, str]]
    """Name, value, and the address on this page that says more; empty for none."""
    rates: list[Rate]
    contexts: list[Context]


def card_groups(run: Run) -> list[tuple[str, list[Card]]]:
    """Cards by preferred task, the most specialised first; latents without a task come last."""
    if not {"features", "examples"} <= set(run.tables):
        return []
    within = [WITHIN_TOKEN] if WITHIN_TOKEN in run.column_names("features") else []
    features = run.columns("features", [*_FEATURES, *within, *(f"rate_{task}" for task in run.tasks)])
    examples = run.columns("examples", _EXAMPLES)
    row_of = {int(latent): at for at, latent in enumerate(features["latent"])}
    shown = [row_of[int(latent)] for latent in np.unique(examples["latent"]) if int(latent) in row_of]
    si = np.nan_to_num(features["si"].astype(float), nan=-1.0)
    groups: dict[str, list[Card]] = {task: [] for task in run.tasks}
    permutations = finite(run.section("metrics").get("permutations"))
    for at in sorted(shown, key=lambda at: (-si[at], at)):
        task = features["top_task"][at]
        name = str(task) if isinstance(task, str) else "no preferred task"
        groups.setdefault(name, []).append(_card(run, features, examples, at, permutations))
    return [(task, cards) for task, cards in groups.items() if cards]


def _card(run: Run, features: Columns, examples: Columns, at: int, permutations: float | None) -> Card:
    latent = int(features["latent"][at])
    numbers = [
        ("q-value", _q_value(features["si_q"][at], features["si_p"][at], permutations)),
        ("density", percent(features["density"][at])),
        ("max activation", figure(features["max_act"][at])),
        ("documents", count(features["docs"][at])),
    ]
    facts = [(name, value, "") for name, value in numbers]
    for column, name in (("community", "community"), (WITHIN_TOKEN, "community within tokens")):
        if column in features:
            number = int(features[column][at])
            facts.append((name, "none" if number < 0 else str(number), address_of(run, column, number)))
    return Card(
        latent=latent,
        si=figure(features["si"][at]),
        facts=facts,
        rates=list(_rates(features, run.tasks, at)),
        contexts=_contexts(examples, np.flatnonzero(examples["latent"] == latent)),
    )


def _q_value(q: object, p: object, permutations: float | None) -> str:
    """`0.012`, `< 0.001`, or `≤ 0.012` where p is at its floor."""
    number = finite(p)
    text = p_value(q, None).removeprefix("p ").removeprefix("= ")
    if number is None or permutations is None or not at_floor(number, int(permutations)):
        return text
    return text if text.startswith("<") else f"≤ {text}"


def _rates(features: Columns, tasks: list[str], at: int) -> Iterator[Rate]:
    rates = [finite(float(features[f"rate_{task}"][at])) or 0.0 for task in tasks]
    total = sum(rates)
    for task, rate in zip(tasks, rates, strict=True):
        share = rate / total if total else 0.0
        yield Rate(task, share, percent(share))


def _contexts(examples: Columns, rows: np.ndarray) -> list[Context]:
    rows = rows[np.argsort(examples["rank"][rows], kind="stable")][:CONTEXTS]
    activations = examples["activation"][rows].astype(float)
    top = float(activations.max(initial=0.0)) or 1.0
    return [
        Context(
            task=str(examples["task"][row]),
            before=visible(_tail(str(examples["context_before"][row] or ""))),
            token=visible(str(examples["token"][row] or "")) or "∅",
            after=visible(_head(str(examples["context_after"][row] or ""))),
            activation=figure(float(activation)),
            strength=round(max(float(activation) / top, 0.0), 2),
        )
        for row, activation in zip(rows, activations, strict=True)
    ]


def visible(text: str) -> str:
    """Newlines as ↵, tabs as ⇥, other control characters as their pictures."""
    return text.translate(_CONTROL)


def _tail(text: str) -> str:
    return text if len(text) <= _BEFORE else "…" + text[-_BEFORE:]


def _head(text: str) -> str:
    return text if len(text) <= _AFTER else text[:_AFTER] + "…"
