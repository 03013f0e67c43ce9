"""SI given the word: by hand, on latents that only read words, on bursts, and on planted preferences."""

import numpy as np
import pytest
from scipy import sparse

from saescope.stats import (
    SpecializationSettings,
    beyond_words,
    document_dispersion,
    specialization,
    summarise_specialization,
    summarise_words,
    task_counts,
    word_clusters,
)
from saescope.stats.synthetic import word_corpus, word_detectors
from saescope.stats.word_classes import WordClasses, bigrams


def of(corpus, active, **settings):
    return beyond_words(active, corpus.word_N, corpus.doc_N, corpus.task_D, 6, **settings)


def doc_counts(corpus, active):
    gather = sparse.csr_matrix(
        (np.ones(corpus.doc_N.size, int), (corpus.doc_N, np.arange(corpus.doc_N.size)))
    )
    return sparse.csr_matrix(gather @ active)


def rejected(num_docs, burst, corpora, latents=60, tasks=6, effect=0.0):
    """Share of latents with p <= 5 %."""
    p = []
    for seed in range(corpora):
        corpus = word_corpus(num_docs, seed=seed, num_tasks=tasks)
        active = word_detectors(corpus, latents, seed=seed, burst=burst, effect=effect)
        p.append(beyond_words(active, corpus.word_N, corpus.doc_N, corpus.task_D, tasks, draws=0).p_F)
    return float((np.concatenate(p) <= 0.05).mean())


def test_classes_of_words_by_hand():
    #      word 7: 2 in task 0, 4 in task 1; word 8 only in task 1; word 9: 1 and 2; one token without a word
    word = np.array([7, 7, 7, 7, 7, 7, 8, 9, 9, 9, -1])
    task = np.array([0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 0])
    classes = WordClasses.of(word, task, 2)
    assert classes.class_N.tolist() == [0] * 6 + [-1] + [0] * 3 + [-1]
    np.testing.assert_allclose(classes.share_GK, [[1 / 3, 2 / 3]])
    assert WordClasses.of(np.array([-1, 3]), np.array([0, 1]), 2).class_N.tolist() == [-1, -1]
    pairs = bigrams(np.array([-1, 4, 4, 5, 0]), np.array([3, 3, 3, 2, 0]))
    assert pairs[0] == -1
    assert pairs[1] == pairs[2]
    assert np.unique(pairs).size == 4


def by_hand(copies=50):
    """Word 0 stands 30 and 10 times in a document of task 0 and 1, word 1 10 and 30 times.

    The latent fires on word 0 with 0.2 theta and on word 1 with 0.3 theta, theta = (2, 1): 12 and 6 times in
    task 0, 2 and 9 times in task 1. Every document is the same.
    """
    first = np.repeat([0, 1], [30, 10]), np.r_[np.arange(30) < 12, np.arange(10) < 6]
    second = np.repeat([0, 1], [10, 30]), np.r_[np.arange(10) < 2, np.arange(30) < 9]
    word = np.concatenate([first[0], second[0]] * copies)
    fired = np.concatenate([first[1], second[1]] * copies)
    reads = word == 0  # the second latent fires on every word 0
    doc = np.repeat(np.arange(2 * copies), 40)
    task = np.tile([0, 1], copies)
    return sparse.csr_matrix(np.stack([fired, reads], axis=1).astype(int)), word, doc, task


def test_preference_given_the_word_by_hand():
    active, word, doc, task = by_hand()
    result = beyond_words(active, word, doc, task, 2)
    q = np.array([2 / 3, 1 / 3])
    assert result.si_F[0] == pytest.approx(1 + (q * np.log2(q)).sum(), abs=5e-4)  # no scatter: not shrunk
    assert result.si_F[1] == 0.0
    assert result.p_F[0] < 1e-3
    assert result.p_F[1] == 1.0
    assert result.identified_F.tolist() == [50 * 29, 50 * 40]
    # 14 firings on word 0, 3/4 of which stand in task 0; 15 on word 1, 1/4
    np.testing.assert_allclose(result.lexical_FK, 50 * np.array([[14.25, 14.75], [30, 10]]))


def test_with_one_word_it_is_the_index_itself():
    """And V is the variance of documents: theta is the rate, and the shrinkage that of `specialization`."""
    rng = np.random.default_rng(0)
    task = np.repeat([0, 1, 2], [50, 40, 60])
    tokens = rng.integers(50, 200, 150)
    rate = np.array([0.2, 0.1, 0.13])[task][:, None] * rng.gamma(2.0, 0.5, (150, 8))
    doc = np.repeat(np.arange(150), tokens)
    active = sparse.csr_matrix(rng.random((doc.size, 8)) < np.minimum(rate, 1)[doc], dtype=int)
    counts = sparse.csr_matrix(
        sparse.csr_matrix((np.ones(doc.size, int), (doc, np.arange(doc.size)))) @ active
    )
    dispersion = document_dispersion(counts, tokens, task, 3)
    plain = specialization(task_counts(counts, task, 3), np.bincount(task, tokens), dispersion)
    given = beyond_words(active, np.zeros(doc.size, int), doc, task, 3).si_F
    np.testing.assert_allclose(given, plain, atol=1.5e-3)
    assert plain.max() > 0.03


