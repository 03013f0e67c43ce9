"""Adjacency matrices and cards of communities on the run page."""

import html
import re

import numpy as np
import pandas as pd
import pytest

from saescope.report import write_report
from saescope.report.adjacency import Graph, binned, graph_of, sorted_latents
from saescope.report.communities import OPEN, community_names, partitions, weights
from saescope.runfolder.latents import LatentFile
from saescope.runfolder.run import open_run
from tests.report.report_folder import write_run


def write_edges(path, column, table, rng):
    """Edges mostly inside the communities that `features.parquet` has."""
    features = pd.read_parquet(path / "features.parquet")
    members = np.flatnonzero(features[column] >= 0)
    source, target = (members[at] for at in np.triu_indices(len(members), 1))
    inside = features[column].to_numpy()[source] == features[column].to_numpy()[target]
    kept = rng.random(len(source)) < np.where(inside, 0.5, 0.05)
    edges = pd.DataFrame({"source": source[kept], "target": target[kept], "joint": 9,
                          "pmi": rng.gamma(2.0, 0.5, int(kept.sum())), "p": 1e-6})  # fmt: skip
    edges.to_parquet(path / f"{table}.parquet", index=False)


@pytest.fixture
def folder(tmp_path):
    path = write_run(tmp_path / "run", latents=400, supported=120)
    rng = np.random.default_rng(0)
    write_edges(path, "community", "edges", rng)
    write_edges(path, "community_within_token", "edges_within_token", rng)
    return path


def test_a_cell_is_the_mean_over_its_pairs():
    """Latents 3, 1, 0, 2 in this order, two a cell: pairs {3, 1}, {0, 2} and the four between them."""
    rank_F = np.array([2, 1, 3, 0])
    source, target, pmi = np.array([1, 0, 0]), np.array([3, 2, 3]), np.array([1.0, 3.0, 2.0])
    np.testing.assert_allclose(binned(rank_F, source, target, pmi, 4, 2), [[1.0, 0.5], [0.5, 3.0]])
    one = binned(rank_F, source, target, pmi, 4, 600)
    assert one.shape == (4, 4)
    assert one[1, 0] == one[0, 1] == 1.0
    assert np.trace(one) == 0


def test_bins_of_unequal_size_keep_the_weight():
    rng = np.random.default_rng(0)
    source, target = np.triu_indices(7, 1)
    pmi = rng.random(len(source))
    cells = binned(np.arange(7), source, target, pmi, 7, 3)
    sizes = np.array([3, 3, 1])
    pairs = np.outer(sizes, sizes) - np.diag(sizes)
    assert (cells * pairs).sum() == pytest.approx(2 * pmi.sum())


