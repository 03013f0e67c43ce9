"""Graphs within strata that were asked for: what each takes away, and why the others are None."""

import numpy as np
import pytest
from scipy import sparse

from saescope.config.metrics import STRATA
from saescope.stats.coactivation import validated_edges
from saescope.stats.graph_metrics import ModularitySettings
from saescope.stats.modularity_summary import summarise_modularity
from saescope.stats.within_summary import summarise_within

SETTINGS = ModularitySettings(leiden_seeds=2, rewirings=5, null_tokens=0, naive=False)
TOKENS, LATENTS = 12_000, 48


@pytest.fixture(scope="module")
def world():
    """(active, strata): latents of three groups, each reading a stratum of its own and nothing else.

    Latents 0 to 15 like one task, 16 to 31 like some bigrams (and so no single token), 32 to 47 like some
    positions. Token ids and tasks are independent.
    """
    rng = np.random.default_rng(0)
    task_N, position_N = rng.integers(6, size=TOKENS), np.arange(TOKENS) % 40
    token_N = rng.integers(8, size=TOKENS)
    bigram_N = np.roll(token_N, 1) * 8 + token_N
    liked_N = (np.roll(token_N, 1) + token_N) % 8  # independent of the token
    rate_NF = np.full((TOKENS, LATENTS), 0.05)
    rate_NF[:, :16] += 0.4 * (task_N == 2)[:, None]
    rate_NF[:, 16:32] += 0.4 * (liked_N == 3)[:, None]
    rate_NF[:, 32:] += 0.4 * (position_N < 5)[:, None]
    active = sparse.csr_matrix((rng.random(rate_NF.shape) < rate_NF).astype(np.int32))
    token_task_N = token_N * 6 + task_N
    return active, {"task": task_N, "token_task": token_task_N, "bigram": bigram_N, "position": position_N}


def within(world, chosen, **more):
    active, strata = world
    return summarise_within(active, np.ones(LATENTS, bool), strata, chosen, SETTINGS, **more)


def test_each_stratum_takes_its_own_edges_away(world):
    metrics, notes = within(world, STRATA)
    group = 16 * 15 // 2
    plain = len(validated_edges(world[0]))
    assert plain == pytest.approx(3 * group, abs=20)
    for stratum in STRATA:
        assert metrics[f"q/within_{stratum}_n_edges"] == pytest.approx(2 * group, abs=20)
        assert metrics[f"q/within_{stratum}_null_mean"] < 0.2
    for stratum in STRATA[1:]:  # q/within_task itself is of the main summary
        assert metrics[f"q/within_{stratum}"] == pytest.approx(0.5, abs=0.06)
    assert not notes


def test_tasks_have_the_graph_of_the_main_summary(world):
    active, strata = world
    everyone = np.ones(LATENTS, bool)
    main = summarise_modularity(active, strata["task"], 6, everyone, np.zeros(LATENTS, int), SETTINGS)
    metrics, _ = within(world, ["task"])
    assert metrics["q/within_task_n_edges"] == len(main.within_edges)
    assert 0 < metrics["q/within_task_null_mean"] < main.metrics["q/within_task"]


def test_what_was_not_asked_for_or_is_not_known_has_a_reason(world):
    active, strata = world
    metrics, notes = within(world, [])
    assert set(metrics.values()) == {None}
    assert set(notes) == set(metrics)
    assert set(notes.values()) == {"not asked for in metrics.within"}

    unknown = strata | {"bigram": None}
    metrics, notes = within((active, unknown), ["bigram", "position"])
    assert metrics["q/within_bigram"] is None
    assert "token ids are not known" in notes["q/within_bigram_n_edges"]
    assert metrics["q/within_position"] > 0.4
    assert {key for key, value in metrics.items() if value is None} == set(notes)


def test_without_a_graph_modularity_is_zero(world):
    strata = {"token_task": np.arange(TOKENS)}  # nothing is left to chance
    metrics, notes = within((world[0], strata), ["token_task"])
    assert metrics == {
        "q/within_token_task": 0.0,
        "q/within_token_task_null_mean": None,
        "q/within_token_task_n_edges": 0.0,
    }
    assert set(notes) == {"q/within_token_task", "q/within_token_task_null_mean"}


def test_units_have_a_task_only(world):
    active, strata = world
    order = np.argsort(strata["task"], kind="stable")
    units = {name: label_N[order] for name, label_N in strata.items()}
    unit_N = units["task"] * TOKENS + np.arange(TOKENS) // 4
    metrics, notes = within((active[order], units), STRATA, unit_N=unit_N)
    assert metrics["q/within_task_n_edges"] >= 0
    assert "per chunk" in notes["q/within_bigram"]
    assert metrics["q/within_position"] is None
