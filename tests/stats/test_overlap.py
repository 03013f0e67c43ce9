import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from saescope.stats import assignment
from saescope.stats.assignment import Matching, match
from saescope.stats.cosine_search import nearest_rows, unit_rows
from saescope.stats.groups import mean_difference, modularity_shares
from saescope.stats.modularity import modularity
from saescope.stats.overlap import overlap, random_overlap, strata
from saescope.stats.random_cosines import expected_best_cosine, expected_matched_cosine, share_reaching

METHODS = [{}, {"dense": 0, "candidates": 32}]


def random_rows(count: int, d: int, seed: int) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, d)))


def both(a: np.ndarray, b: np.ndarray, **how: int) -> tuple[Matching, Matching]:
    """Encoder and decoder alike."""
    found = match(a, b, **how)
    return found, found


@pytest.mark.parametrize("how", METHODS)
def test_the_same_dictionary_in_another_order(how: dict[str, int]) -> None:
    a = random_rows(500, 48, 0)
    order = np.random.default_rng(1).permutation(500)
    for b in (a, a[order], 7 * a[order]):
        found = overlap(*both(a, unit_rows(b), **how), 48)
        assert found.shared_A.all()
        assert found.shared_B.all()
        assert found.pw_mcc == pytest.approx(1.0, abs=1e-6)
        assert found.mmcs_ab == found.mmcs_ba == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(order[match(a, a[order], **how).partner_A], np.arange(500))


def test_a_latent_that_points_the_other_way_is_another_latent() -> None:
    a = random_rows(200, 48, 0)
    b = a * np.where(np.arange(200) < 50, -1, 1)[:, None].astype(np.float32)
    found = overlap(*both(a, b), 48)
    np.testing.assert_array_equal(found.shared_A, np.arange(200) >= 50)


@pytest.mark.parametrize("how", METHODS)
def test_half_of_a_dictionary_is_planted(how: dict[str, int]) -> None:
    a, b = random_rows(600, 64, 0), random_rows(600, 64, 1)
    b[:300] = unit_rows(a[300:] + 0.3 * b[:300])
    found = overlap(*both(a, b, **how), 64)
    np.testing.assert_array_equal(found.shared_A, np.arange(600) >= 300)
    np.testing.assert_array_equal(found.shared_B, np.arange(600) < 300)
    assert found.shared_at(0.99) == 0.0


def test_encoder_and_decoder_must_agree() -> None:
    a = random_rows(100, 48, 0)
    found = overlap(match(a, a), match(a, np.roll(a, 1, axis=0)), 48)
    assert found.same_partner == 0.0
    assert not found.shared_A.any()
    assert found.pw_mcc == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("how", METHODS)
def test_unequal_widths(how: dict[str, int]) -> None:
    b = random_rows(900, 48, 0)
    a = b[np.random.default_rng(1).permutation(900)[:300]]
    for first, second in ((a, b), (b, a)):
        found = overlap(*both(first, second, **how), 48)
        assert found.shared_A.sum() == found.shared_B.sum() == 300
        assert found.shared_at(0.7) == 1.0
        assert found.pw_mcc == pytest.approx(1.0, abs=1e-6)
    assert found.mmcs_ba == pytest.approx(1.0, abs=1e-6)
    assert found.mmcs_ab < 0.75


@pytest.mark.parametrize(("rows", "columns"), [(800, 800), (500, 1100)])
def test_sparse_assignment_is_the_dense_one(rows: int, columns: int) -> None:
    a, b = random_rows(rows, 64, 0), random_rows(columns, 64, 1)
    b[:200] = unit_rows(a[:200] + 0.8 * b[:200])
    cosine = a.astype(np.float64) @ b.T.astype(np.float64)
    best = cosine[linear_sum_assignment(cosine, maximize=True)].mean()
    few, many = (match(a, b, dense=0, candidates=m) for m in (8, 400))
    assert many.unsettled == 0
    for found in (few, many):
        own = cosine[np.arange(rows), found.partner_A]
        np.testing.assert_allclose(found.cosine_A, own, atol=1e-6)
        assert np.unique(found.partner_A).size == rows
        assert own.mean() <= best + 1e-6
        assert best <= found.bound + 1e-6
    assert many.cosine_A.mean() == pytest.approx(best, abs=1e-7)
    assert few.cosine_A.mean() == pytest.approx(best, abs=5e-3)
    dense = match(a, b)
    high = dense.cosine_A > 0.7
    assert high.sum() > 100
    np.testing.assert_array_equal(few.partner_A[high], dense.partner_A[high])