def test_the_picture_has_a_bounded_size_and_latents_without_a_place_are_left_out():
    rng = np.random.default_rng(0)
    rank_F = np.r_[np.arange(5000), -1]
    source, target = rng.integers(0, 2500, 10_000), rng.integers(2500, 5001, 10_000)
    cells = binned(rank_F, source, target, np.ones(10_000), 5000, 600)
    assert len(cells) <= 600
    there = target < 5000
    step, side = -(-5000 // 600), len(cells)
    sizes = np.bincount(np.arange(5000) // step, minlength=side)
    assert (cells * (np.outer(sizes, sizes) - np.diag(sizes))).sum() == pytest.approx(2 * there.sum())


def test_latents_are_sorted_by_community_then_task_then_degree():
    community_F = np.array([1, 0, 1, -1, 1, 0])
    order = sorted_latents(community_F, np.array([1, 0, 0, 0, 0, 0]), np.array([9.0, 1, 2, 9, 3, 4]))
    assert order.tolist() == [4, 2, 0, 5, 1]


def test_weights_by_hand():
    """Communities {0, 1} and {2, 3}; latent 4 in none."""
    graph = Graph(
        np.array([0, 0, 1, 1, -1]),
        np.array([0, 0, 2, 1]),
        np.array([1, 2, 3, 4]),
        np.array([1.0, 2.0, 4.0, 8.0]),
    )
    within_F, inside_G, outside_G = weights(graph)
    assert within_F.tolist() == [1, 1, 4, 4, 0]
    assert inside_G.tolist() == [1, 4]
    assert outside_G.tolist() == [10, 2]


def test_every_community_has_a_card_the_largest_first(folder):
    run = open_run(folder)
    plain, within = partitions(run)
    sizes = run.features.community[run.features.community >= 0].value_counts()
    assert {card.number: dict(card.facts)["latents"] for card in plain.cards} == {
        number: str(size) for number, size in sizes.items()
    }
    shown = [int(dict(card.facts)["latents"]) for card in plain.cards]
    assert shown == sorted(shown, reverse=True)
    assert within.title == "Communities within token ids"
    assert all(card.anchor == f"within-community-{card.number}" for card in within.cards)
    graph = graph_of(run, "community")
    first = plain.cards[0]
    inside = graph.inside_E & (graph.community_F[graph.source_E] == first.number)
    degree = np.bincount(
        np.r_[graph.source_E[inside], graph.target_E[inside]], np.tile(graph.pmi_E[inside], 2)
    )
    assert first.central[0].latent == degree.argmax()
    assert sum(rate.share for rate, _ in first.tasks) == pytest.approx(1)


def test_the_page_shows_both_graphs_and_links_its_cards(folder):
    write_report(folder)
    source = (folder / "report.html").read_text(encoding="utf-8")
    text = html.unescape(source)
    ids = re.findall(r'\bid="([^"]*)"', source)
    assert len(ids) == len(set(ids))
    assert {"community-0", "within-community-0"} <= set(ids)
    for target in re.findall(r'href="#((?:within-)?community-\d+)"', source):
        assert target in ids
    assert 'href="#community-' in source
    assert "Graph of all joint firing: " in text
    assert "Graph of joint firing within token ids: " in text
    assert (folder / "figures" / "adjacency_within_token.svg").is_file()
    assert "smaller communities" in text  # 13 communities
    assert len(partitions(open_run(folder))[0].cards) > OPEN


def test_without_edges_nothing_is_shown_or_linked(folder):
    (folder / "edges.parquet").unlink()
    (folder / "edges_within_token.parquet").unlink()
    write_report(folder)
    source = (folder / "report.html").read_text(encoding="utf-8")
    assert partitions(open_run(folder)) == []
    assert "community-" not in source.split("</style>", 1)[1]


def test_what_taking_a_community_out_does_is_on_its_card(folder):
    rows = [
        {"partition": "community", "kind": kind, "module": 0, "latents": 11, "task": task,
         "own": task == "code", "ce": ce, "kl": 0.1, "attributed": 0.1}
        for kind, values in (("module", (0.5, 0.1, 0.3)), ("random", (0.04, 0.01, 0.03)))
        for task, ce in zip(("code", "math", "qa"), values, strict=True)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "causal_modules.parquet", index=False)
    plain, within = partitions(open_run(folder))
    effects = {card.number: card.effect for card in plain.cards if card.effect}
    assert effects == {
        0: "11 of its latents taken out whole: cross-entropy +0.500 nats a token on code, +0.200 on the "
        "other tasks; random sets like it +0.0400 and +0.0200."
    }
    assert not any(card.effect for card in within.cards)


def test_tokens_with_and_without_their_space_are_one():
    words = ["the", " the", "The", " x", "\n", " "]
    latents = LatentFile(
        {
            "latent_L": np.array([0, 1, 2, 3]),
            "frequent_LT": np.array([[0, -1], [1, -1], [2, 3], [3, 5]]),
            "share_LT": np.array([[0.9, 0.0], [0.8, 0.0], [0.7, 0.2], [0.9, 0.1]]),
        }
    )
    names = community_names(np.array([0, 0, 0, 1]), latents, words)
    assert names == {0: ["the"], 1: ["x", "␣"]}
