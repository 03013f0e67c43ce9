"""Firings dealt anew among the occurrences of each word."""

import numpy as np
from scipy import sparse, stats

from saescope.stats import validated_edges
from saescope.stats.lexical import deal_anew
from saescope.stats.synthetic import hidden_modules, word_corpus


def counts_by_word(active, word_N, num_words):
    member = sparse.csr_matrix((np.ones(word_N.size), (word_N, np.arange(word_N.size))))
    return (member @ active).toarray()[:num_words]


def test_every_latent_keeps_its_firings_on_every_word():
    rng = np.random.default_rng(0)
    word_N = rng.zipf(1.5, 4000).clip(1, 200) - 1
    active = sparse.csr_matrix(rng.random((4000, 30)) < rng.random(30) * rng.random(200)[word_N, None])
    active = active.astype(np.int32)
    dealt = deal_anew(active, word_N, seed=0)
    np.testing.assert_array_equal(counts_by_word(dealt, word_N, 200), counts_by_word(active, word_N, 200))
    assert dealt.data.max() == 1
    assert 0 < dealt.multiply(active).sum() < 0.9 * active.sum()
    assert (deal_anew(active, word_N, seed=0) != dealt).nnz == 0
    assert (deal_anew(active, word_N, seed=1) != dealt).nnz > 0


def test_blocks_of_latents_are_dealt_as_the_whole_and_counted(monkeypatch):
    from saescope.stats import lexical

    rng = np.random.default_rng(1)
    word_N = rng.integers(20, size=500)
    active = sparse.csr_matrix(rng.random((500, 30)) < 0.2).astype(np.int32)
    active[:, 7] = 0
    active.eliminate_zeros()
    calls = []
    monkeypatch.setattr(lexical, "AT_ONCE", 250)
    dealt = deal_anew(active, word_N, seed=0, progress=lambda *call: calls.append(call))
    np.testing.assert_array_equal(counts_by_word(dealt, word_N, 20), counts_by_word(active, word_N, 20))
    assert dealt.data.max() == 1
    assert calls[0] == ("latents dealt anew", 0, 30)
    assert calls[-1] == ("latents dealt anew", 30, 30)
    assert len(calls) > 10
    assert deal_anew(active[:, :0], word_N, seed=0).shape == (500, 0)


def test_all_subsets_are_as_likely():
    # one latent on 2 of 4 occurrences of a word, another on 3 of 4: 6 and 4 subsets; a third word stays
    active = sparse.csr_matrix(np.array([[1, 1], [1, 1], [0, 1], [0, 0], [1, 0]], dtype=np.int32))
    word_N = np.array([5, 5, 5, 5, -1])
    seen = [{}, {}]
    for seed in range(1200):
        dealt = deal_anew(active, word_N, seed=seed).toarray()
        assert dealt[4].tolist() == [1, 0]
        for latent in (0, 1):
            key = tuple(dealt[:4, latent])
            seen[latent][key] = seen[latent].get(key, 0) + 1
    assert [len(subsets) for subsets in seen] == [6, 4]
    for subsets in seen:
        assert stats.chisquare(list(subsets.values())).pvalue > 1e-4


def test_nothing_is_left_beyond_the_word():
    corpus = word_corpus(80, seed=0, num_words=400)
    active, *_ = hidden_modules(corpus, 200, boost=4.0, seed=0)
    assert len(validated_edges(active, stratum_N=corpus.word_N)) > 500
    dealt = deal_anew(active, corpus.word_N, seed=0)
    assert len(validated_edges(dealt)) > 500
    assert len(validated_edges(dealt, stratum_N=corpus.word_N)) <= 2
