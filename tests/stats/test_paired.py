"""Paired differences: coverage, width, families, and what the draws depend on."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm, t

from saescope.stats.bootstrap import bootstrap_si
from saescope.stats.coactivation import validated_edges
from saescope.stats.modularity import leiden
from saescope.stats.modularity_replicates import modularity_replicates
from saescope.stats.paired import (
    Contrast,
    Deviations,
    Independent,
    mean_of,
    of_bootstrap,
    of_groups,
    simultaneous,
)
from saescope.stats.resampling import document_groups, document_seed, document_weights, drawn_documents
from saescope.stats.specialization import document_dispersion, specialization, task_counts

DOCS, TASKS = 90, 3
TASK_D = np.repeat(np.arange(TASKS), DOCS // TASKS)
TOKENS_D = np.full(DOCS, 80)


class World:
    """Halves of one SAE: latents that prefer the tasks in much the same way, and documents that raise all
    their rates together."""

    def __init__(self, latents: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        preference_FK = np.array([2.0, 1.0, 0.5]) * rng.lognormal(0.0, 0.3, (latents, TASKS))
        self.rate_FK = rng.gamma(2.0, 0.04, (latents, 1)) * preference_FK

    def documents(self, rng: np.random.Generator) -> sparse.csr_matrix:
        rate_DF = self.rate_FK[:, TASK_D].T * rng.gamma(2.0, 0.5, (DOCS, 1))
        return sparse.csr_matrix(rng.poisson(TOKENS_D[0] * rate_DF * rng.gamma(2.0, 0.5, rate_DF.shape)))


def mean_si(counts: sparse.csr_matrix) -> float:
    dispersion = document_dispersion(counts, TOKENS_D, TASK_D, TASKS)
    tokens_K = np.bincount(TASK_D, TOKENS_D)
    return float(np.nanmean(specialization(task_counts(counts, TASK_D, TASKS), tokens_K, dispersion)))


def si_deviations(counts: sparse.csr_matrix, resamples: int = 150) -> Deviations:
    drawn = bootstrap_si(counts, TOKENS_D, TASK_D, TASKS, resamples=resamples, seed=document_seed(TASK_D))
    return of_bootstrap(drawn.mean_B, DOCS - TASKS)


def test_the_interval_of_a_difference_covers_it_and_is_narrower_than_the_unpaired_one() -> None:
    world, rng = World(60, 0), np.random.default_rng(1)
    differences, errors, unpaired = [], [], []
    for _ in range(200):
        counts = world.documents(rng)
        halves = [sparse.csr_matrix(counts[:, half::2]) for half in (0, 1)]
        deviations = [si_deviations(half) for half in halves]
        differences.append(mean_si(halves[0]) - mean_si(halves[1]))
        errors.append((deviations[0] - deviations[1]).standard_error)
        unpaired.append(np.hypot(*(each.standard_error for each in deviations)))
    difference, error = np.array(differences), np.array(errors)
    covered = np.abs(difference - difference.mean()) <= t.isf(0.025, DOCS - TASKS) * error
    assert 0.90 <= covered.mean() <= 0.99
    assert error.mean() < 0.5 * np.mean(unpaired)
    assert error.mean() == pytest.approx(difference.std(ddof=1), rel=0.2)


def test_the_draws_depend_on_the_documents_alone() -> None:
    """Not on the number of latents, and the first draws not on how many there are."""
    counts = World(300, 2).documents(np.random.default_rng(3))
    seed = document_seed(TASK_D)
    alone = bootstrap_si(counts[:, :1], TOKENS_D, TASK_D, TASKS, resamples=40, seed=seed)
    scored = np.arange(300) == 0
    among = bootstrap_si(counts, TOKENS_D, TASK_D, TASKS, resamples=40, seed=seed, scored_F=scored)
    np.testing.assert_allclose(among.mean_B, alone.mean_B, rtol=1e-12)
    docs = [np.flatnonzero(task == TASK_D) for task in range(TASKS)]
    many, _ = drawn_documents(docs, TOKENS_D, 130, seed)
    few, tokens_BK = drawn_documents(docs, TOKENS_D, 3, seed)
    np.testing.assert_array_equal(many[:3], few)
    assert (many.sum(axis=1) == DOCS).all()
    np.testing.assert_array_equal(tokens_BK, np.full((3, TASKS), 2400.0))
    assert document_seed(TASK_D) == document_seed(TASK_D.astype(np.int32)) != document_seed(TASK_D[:-1])


def test_groups_share_out_every_task() -> None:
    task_D = np.r_[np.repeat([0, 1], [23, 8]), 2, np.repeat(3, 3)]
    group_D = document_groups(task_D, 5)
    assert sorted(np.bincount(group_D[task_D == 0])) == [4, 4, 5, 5, 5]
    assert group_D[task_D == 2] == [-1]  # the only document of its task is never left out
    assert len(set(group_D[task_D == 3])) == 3
    np.testing.assert_array_equal(group_D, document_groups(task_D, 5))
    assert (document_groups(task_D, 1) == -1).all()
    assert not np.array_equal(document_groups(np.zeros(20), 5), np.arange(20) % 5)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """By hand: x = 1, 2, 6 has mean 3 and standard error sqrt((4 + 1 + 9)/2/3)."""
    x = np.array([1.0, 2.0, 6.0])
    left_out = (x.sum() - x) / 2
    deviations = of_groups(left_out)
    assert deviations.standard_error == pytest.approx(np.sqrt(14 / 2 / 3))
    assert deviations.freedom == 2
    assert (deviations - deviations).standard_error == 0
    assert mean_of([deviations, deviations]).standard_error == pytest.approx(deviations.standard_error)
    assert of_bootstrap(x, 9).standard_error == pytest.approx(np.std(x, ddof=1))


def test_one_difference_is_a_t_test() -> None:
    deviations = of_groups(np.array([2.9, 3.0, 3.1, 3.0, 3.2]))
    error = deviations.standard_error
    result = simultaneous([Contrast(2 * error, "documents", deviations)])[0]
    half = t.isf(0.025, 4) * error
    assert (result.low, result.high) == pytest.approx((2 * error - half, 2 * error + half))
    assert result.p == pytest.approx(2 * t.sf(2, 4))
    assert result.detectable == pytest.approx(half + t.isf(0.2, 4) * error)


def test_max_t_by_hand() -> None:
    """Ten independent differences need 1 − 0.95^(1/10) each (Šidák); ten copies of one need 0.05."""
    eye = 0.5 * np.eye(10)
    independent = [Contrast(1.5, "documents", Deviations(row, np.inf)) for row in eye]
    z = norm.isf((1 - 0.95**0.1) / 2)
    for result in simultaneous(independent):
        assert result.high - 1.5 == pytest.approx(0.5 * z, rel=0.02)
        assert result.p == pytest.approx(1 - (1 - 2 * norm.sf(3)) ** 10, abs=0.004)
    copies = [Contrast(1.0, "documents", Deviations(eye[0], np.inf)) for _ in range(10)]
    for result in simultaneous(copies):
        assert result.high - 1.0 == pytest.approx(0.5 * norm.isf(0.025), rel=0.02)
        assert result.p == pytest.approx(2 * norm.sf(2), abs=0.004)
        assert (result.p < 0.05) == (result.low > 0)
    seeds = [Contrast(1.5, "documents", None, Independent(0.5, np.inf)) for _ in range(10)]
    assert simultaneous(seeds)[0].high - 1.5 == pytest.approx(0.5 * z, rel=0.02)


def test_a_bootstrap_of_few_documents_has_the_standard_error_of_their_mean() -> None:
    """Of three tasks with three documents each: √(mean of variance/3 over tasks, /3), by hand."""
    rng = np.random.default_rng(0)
    value_D, task_D = rng.normal(size=9), np.repeat(np.arange(3), 3)
    weight_BD = document_weights(task_D, 20_000, rng)
    deviations = of_bootstrap(weight_BD @ value_D / 9, 6, 9)
    by_hand = np.sqrt(sum(value_D[task_D == k].var(ddof=1) / 3 for k in range(3))) / 3
    assert deviations.standard_error == pytest.approx(by_hand, rel=0.02)
    assert of_bootstrap(weight_BD @ value_D / 9, 6).standard_error < 0.85 * by_hand


def test_standard_errors_of_documents_and_seeds_add_up() -> None:
    """3 and 4 make 5; degrees of freedom 5^4/(3^4/9 + 4^4/16) = 25."""
    contrast = Contrast(0.0, "documents", Deviations(np.array([3.0]), 9.0), Independent(4.0, 16.0))
    assert contrast.standard_error == 5.0
    assert contrast.freedom == pytest.approx(625 / (81 / 9 + 256 / 16))


def test_equal_jobs_differ_by_nothing_and_exactly() -> None:
    nothing = Deviations(np.zeros(5), 4.0)
    same, other = simultaneous([Contrast(0.0, "documents", nothing), Contrast(0.1, "documents", nothing)])
    assert same == (0.0, 0.0, 1.0, 0.0)
    assert other == (0.1, 0.1, 0.0, 0.0)
    assert simultaneous([]) == []


def test_a_family_without_differences_is_declared_in_five_percent() -> None:
    """Four jobs, all six pairs, correlated; the standard errors are estimated from twenty groups."""
    rng, declared = np.random.default_rng(0), 0
    for trial in range(300):
        shared = rng.normal(size=20)
        groups_JG = 0.8 * shared + 0.6 * rng.normal(size=(4, 20))
        jobs = [of_groups((row.sum() - row) / 19) for row in groups_JG]
        pairs = [(i, j) for i in range(4) for j in range(i)]
        family = [
            Contrast(float(groups_JG[i].mean() - groups_JG[j].mean()), "documents", jobs[i] - jobs[j])
            for i, j in pairs
        ]
        declared += min(result.p for result in simultaneous(family, seed=trial)) < 0.05
    assert 3 <= declared <= 27  # 15 expected; outside with probability 0.002


class Modules:
    """Two SAEs over the same tokens: latents in modules, tokens that turn modules on, documents that prefer
    some."""

    def __init__(self, latents: int, modules: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.module_F = rng.integers(modules, size=latents)
        self.base_F = rng.uniform(0.01, 0.05, latents)
        self.gain_F = rng.uniform(0.3, 0.6, latents)

    def tokens(self, module_N: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
        rate_NF = self.base_F + self.gain_F * (module_N[:, None] == self.module_F)
        return sparse.csr_matrix(rng.random(rate_NF.shape) < rate_NF)


def q_and_replicates(active: sparse.csr_matrix, group_N: np.ndarray) -> tuple[float, Deviations]:
    edges = validated_edges(active)
    best = leiden(edges.source, edges.target, edges.pmi, active.shape[1], seeds=[0, 1])
    replicates = modularity_replicates(
        active,
        np.ones(active.shape[1], bool),
        best.labels_S,
        group_N,
        min_joint=5,
        fdr=0.01,
        resolution=1.0,
    )
    return best.modularity, of_groups(replicates)


def test_a_paired_difference_of_q_covers_the_truth() -> None:
    task_D, length = np.zeros(80, dtype=np.int64), 40
    group_N = np.repeat(document_groups(task_D, 16), length)
    saes = [Modules(24, 4, seed) for seed in (0, 1)]
    rng, differences, errors = np.random.default_rng(5), [], []
    for _ in range(120):
        preference_DM = rng.dirichlet(np.full(4, 0.7), task_D.size)
        module_N = np.concatenate([rng.choice(4, length, p=row) for row in preference_DM])
        results = [q_and_replicates(sae.tokens(module_N, rng), group_N) for sae in saes]
        differences.append(results[0][0] - results[1][0])
        errors.append((results[0][1] - results[1][1]).standard_error)
    difference, error = np.array(differences), np.array(errors)
    covered = np.abs(difference - difference.mean()) <= t.isf(0.025, 15) * error
    assert 0.90 <= covered.mean() <= 0.99
    assert error.mean() == pytest.approx(difference.std(ddof=1), rel=0.2)


def test_replicates_leave_one_group_out() -> None:
    """Without the group in which the second module fires, the first is all there is: Q = 0."""
    rng = np.random.default_rng(0)
    first, second = rng.random((400, 6)) < 0.3, rng.random((400, 6)) < 0.3
    first &= np.arange(400)[:, None] % 2 == 0
    second &= np.arange(400)[:, None] % 2 == 0
    active = sparse.csr_matrix(sparse.block_diag([first, second]).astype(int))
    group_N = np.repeat([0, 1], 400)
    edges = validated_edges(active)
    best = leiden(edges.source, edges.target, edges.pmi, 12, seeds=[0])
    replicates = modularity_replicates(
        active, np.ones(12, bool), best.labels_S, group_N, min_joint=5, fdr=0.01, resolution=1.0
    )
    assert best.modularity > 0.4
    np.testing.assert_allclose(replicates, [0.0, 0.0], atol=1e-12)
    whole = modularity_replicates(
        active, np.ones(12, bool), best.labels_S, np.full(800, -1), min_joint=5, fdr=0.01, resolution=1.0
    )
    assert whole.size == 0
