"""The p of an edge takes documents for the observations: bursts that meet by chance are no edge."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm

from saescope.stats import ModularitySettings, collapse, summarise_modularity, validated_edges
from saescope.stats import edge_p as module
from saescope.stats.edge_p import edge_p, length_strata
from saescope.stats.synthetic import hidden_modules, planted, word_corpus, word_detectors


def pairs(size):
    return (ends.astype(np.int64) for ends in np.triu_indices(size, 1))


def bursts(docs, latents, *, seed, doc_tokens=100, doc_share=0.3):
    """Latents that are on in some documents, at a rate of their own there; documents of unequal length."""
    rng = np.random.default_rng(seed)
    tokens_D = np.clip(rng.lognormal(np.log(doc_tokens), 0.6, docs), 16, 1000).astype(np.int64)
    doc_N = np.repeat(np.arange(docs), tokens_D)
    rate_DF = (rng.random((docs, latents)) < doc_share) * rng.gamma(0.5, 0.2, (docs, latents)).clip(0, 0.9)
    return sparse.csr_matrix((rng.random((doc_N.size, latents)) < rate_DF[doc_N]).astype(np.int32)), doc_N


def test_z_by_hand():
    """Six documents of ten tokens, both latents on the first of each: U_d = 1 - 2/10 + 10/100 = 0.9.

    Their sum is 6 - 36/60 = 5.4, and of n = 6 documents their squares count 6/5 times.
    """
    x = np.zeros((60, 2), dtype=np.int32)
    x[::10] = 1
    p = edge_p(sparse.csr_matrix(x), np.array([0]), np.array([1]), np.arange(60) // 10)
    assert p[0] == pytest.approx(norm.sf(5.4 / np.sqrt(6 * 0.9**2 * 6 / 5)))
    assert p[0] == pytest.approx(norm.sf(np.sqrt(5)))


def test_nothing_left_to_chance_is_no_evidence():
    x = sparse.csr_matrix(np.ones((20, 2), dtype=np.int32))
    doc_N, one = np.arange(20) // 5, (np.array([0]), np.array([1]))
    assert edge_p(x, *one, doc_N)[0] == 0.5
    some = sparse.csr_matrix(np.eye(20, 2, dtype=np.int32))
    assert edge_p(some, *one, doc_N, np.arange(20))[0] == edge_p(some, *one, doc_N, np.full(20, -1))[0] == 0.5


@pytest.mark.parametrize("groups", [3, 256])
@pytest.mark.parametrize("strata", [None, 4, 12])
@pytest.mark.parametrize("firings", [10, 4_000_000])
def test_scores_by_definition(monkeypatch, strata, groups, firings):
    monkeypatch.setattr(module, "MAX_GROUPS", groups)
    monkeypatch.setattr(module, "BLOCK_FIRINGS", firings)
    rng = np.random.default_rng(1)
    active, doc_N = bursts(7, 9, seed=2, doc_tokens=40, doc_share=0.9)
    label_N = None if strata is None else rng.integers(-1, strata, doc_N.size)
    source, target = pairs(9)
    shuffled = rng.permutation(source.size)
    p = edge_p(active, source[shuffled], target[shuffled], 5 * doc_N, label_N)

    x = active.toarray().astype(float)
    stratum_N = np.zeros(doc_N.size, int) if label_N is None else label_N.copy()
    stratum_N[stratum_N < 0] = 100 + np.arange((stratum_N < 0).sum())
    left, root_N = np.empty_like(x), np.empty(doc_N.size)
    for stratum in np.unique(stratum_N):
        here = stratum_N == stratum
        left[here] = x[here] - x[here].mean(axis=0)
        docs = here.sum() ** 2 / (np.bincount(doc_N[here] % groups) ** 2).sum()
        root_N[here] = np.sqrt(docs / max(docs - 1.0, 0.5))
    for i, j, of_pair in zip(source[shuffled], target[shuffled], p, strict=True):
        product_N = left[:, i] * left[:, j]
        score_G = np.bincount(doc_N % groups, root_N * product_N)
        assert of_pair == pytest.approx(norm.sf(product_N.sum() / np.sqrt((score_G**2).sum())))
    assert 0 < p.min() < 0.5 < p.max()


@pytest.mark.parametrize("docs", [60, 400])
def test_bursts_that_have_nothing_to_do_with_each_other(docs):
    p, tail = [], []
    for seed in range(6 if docs == 60 else 2):
        active, doc_N = bursts(docs, 30, seed=seed)
        source, target = pairs(30)
        p.append(edge_p(active, source, target, doc_N))
        edges = validated_edges(active, fdr=0.05)
        tail.append(len(edges) / source.size)
    assert np.mean(tail) > 0.1  # the rule that takes tokens for independent calls many of them edges
    assert 0.002 < (np.concatenate(p) <= 0.05).mean() <= 0.06


@pytest.mark.parametrize("burst", ["none", "on_off", "gamma"])
def test_latents_that_read_the_same_words(burst):
    p = []
    for seed in range(4):
        corpus = word_corpus(60, seed=seed)
        active = word_detectors(corpus, 40, seed=seed, burst=burst)
        p.append(edge_p(active, *pairs(40), corpus.doc_N, corpus.word_N))
    assert (np.concatenate(p) <= 0.05).mean() <= 0.06


def test_an_edge_of_one_document_is_no_edge():
    x = np.zeros((6000, 2), dtype=np.int32)
    x[:50] = 1
    doc_N = np.arange(6000) // 100
    edges = validated_edges(sparse.csr_matrix(x))
    assert edges.rank_tail[0] < 1e-50
    assert edge_p(sparse.csr_matrix(x), edges.source, edges.target, doc_N)[0] > 0.15


def test_latents_that_share_their_firings_are_found():
    active, doc_N = bursts(120, 20, seed=5)
    x = active.toarray()
    rng = np.random.default_rng(0)
    even, odd = np.arange(0, 20, 2), np.arange(1, 20, 2)
    x[:, odd] |= x[:, even] & (rng.random((len(x), 10)) < 0.3)
    p = edge_p(sparse.csr_matrix(x), even, odd, doc_N)
    assert (p <= 0.05).all()


def test_modules_that_words_hide_are_found_by_document():
    corpus = word_corpus(150, seed=0, num_words=400)
    active, *_ = hidden_modules(corpus, 100, boost=2.0, seed=1)
    edges = validated_edges(active, stratum_N=corpus.word_N)
    p = edge_p(active, edges.source, edges.target, corpus.doc_N, corpus.word_N)
    assert len(edges) > 100
    assert (p <= 0.05).mean() > 0.95


def test_documents_of_unequal_length_counted_as_units():
    rng = np.random.default_rng(3)
    tokens_D = np.clip(rng.lognormal(np.log(120), 0.8, 600), 16, 2000)
    rate_F = rng.uniform(0.002, 0.01, 30)
    active = sparse.csr_matrix(
        (rng.random((600, 30)) < 1 - (1 - rate_F) ** tokens_D[:, None]).astype(np.int32)
    )
    source, target = pairs(30)
    apart, length_N = edge_p(active, source, target, np.arange(600)), length_strata(tokens_D.astype(int))
    assert (apart <= 0.05).mean() > 0.5
    assert (edge_p(active, source, target, np.arange(600), length_N) <= 0.05).mean() <= 0.07


def test_length_strata():
    assert length_strata(np.full(40, 7)).tolist() == [0] * 40
    length = np.random.default_rng(0).permutation(np.arange(43))
    stratum = length_strata(length)
    assert np.bincount(stratum).tolist() == [8, 8, 8, 8, 11]
    assert (np.diff(stratum[np.argsort(length)]) >= 0).all()
    assert length_strata(np.arange(3)).tolist() == [0, 0, 0]
    assert length_strata(np.zeros(0, int)).size == 0


def test_no_pair_and_wrong_documents():
    data = planted(8, 2, 50, boost=1.0, seed=0)
    none = np.zeros(0, np.int64)
    assert edge_p(data.active_NF, none, none, np.zeros(50, int)).size == 0
    with pytest.raises(ValueError, match="documents"):
        edge_p(data.active_NF, none, none, np.zeros(49, int))


def summary(unit_N=None, doc_N=None, token_N=None):
    data = planted(64, 6, 6000, boost=2.0, seed=0)
    order = np.argsort(data.task_N, kind="stable")
    settings = ModularitySettings(rewirings=0, null_tokens=0, naive=False)
    every = np.ones(64, bool)
    result = summarise_modularity(
        data.active_NF[order], data.task_N[order], 6, every, np.zeros(64, int), settings,
        unit_N=unit_N, doc_N=doc_N, token_N=token_N,
    )  # fmt: skip
    return result, data.active_NF[order], data.task_N[order]


def test_summary_has_a_p_for_each_edge():
    task_N = summary()[2]
    doc_N = 1000 * task_N + np.arange(6000) // 50
    token_N = np.arange(6000) % 40
    result, active, _ = summary(doc_N=doc_N, token_N=token_N)
    beyond, beyond_p_E = result.within_token_edges, result.within_token_p_E
    for edges, p_E, stratum_N, key in (
        (result.edges, result.p_E, None, "q/edges_by_document_frac"),
        (beyond, beyond_p_E, token_N, "q/within_token_edges_by_document_frac"),
    ):
        assert len(edges) > 40
        np.testing.assert_array_equal(p_E, edge_p(active, edges.source, edges.target, doc_N, stratum_N))
        assert result.metrics[key] == (p_E <= 0.05).mean() > 0.9


@pytest.mark.parametrize("tokens", [3, 6])
def test_summary_of_chunks_and_of_documents(tokens):
    task_N = summary()[2]
    doc_N = 1000 * task_N + np.arange(6000) // 6
    unit_N = 10_000 * task_N + np.arange(6000) // tokens
    result, active, _ = summary(unit_N=unit_N, doc_N=doc_N)
    _, first, size_U = np.unique(unit_N, return_index=True, return_counts=True)
    edges = result.edges
    wanted = edge_p(collapse(active, unit_N), edges.source, edges.target, doc_N[first], length_strata(size_U))
    assert len(edges) > 10
    np.testing.assert_array_equal(result.p_E, wanted)
    assert (result.p_E <= 0.05).mean() > 0.8


def test_without_documents_there_is_no_p():
    result, *_ = summary()
    assert np.isnan(result.p_E).all()
    assert result.p_E.size == len(result.edges) > 40
    assert result.metrics["q/edges_by_document_frac"] is None
    assert "documents" in result.notes["q/edges_by_document_frac"]
