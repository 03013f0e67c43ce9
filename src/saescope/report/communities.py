"""Cards of communities: their tasks, tokens and central latents, and what taking them out does."""

from dataclasses import dataclass

import numpy as np

from saescope.report.adjacency import ANCHORS, PARTITIONS, WITHIN_TOKEN, Floats, Graph, Ints, graph_of, sums
from saescope.report.cards import Rate, visible
from saescope.report.community_names import characteristic_words
from saescope.report.latents_page import context_of
from saescope.report.numbers import count, figure, percent
from saescope.runfolder.latents import LatentFile, read_latents
from saescope.runfolder.names import FEATURES_PAGE, LATENTS
from saescope.runfolder.run import Columns, Run

OPEN = 12
"""Cards that are shown at once, of the largest communities."""
CENTRAL, CENTRAL_OF_SMALL = 4, 2
"""Latents on a card that is shown at once, and on the others."""
BEFORE, AFTER = 14, 6
"""Tokens of a context before and after the strongest one."""
_TITLES = {
    "community": "Communities of all joint firing",
    WITHIN_TOKEN: "Communities within token ids",
}
_FIGURES = {"community": "adjacency", WITHIN_TOKEN: "adjacency_within_token"}


@dataclass(frozen=True)
class Piece:
    """Text of a context, with the activation there as a share of the latent's largest; 0 where it is off."""

    text: str
    strength: float


@dataclass(frozen=True)
class CentralLatent:
    """A latent with much of its weight inside the community."""

    latent: int
    address: str
    """On the latents' page; empty where there is none."""
    degree: str
    task: str
    """Of the context."""
    context: list[Piece]


@dataclass(frozen=True)
class CommunityCard:
    """What the page shows of one community."""

    number: int
    anchor: str
    members: str
    """Address of the list of its members; empty where there is no such page."""
    name: str
    """Its most characteristic tokens; empty where contexts are not recorded."""
    facts: list[tuple[str, str]]
    tasks: list[tuple[Rate, str]]
    """Share of the members that prefer each task, and the mean share of their rates there."""
    central: list[CentralLatent]
    effect: str
    """What taking it out does; empty where it was not."""


@dataclass(frozen=True)
class Partition:
    """A partition of the latents with its picture and cards, the largest community first."""

    title: str
    figure: str
    """Name of its figure."""
    cards: list[CommunityCard]
    shown: int = OPEN


def partitions(run: Run) -> list[Partition]:
    """Those this run has communities and edges of. Raises ReportError when a file cannot be read."""
    graphs = {column: graph for column in PARTITIONS if (graph := graph_of(run, column)) is not None}
    if not graphs:
        return []
    path = run.path / LATENTS
    latents = read_latents(path) if path.is_file() else None
    words = None if latents is None else [visible(word) for word in latents.words]
    features = run.columns("features", ["latent", "top_task", "max_act", *(f"rate_{t}" for t in run.tasks)])
    return [
        Partition(
            _TITLES[column], _FIGURES[column], _cards(run, column, graph, features, latents, words or [])
        )
        for column, graph in graphs.items()
    ]


def _cards(
    run: Run, column: str, graph: Graph, features: Columns, latents: LatentFile | None, words: list[str]
) -> list[CommunityCard]:
    names = {} if latents is None else community_names(graph.community_F, latents, words)
    effects = module_effects(run, column)
    within_F, inside_G, outside_G = weights(graph)
    sizes = np.bincount(graph.community_F[graph.community_F >= 0])
    numbers = [int(number) for number in np.argsort(-sizes, kind="stable") if sizes[number]]
    row_F = np.full(len(graph.community_F), -1, dtype=np.int64)
    row_F[features["latent"].astype(np.int64)] = np.arange(len(features["latent"]))
    by_community = np.argsort(graph.community_F, kind="stable")
    starts = np.searchsorted(graph.community_F[by_community], np.arange(len(sizes) + 1))
    cards = []
    for place, number in enumerate(numbers):
        members = by_community[starts[number] : starts[number + 1]]
        central = members[np.argsort(-within_F[members], kind="stable")]
        central = central[: CENTRAL if place < OPEN else CENTRAL_OF_SMALL]
        cards.append(
            CommunityCard(
                number=number,
                anchor=f"{ANCHORS[column]}-{number}",
                members="" if latents is None else f"{FEATURES_PAGE}#{ANCHORS[column]}-{number}",
                name=" · ".join(names.get(number, [])),
                facts=[
                    ("latents", count(len(members))),
                    ("PMI within", figure(inside_G[number])),
                    ("to others", figure(outside_G[number])),
                ],
                tasks=_tasks(run.tasks, features, row_F[members]),
                central=[
                    _central(run.tasks, features, latents, words, int(latent), row_F, within_F)
                    for latent in central
                ],
                effect=effects.get(number, ""),
            )
        )
    return cards