def test_a_word_of_one_task_says_nothing():
    corpus = word_corpus(60, seed=0)
    active = word_detectors(corpus, 20, seed=0)
    alone = corpus.num_words + corpus.task_N  # a word for each task
    result = beyond_words(active, alone, corpus.doc_N, corpus.task_D, 6)
    assert result.identified_F.tolist() == [0] * 20
    assert result.si_F.tolist() == [0.0] * 20
    assert result.p_F.tolist() == [1.0] * 20
    np.testing.assert_array_equal(result.lexical_FK, task_counts(active, corpus.task_N, 6))
    unknown = beyond_words(active, np.full(alone.size, -1), corpus.doc_N, corpus.task_D, 6)
    np.testing.assert_array_equal(unknown.p_F, result.p_F)


def test_token_detectors_prefer_no_task_beyond_their_words():
    corpus = word_corpus(300, seed=0)
    always, sometimes = (
        of(corpus, word_detectors(corpus, 60, seed=1, burst=burst)) for burst in ("always", "none")
    )
    assert always.si_F.max() < 1e-12
    assert always.p_F.min() > 0.9
    assert sometimes.si_F.mean() < 0.001
    assert (sometimes.p_F <= 0.05).mean() <= 0.06
    active = word_detectors(corpus, 60, seed=1)
    tokens_K = np.bincount(corpus.task_N, minlength=6)
    assert specialization(task_counts(active, corpus.task_N, 6), tokens_K).mean() > 0.1  # though SI is high


@pytest.mark.parametrize("burst", ["on_off", "gamma", "two_tasks"])
def test_bursts_are_no_preference(burst):
    """Sign flips of documents reject 8 to 9 % of these; of bursts in two tasks of few documents more."""
    assert rejected(60, burst, corpora=8) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("burst", ["none", "on_off", "gamma", "two_tasks"])
@pytest.mark.parametrize(("num_docs", "tasks"), [(60, 2), (60, 6), (600, 2), (600, 6)])
def test_false_positives(num_docs, tasks, burst):
    assert rejected(num_docs, burst, corpora=20 if num_docs < 100 else 8, tasks=tasks) <= 0.06


def test_a_task_of_one_document_says_nothing():
    """Its variance is not known: the others are compared without it."""
    corpus = word_corpus(60, seed=0, num_tasks=2)
    active = word_detectors(corpus, 40, seed=2, effect=2.0)
    task = np.where(np.arange(corpus.task_D.size) == 0, 2, corpus.task_D)
    with_it = beyond_words(active, corpus.word_N, corpus.doc_N, task, 3)
    assert np.isfinite(with_it.p_F).all()
    assert (with_it.p_F <= 0.05).mean() > 0.6
    alone = beyond_words(active, corpus.word_N, corpus.doc_N, np.where(task == 2, 1, 0), 2)
    assert alone.p_F.min() > 0.3


@pytest.mark.slow
def test_a_task_e_times_as_often_is_found():
    assert rejected(600, "none", corpora=6, effect=1.0) >= 0.9
    assert rejected(600, "on_off", corpora=6, effect=2.0) >= 0.85


def test_planted_preferences_are_found():
    corpus = word_corpus(300, seed=0)
    truth = np.r_[np.e, np.ones(5)] / (np.e + 5)
    for burst, tolerance in (("none", 0.015), ("gamma", 0.025)):  # a probability ends at 1, so does a burst
        result = of(corpus, word_detectors(corpus, 60, seed=2, burst=burst, effect=1.0))
        assert (result.p_F <= 0.05).mean() > 0.7, burst
        expected = 1 + (truth * np.log(truth)).sum() / np.log(6)
        assert result.si_F.mean() == pytest.approx(expected, abs=tolerance), burst
        assert result.null_F.mean() < 0.1 * result.si_F.mean()