@pytest.mark.parametrize(("candidates", "assigned"), [(8, True), (400, False)])
def test_rows_that_candidates_do_not_settle_are_assigned_from_all_cosines(
    monkeypatch: pytest.MonkeyPatch, candidates: int, assigned: bool
) -> None:
    a, b = random_rows(800, 64, 0), random_rows(800, 64, 1)
    exact, calls = match(a, b), []
    monkeypatch.setattr(assignment, "SMALL", 700)
    real = assignment.linear_sum_assignment
    monkeypatch.setattr(
        assignment, "linear_sum_assignment", lambda *args, **how: calls.append(args) or real(*args, **how)
    )
    found = match(a, b, candidates=candidates)
    assert bool(calls) == assigned
    assert found.unsettled == 0
    np.testing.assert_array_equal(found.partner_A, exact.partner_A)
    for name in ("cosine_A", "best_A", "best_B"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), atol=1e-6)
    assert found.bound == pytest.approx(exact.bound, abs=1e-7)


def test_nearest_rows_over_several_blocks() -> None:
    a, b = random_rows(700, 8, 0), random_rows(9000, 8, 1)
    cosine, found = a @ b.T, nearest_rows(a, b, 20)
    ranked = -np.sort(-cosine, axis=1)
    np.testing.assert_allclose(found.cosine_Am, ranked[:, :20], atol=1e-6)
    np.testing.assert_allclose(found.cutoff_A, ranked[:, 20], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosine, found.index_Am, 1), found.cosine_Am, atol=1e-6)
    np.testing.assert_allclose(found.best_B, cosine.max(axis=0), atol=1e-6)


def test_rows_of_zeros_have_no_direction_and_nan_is_refused() -> None:
    rows = random_rows(40, 8, 0)
    rows[3] = 0.0
    assert match(rows, rows, dense=0, candidates=8).cosine_A[3] == 0.0
    rows[4, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        unit_rows(rows)


@pytest.mark.parametrize(("rows", "columns", "d"), [(600, 600, 32), (400, 800, 64), (700, 700, 256)])
def test_random_dictionaries_give_the_analytic_baseline(rows: int, columns: int, d: int) -> None:
    found = [overlap(*both(random_rows(rows, d, s), random_rows(columns, d, s + 50)), d) for s in range(4)]
    chance = random_overlap((rows, columns), d)
    assert np.mean([it.mmcs_ab for it in found]) == pytest.approx(chance.mmcs_ab, abs=0.004)
    assert np.mean([it.mmcs_ba for it in found]) == pytest.approx(chance.mmcs_ba, abs=0.004)
    assert np.mean([it.pw_mcc for it in found]) == pytest.approx(chance.pw_mcc, abs=0.006)
    assert np.mean([it.shared_A.mean() for it in found]) <= chance.shared + 0.01


def test_closed_forms_in_few_dimensions() -> None:
    # on the circle the angle is uniform: E max of one cosine is 0; in three dimensions the cosine is uniform
    assert expected_best_cosine(1, 2) == pytest.approx(0.0, abs=1e-8)
    assert expected_best_cosine(9, 3) == pytest.approx(1 - 2 / 10, abs=1e-8)
    assert share_reaching(0.7, 1, 3) == pytest.approx(0.15)
    assert expected_matched_cosine(1, 5000, 64) == pytest.approx(expected_best_cosine(5000, 64), abs=2e-3)


def test_strata() -> None:
    np.testing.assert_array_equal(strata(np.array([0, 5e-5, 1e-4, 5e-3, 0.01, 0.9])), [0, 1, 2, 3, 4, 4])


def test_difference_of_means() -> None:
    rng = np.random.default_rng(0)
    stratum = np.arange(4000) % 2
    first = rng.random(4000) < np.where(stratum == 1, 0.9, 0.1)
    value = stratum + rng.normal(0, 0.1, 4000)  # all of the difference is the stratum's
    plain, matched = mean_difference(value, first), mean_difference(value, first, stratum_F=stratum)
    assert plain is not None
    assert matched is not None
    assert plain[0] == pytest.approx(value[first].mean() - value[~first].mean())
    assert plain[1] > 0.7
    assert matched[1] < 0 < matched[2]
    assert mean_difference(value, np.arange(4000) < 3) is None


def test_parts_of_modularity_add_up() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 30, 200), rng.integers(30, 60, 200)
    weight, label = rng.random(200), rng.integers(0, 4, 60)
    parts = modularity_shares(source, target, weight, label, 1.3)
    assert parts.sum() == pytest.approx(modularity(source, target, weight, label, 1.3))
