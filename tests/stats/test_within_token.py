"""Q within token ids: modules that words hide are found, and what words alone give is not."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from saescope.stats import supported, task_counts, validated_edges
from saescope.stats.graph_metrics import ModularitySettings
from saescope.stats.modularity_summary import KEYS, summarise_modularity
from saescope.stats.synthetic import hidden_modules, noise, planted, word_corpus
from saescope.stats.word_graphs import WORD_KEYS


def summary_of(active, task_N, token_N, num_tasks=6, **changed):
    count = np.asarray(active.sum(0)).ravel()
    rate = task_counts(active, task_N, num_tasks) / np.bincount(task_N, minlength=num_tasks)
    settings = ModularitySettings(leiden_seeds=2, rewirings=5, null_tokens=0, naive=False, **changed)
    result = summarise_modularity(
        active, task_N, num_tasks, supported(count, count), rate.argmax(1), settings, token_N=token_N
    )
    assert set(result.metrics) == {f"q/{key}" for key in KEYS}
    for key, value in result.metrics.items():
        assert (value is None and key in result.notes) or np.isfinite(value), key
    return result


@pytest.fixture(scope="module")
def corpus():
    return word_corpus(150, seed=0, num_words=400)


def test_pure_token_detectors_have_no_edge_within_tokens(corpus):
    active, _, theme_F = hidden_modules(corpus, 200, boost=0.0, seed=1)
    result = summary_of(active, corpus.task_N, corpus.word_N)
    m = result.metrics
    assert m["q/n_edges"] > 2000
    assert adjusted_rand_score(theme_F, result.community_F) > 0.95
    assert m["q/within_token_n_edges"] <= 2
    assert m["q/within_token"] == 0.0
    assert "q/within_token" in result.notes
    assert m["q/within_token_excess"] is None
    assert m["q/word_share"] == pytest.approx(1.0, abs=0.05)
    assert m["q/lexical"] == pytest.approx(m["q/modularity"], abs=0.03)
    assert (result.within_token_community_F == -1).all()


@pytest.mark.parametrize("boost", [1.5, 2.0])
def test_modules_that_words_hide_are_found(corpus, boost):
    active, module_F, theme_F = hidden_modules(corpus, 200, boost=boost, seed=1)
    result = summary_of(active, corpus.task_N, corpus.word_N)
    edges, community_F = result.within_token_edges, result.within_token_community_F
    assert len(edges) > (200 if boost < 2 else 2000)
    assert (module_F[edges.source] == module_F[edges.target]).mean() >= 0.99
    linked = community_F >= 0
    assert linked.mean() > 0.85
    assert adjusted_rand_score(module_F[linked], community_F[linked]) > 0.9
    assert adjusted_rand_score(module_F, result.community_F) < 0.05  # plain communities are groups of words
    assert adjusted_rand_score(theme_F, result.community_F) > 0.95
    m = result.metrics
    assert m["q/within_token"] > 0.75
    assert m["q/within_token_excess"] == pytest.approx(m["q/within_token"] - m["q/within_token_null_mean"])
    assert m["q/within_token_excess"] > 0.3
    assert m["q/within_token_n_communities"] in (6, 7)
    assert abs(m["q/ami_within_token"]) < 0.05
    assert abs(m["q/ami_within_token_task"]) < 0.1


def test_modules_without_words_keep_their_modularity():
    data = planted(256, 16, 8000, boost=2.0, seed=1)
    rng = np.random.default_rng(0)
    token_N = rng.zipf(1.3, 8000).clip(1, 300)  # token ids that say nothing
    m = summary_of(data.active_NF, rng.integers(6, size=8000), token_N).metrics
    assert m["q/modularity"] > 0.7
    assert m["q/within_token"] == pytest.approx(m["q/modularity"], abs=0.05)
    assert m["q/ami_within_token"] > 0.8
    assert m["q/word_share"] == pytest.approx(0.0, abs=0.05)
    assert m["q/lexical"] == 0.0


def test_noise_has_no_edge_within_tokens():
    rng = np.random.default_rng(0)
    active = noise(1024, 32, 20_000, seed=0)
    for token_N in (rng.zipf(1.3, 20_000).clip(1, 2000), rng.integers(6000, size=20_000)):
        assert len(validated_edges(active, stratum_N=token_N)) <= 2


def test_word_share_by_hand():
    # six latents on the same 10 of the 20 occurrences of one token, and nowhere else among 100 tokens: an
    # edge has 10 joint firings, 1 expected by chance, 10 * 10 / 20 = 5 given the token
    active = np.zeros((100, 6), dtype=np.int32)
    active[:10] = 1
    token_N = np.where(np.arange(100) < 20, 7, 3)
    task_N = np.arange(100) % 2
    result = summarise_modularity(
        sparse.csr_matrix(active), task_N, 2, np.ones(6, bool), np.zeros(6, int),
        ModularitySettings(rewirings=0, null_tokens=0, naive=False), token_N=token_N,
    )  # fmt: skip
    assert len(result.edges) == 15
    assert result.metrics["q/word_share"] == pytest.approx((5 - 1) / (10 - 1))
    assert len(result.within_token_edges) == 15
    np.testing.assert_allclose(result.within_token_edges.pmi, np.log(10 / 5))
    # one of C(20, 10) ways; at the very end of the support the tail is on the cautious side
    too_large = result.within_token_edges.rank_tail * 184_756
    assert too_large.min() >= 1
    assert too_large.max() < 10


@pytest.mark.parametrize("why", ["token ids", "switched off", "per chunk"])
def test_without_token_ids_every_number_has_a_reason(why):
    data = planted(64, 6, 3000, boost=2.0, seed=0)
    order = np.argsort(data.task_N, kind="stable")
    result = summarise_modularity(
        data.active_NF[order], data.task_N[order], 6, np.ones(64, bool), np.zeros(64, int),
        ModularitySettings(rewirings=0, null_tokens=0, naive=False, words=why != "switched off"),
        unit_N=data.task_N[order] * 10_000 + np.arange(3000) // 4 if why == "per chunk" else None,
        token_N=None if why == "token ids" else np.zeros(3000, int),
    )  # fmt: skip
    for key in WORD_KEYS:
        assert result.metrics[f"q/{key}"] is None
        assert why in result.notes[f"q/{key}"]
    assert result.metrics["q/n_edges"] > 0
    assert not len(result.within_token_edges)