def test_a_bigram_detector_is_seen_by_token_and_not_by_bigram():
    """Word 5 is often after word 3 in task 0 and seldom in task 1; the latent fires on 5 after 3."""
    rng = np.random.default_rng(0)
    task = np.repeat([0, 1], 60)
    doc = np.repeat(np.arange(120), 100)
    word = rng.integers(6, 50, doc.size)
    pair = np.flatnonzero(rng.random(doc.size // 10) < np.where(task[doc[::10]] == 0, 0.5, 0.1)) * 10
    word[::10] = 4
    word[pair] = 3
    word[np.arange(0, doc.size, 10) + 1] = 5
    previous = np.r_[-1, word[:-1]]
    active = sparse.csr_matrix(((previous == 3) & (word == 5)).astype(int)[:, None])
    by_token = beyond_words(active, word, doc, task, 2)
    by_bigram = beyond_words(active, bigrams(previous, word), doc, task, 2)
    assert by_token.si_F[0] > 0.2
    assert by_token.p_F[0] < 1e-4
    assert by_bigram.si_F[0] == 0.0
    assert by_bigram.p_F[0] > 0.9


def test_lexical_counts_are_the_mean_of_dealing_anew():
    corpus = word_corpus(60, seed=3)
    active = word_detectors(corpus, 10, seed=3, effect=1.5)
    rng = np.random.default_rng(0)
    by_word = np.argsort(corpus.word_N, kind="stable")
    drawn = []
    for _ in range(200):
        task_N = np.empty_like(corpus.task_N)
        # a random order within each word: sort by word, ties at random
        task_N[by_word] = corpus.task_N[np.lexsort((rng.random(by_word.size), corpus.word_N))]
        drawn.append(task_counts(active, task_N, 6))
    expected = of(corpus, active).lexical_FK
    standard_error = np.std(drawn, axis=0) / np.sqrt(200)
    assert (np.abs(np.mean(drawn, axis=0) - expected) <= 4 * standard_error + 1e-9).mean() > 0.98
    tokens_K = np.bincount(corpus.task_N, minlength=6)
    index = np.mean([specialization(counts, tokens_K) for counts in drawn])
    assert specialization(expected, tokens_K).mean() == pytest.approx(index, rel=0.05)  # draws scatter


def test_blocks_and_threads_change_no_number(monkeypatch):
    corpus = word_corpus(60, seed=0)
    active = word_detectors(corpus, 30, seed=0, effect=1.0)
    whole = of(corpus, active)
    monkeypatch.setattr(word_clusters, "BLOCK_FIRINGS", 200)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    parts = of(corpus, active)
    for name in ("si_F", "null_F", "p_F", "identified_F", "lexical_FK"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-3, err_msg=name)
    assert of(corpus, active[:, :0]).lexical_FK.shape == (0, 6)


def summary_of(corpus, active, **settings):
    counts, tokens = doc_counts(corpus, active), np.bincount(corpus.doc_N)
    supported = np.arange(active.shape[1]) > 0
    si = summarise_specialization(counts, tokens, corpus.task_D, 6, supported, SpecializationSettings(100, 0))
    previous = np.r_[-1, corpus.word_N[:-1]]
    words = {"token": corpus.word_N, "bigram": bigrams(previous, corpus.word_N)}
    settings = {"draws": 3, "words": words} | settings
    words = settings.pop("words")
    return si, summarise_words(active, words, corpus.doc_N, corpus.task_D, 6, supported, si, **settings)


def test_share_of_vocabulary_and_columns():
    corpus = word_corpus(200, seed=0)
    reads = word_detectors(corpus, 30, seed=1, burst="always")
    si, words = summary_of(corpus, reads)
    m = words.metrics
    assert m["si/lexical"] == pytest.approx(si.metrics["si/mean"], rel=1e-9)
    assert m["si/lexical_share"] == pytest.approx(1.0)
    assert m["si/beyond_token_mean"] < 1e-12
    assert m["si/beyond_token_significant_frac"] == 0.0
    assert 0.5 < m["si/beyond_token_identified"] <= 1.0
    assert m["si/beyond_bigram_identified"] < m["si/beyond_token_identified"]
    assert not words.notes
    np.testing.assert_allclose(words.columns["si_lexical"][1:], si.si[1:], rtol=1e-9)
    assert np.isnan(words.columns["si_token"][0])
    _, mixed = summary_of(
        corpus, sparse.hstack([reads, word_detectors(corpus, 30, seed=1, effect=2.0)]).tocsr()
    )
    assert 0.2 < mixed.metrics["si/lexical_share"] < 0.9
    assert 0.3 < mixed.metrics["si/beyond_token_significant_frac"] <= 0.5
    rate = mixed.columns["si_token"][1:]
    assert 0 < mixed.metrics["si/beyond_token_weighted"] < rate.max()


def test_without_words_every_number_has_a_reason():
    corpus = word_corpus(60, seed=0)
    active = word_detectors(corpus, 5, seed=1)
    for settings, reason in (({"words": None}, "token ids"), ({"draws": 0}, "switched off")):
        _, words = summary_of(corpus, active, **settings)
        assert set(words.metrics.values()) == {None}
        assert set(words.notes) == set(words.metrics)
        assert all(reason in note for note in words.notes.values())
        assert all(np.isnan(column).all() for column in words.columns.values())
