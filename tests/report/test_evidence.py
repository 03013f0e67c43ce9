import numpy as np
import pytest

from saescope.metrics import Q_P
from saescope.report.evidence import draws_of, shared_floor, shortage, shortage_sentences
from saescope.stats import benjamini_hochberg
from tests.report.report_folder import metrics

QUICK = {"permutations": 100, "si_fdr": 0.05}


def p_of(at_floor: int, latents: int, draws: int) -> np.ndarray:
    """`at_floor` latents at 1/(draws + 1), the others far from it, and two without support."""
    return np.r_[np.full(at_floor, 1 / (draws + 1)), np.full(latents - at_floor, 0.5), np.nan, np.nan]


def test_share_and_q_at_the_floor_by_hand():
    share, q = shared_floor(p_of(65, 100, 100), 100, 0.05)
    assert share == 0.65
    assert q == pytest.approx(1 / 101 / 0.65)  # 0.0152
    assert q == pytest.approx(benjamini_hochberg(p_of(65, 100, 100)[:100])[0])


@pytest.mark.parametrize(
    ("at_floor", "draws"),
    [
        (95, 1000),  # q at the floor is far below the FDR level
        (24, 100),  # fewer than a quarter share it
        (0, 20),
    ],
)
def test_enough_draws_are_not_few(at_floor, draws):
    assert shared_floor(p_of(at_floor, 100, draws), draws, 0.05) is None


@pytest.mark.parametrize("draws", [20, 100, 1000])
def test_noise_shares_no_floor(draws):
    p = np.random.default_rng(0).integers(1, draws + 2, 2000) / (draws + 1)
    assert shared_floor(p, draws, 0.05) is None


def test_no_latent_no_floor():
    assert shared_floor(np.full(3, np.nan), 100, 0.05) is None


def test_few_documents_and_few_permutations_are_one_line_each():
    values = metrics() | {"task/code/docs": 11}
    documents, permutations = shortage(values, QUICK, p_of(65, 100, 100)).sentences
    assert documents.startswith("The smallest task, code, has 11 documents, fewer than 20: ")
    assert permutations.startswith(
        "100 permutations are few: 65 % of the supported latents share the smallest possible p-value, 1/101 "
        "(q = 0.015), so "
    )
    assert "\n" not in documents + permutations


def test_twenty_documents_and_the_default_permutations_are_enough():
    values = metrics() | {"task/code/docs": 20}
    assert shortage(values, {"permutations": 1000}, p_of(95, 100, 1000)).sentences == []
    assert shortage(values, QUICK, None).sentences == []
    assert shortage({}, {}, None).sentences == []


def test_the_jobs_of_a_sweep_share_a_line():
    thin = shortage(metrics() | {"task/qa/docs": 1}, QUICK, p_of(65, 100, 100))
    thinner = shortage(metrics() | {"task/qa/docs": 1}, QUICK, p_of(95, 100, 100))
    documents, permutations = shortage_sentences([thin, thinner, shortage(metrics(), QUICK, None)], 3)
    assert "qa, has 1 document, fewer than 20, in 2 of 3 jobs:" in documents
    assert "65 % to 95 % of the" in permutations
    assert "(q = 0.010 to 0.015, in 2 of 3 jobs)" in permutations


def test_draws_come_from_the_metrics_of_the_run():
    assert draws_of(Q_P, {"q/rewirings": 20}) == 20
    assert draws_of(Q_P, {}) is None