def weights(graph: Graph) -> tuple[Floats, Floats, Floats]:
    """PMI of each latent inside its community [F]; of the edges inside each and out of each community [G]."""
    inside = graph.inside_E
    source, target, pmi = graph.source_E, graph.target_E, graph.pmi_E
    within_F = sums(source[inside], pmi[inside], len(graph.community_F))
    within_F += sums(target[inside], pmi[inside], len(graph.community_F))
    groups = int(graph.community_F.max()) + 1
    inside_G = sums(graph.community_F[source[inside]], pmi[inside], groups)
    outside_G = np.zeros(groups)
    for ends in (source[~inside], target[~inside]):
        community, there = graph.community_F[ends], graph.community_F[ends] >= 0
        outside_G += sums(community[there], pmi[~inside][there], groups)
    return within_F, inside_G, outside_G


def community_names(community_F: Ints, latents: LatentFile, words: list[str]) -> dict[int, list[str]]:
    """The most characteristic tokens of each community; a token with and without its space is one."""
    token_LT, share_LT = latents["frequent_LT"], latents["share_LT"]
    stems = [word.strip().casefold() or "␣" for word in words]
    stem_of = {stem: at for at, stem in enumerate(dict.fromkeys(stems))}
    of_word = np.array([stem_of[stem] for stem in stems], dtype=np.int64)
    group_L = community_F[latents["latent_L"].astype(np.int64)]
    there = token_LT >= 0
    found = characteristic_words(
        of_word[token_LT[there].astype(np.int64)],
        share_LT[there].astype(np.float64),
        np.broadcast_to(group_L[:, None], token_LT.shape)[there],
    )
    texts = list(stem_of)
    return {group: [texts[stem] for stem in chosen] for group, chosen in found.items()}


def _tasks(tasks: list[str], features: Columns, rows: Ints) -> list[tuple[Rate, str]]:
    rate_MK = np.stack([features[f"rate_{task}"][rows].astype(float) for task in tasks], axis=1)
    total_M = rate_MK.sum(axis=1)
    mean_K = (rate_MK[total_M > 0] / total_M[total_M > 0, None]).mean(axis=0) if (total_M > 0).any() else None
    preferred = features["top_task"][rows]
    shares = [float(np.mean(preferred == task)) for task in tasks]
    return [
        (Rate(task, share, percent(share)), percent(None if mean_K is None else float(mean_K[at])))
        for at, (task, share) in enumerate(zip(tasks, shares, strict=True))
    ]


def _central(
    tasks: list[str],
    features: Columns,
    latents: LatentFile | None,
    words: list[str],
    latent: int,
    row_F: Ints,
    within_F: Floats,
) -> CentralLatent:
    degree = figure(float(within_F[latent]))
    if latents is None or latent not in latents.place:
        return CentralLatent(latent, "", degree, "", [])
    at = latents.place[latent]
    address = f"{FEATURES_PAGE}#latent-{latent}"
    first = int(latents["first_L"][at])
    if first == int(latents["first_L"][at + 1]):
        return CentralLatent(latent, address, degree, "", [])
    task, _, _, about, texts, acts = context_of(latents, words, first)
    largest = max(float(features["max_act"][row_F[latent]]), *acts)
    part = slice(max(0, about - BEFORE), about + AFTER + 1)
    pieces: list[Piece] = []
    for text, act in zip(texts[part], acts[part], strict=True):
        if act > 0:
            pieces.append(Piece(text or "∅", round(min(1.0, act / largest), 2)))
        elif pieces and not pieces[-1].strength:
            pieces[-1] = Piece(pieces[-1].text + text, 0.0)
        else:
            pieces.append(Piece(text, 0.0))
    return CentralLatent(latent, address, degree, tasks[task], pieces)


def module_effects(run: Run, column: str) -> dict[int, str]:
    """Of each community that was taken out whole, what that does to the loss, in a sentence."""
    if "causal_modules" not in run.tables:
        return {}
    table = run.causal_modules
    table = table[table["partition"] == column]
    sentences = {}
    for _, part in table[table["kind"] == "module"].groupby("module", sort=False):
        number, own = int(part["module"].iloc[0]), part["own"].astype(bool)
        task = str(part.loc[own, "task"].iloc[0])
        random = table[(table["kind"] == "random") & (table["module"] == number)]
        sentence = (
            f"{count(part['latents'].iloc[0])} of its latents taken out whole: cross-entropy "
            f"{_signed(part.loc[own, 'ce'].mean())} nats a token on {task}"
        )
        if (~own).any():
            sentence += f", {_signed(part.loc[~own, 'ce'].mean())} on the other tasks"
        if len(random):
            own_random = random["task"] == task
            sentence += f"; random sets like it {_signed(random.loc[own_random, 'ce'].mean())}"
            if (~own_random).any():
                sentence += f" and {_signed(random.loc[~own_random, 'ce'].mean())}"
        sentences[number] = f"{sentence}."
    return sentences


def _signed(value: object) -> str:
    number = float(value)  # type: ignore[arg-type]
    return figure(None) if not np.isfinite(number) else f"{'+' if number >= 0 else '−'}{figure(abs(number))}"
