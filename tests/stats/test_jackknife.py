"""Bias and standard error of averages of the index, each document left out in turn."""

import numpy as np
import pytest
from scipy import sparse

from saescope.stats import bootstrap_si, document_dispersion, specialization, task_counts
from saescope.stats.jackknife import Jackknifed, jackknife_si


def bursts(docs, latents, seed):
    """Supported latents at one rate on every task, which differs between documents; tasks of unequal size."""
    rng = np.random.default_rng(seed)
    share = np.array([0.3, 0.22, 0.18, 0.14, 0.1, 0.06])
    task = np.repeat(np.arange(6), np.maximum(4, np.round(share * docs).astype(int)))
    tokens = np.clip(rng.lognormal(np.log(120), 0.6, task.size), 16, 1000).astype(int)
    base = np.exp(rng.uniform(np.log(0.01), np.log(0.08), latents))
    burst = np.exp(rng.uniform(np.log(0.5), np.log(20.0), latents))
    rate = rng.beta(np.broadcast_to(base * burst, (task.size, latents)), burst * (1 - base))
    counts = rng.binomial(tokens[:, None], rate)
    supported = (counts.sum(0) >= 50) & ((counts > 0).sum(0) >= 10)
    return sparse.csr_matrix(counts[:, supported]), tokens, task


def averages(counts, tokens, task, dispersion, scored):
    counts_FK = task_counts(counts, task, 6)
    si = specialization(counts_FK, np.bincount(task, tokens, 6), dispersion)
    rate = (counts_FK / np.bincount(task, tokens, 6)).sum(1)
    return np.nanmean(si[scored]), np.average(np.nan_to_num(si), weights=rate)


def test_equals_a_plain_loop():
    """Every latent fires in every document, so nothing is taken for a document of mean length."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(6), [9, 8, 6, 5, 4, 3])
    tokens = rng.integers(300, 900, task.size)
    rate = np.exp(rng.uniform(np.log(0.03), np.log(0.1), 20)) * np.where(
        task[:, None] == np.arange(20) % 6, 3.0, 1.0
    )
    counts = rng.binomial(tokens[:, None], np.minimum(rate * rng.gamma(6.0, 1 / 6, (task.size, 20)), 0.9))
    assert (counts > 0).all()
    counts = sparse.csr_matrix(counts)
    scored = np.arange(20) < 12
    dispersion = document_dispersion(counts, tokens, task, 6)
    plain = averages(counts, tokens, task, dispersion, scored)
    without = []
    for doc in range(task.size):
        rest = np.arange(task.size) != doc
        without.append(averages(counts[rest], tokens[rest], task[rest], dispersion, scored))
    factor = 1 - 1 / np.bincount(task)[task]
    for at, result in enumerate(jackknife_si(counts, tokens, task, 6, scored_F=scored)):
        values = np.array(without)[:, at]
        mean_K = np.bincount(task, values) / np.bincount(task)
        variance = (factor * (values - mean_K[task]) ** 2).sum()
        assert result.plain == pytest.approx(plain[at])
        bias = (factor * (values - plain[at])).sum()
        assert result.corrected == pytest.approx(plain[at] - bias, abs=1e-9)
        assert 1.9 < result.half_width / variance**0.5 < 2.6  # a quantile of t


def test_documents_without_firings_count():
    """A latent that fires in few documents: the shortcut is near the plain loop."""
    counts, tokens, task = bursts(60, 30, seed=1)
    dispersion = document_dispersion(counts, tokens, task, 6)
    alive = np.asarray(counts.sum(0)).ravel() > 0
    plain = averages(counts, tokens, task, dispersion, alive)[0]
    without = []
    for doc in range(task.size):
        rest = np.arange(task.size) != doc
        without.append(averages(counts[rest], tokens[rest], task[rest], dispersion, alive)[0])
    bias = ((1 - 1 / np.bincount(task)[task]) * (np.array(without) - plain)).sum()
    result = jackknife_si(counts, tokens, task, 6)[0]
    assert bias > 0.005
    assert result.plain - result.corrected == pytest.approx(bias, rel=0.15)


def test_the_bias_of_bursts_is_estimated():
    """No latent prefers a task: with 60 documents the mean index is 0.04, the corrected one near 0."""
    results = [jackknife_si(*bursts(60, 80, seed), 6)[0] for seed in range(20)]
    assert np.mean([result.plain for result in results]) > 0.03
    assert abs(np.mean([result.corrected for result in results])) < 0.02


def test_equal_documents_have_neither_bias_nor_error():
    counts = sparse.csr_matrix(np.tile([[6, 1]], (10, 1)) * np.repeat([[1], [2]], 5, axis=0))
    mean, mutual_info = jackknife_si(counts, np.full(10, 50), np.repeat([0, 1], 5), 2)
    for result in (mean, mutual_info):
        assert result.corrected == pytest.approx(result.plain)
        assert result.half_width == pytest.approx(0.0, abs=1e-9)
        assert result.plain > 0.05


def test_a_task_of_one_document_is_never_left_out():
    counts = sparse.csr_matrix(np.array([[5, 2], [3, 1], [4, 0]]))
    for result in jackknife_si(counts, np.array([50, 60, 40]), np.array([0, 0, 1]), 2):
        assert np.isfinite([result.plain, result.corrected, result.half_width]).all()


def test_a_latent_of_one_document():
    """Without it no latent fires: nothing is known of bias and error, and nothing is NaN."""
    counts = sparse.csr_matrix(np.array([[5], [0], [0], [0]]))
    for result in jackknife_si(counts, np.full(4, 50), np.array([0, 0, 1, 1]), 2):
        assert np.isfinite([result.plain, result.corrected, result.half_width]).all()


def test_interval_by_hand():
    """About 0.20, corrected from 0.22: 0.03 below by jackknife, 0.05 above by bootstrap."""
    result = Jackknifed(0.22, 0.20, 0.03)
    assert result.around((0.20, 0.27)) == pytest.approx((0.17, 0.25))
    assert Jackknifed(0.22, 0.10, 0.03).around((0.2, 0.24)) == pytest.approx((0.07, 0.22))  # up to itself
    assert Jackknifed(0.01, 0.0, 0.03).around((0.0, 0.02))[0] == 0.0


@pytest.mark.slow
def test_coverage_with_few_documents():
    """60 documents, no preference: the true index is 0. The bootstrap alone holds it in few samples."""
    held = []
    for seed in range(40):
        sample = bursts(60, 80, seed)
        intervals = bootstrap_si(*sample, 6, resamples=200, seed=seed)
        low, _ = jackknife_si(*sample, 6)[0].around(intervals.mean)
        held.append((low <= 0.0, intervals.mean[0] <= 0.0))
    jackknifed, alone = np.mean(held, axis=0)
    assert jackknifed >= 0.9
    assert alone < jackknifed
