"""Task masks on networks whose answer is known."""

import numpy as np
import pytest

from saescope.dynamic_k.transfer import measure_transfer, own_and_others, transfer_section

from .planted import circles, grouped, own_texts, studied, unstructured


@pytest.mark.parametrize("tasks", [2, 4])
def test_masks_of_separate_parts_lose_nothing_at_home_and_everything_abroad(tasks):
    lm = grouped(groups=tasks, tokens=32 // tasks, neurons=32 // tasks, shared=False)
    windows = circles([[task] for task in range(tasks)], tokens=32 // tasks, documents=24)
    neurons, evaluation, tokens_D = studied(lm, windows, 1 / tasks)
    transfer = measure_transfer(
        neurons, tokens_D, evaluation, 1 / tasks, permutations=19, resamples=50, seed=0
    )
    own, home = transfer.delta["own"], np.eye(tasks, dtype=bool)
    assert (own[home] == 0.0).all()
    # without the MLP every token is as likely as any other
    assert own[~home] == pytest.approx(np.log(32), rel=1e-3)
    assert transfer.gain == pytest.approx(np.log(32), rel=1e-3)
    assert transfer.gain_interval == pytest.approx((transfer.gain, transfer.gain))
    np.testing.assert_allclose(transfer.delta["si"], own, atol=1e-3)  # each neuron is a specialist
    assert transfer.over_generic > 1
    # of two tasks, shuffled labels often leave a majority that is enough to find the right half
    assert transfer.p <= {2: 0.3, 4: 0.05}[tasks]
    assert transfer.null_P.mean() < 0.5 * transfer.gain
    if tasks == 4:  # at the floor of 19 permutations: no exact p
        assert "p ≤ 1/20)" in " ".join(transfer_section(transfer, ("a", "b", "c", "d"), 0.25)["sentences"])


@pytest.mark.slow
def test_the_permutation_null_swallows_tasks_that_differ_in_name_only():
    ps, gains = [], []
    for seed in range(6):
        lm = unstructured(seed=seed)
        neurons, evaluation, tokens_D = studied(lm, own_texts(lm, 20, seed=seed), 0.5)
        transfer = measure_transfer(
            neurons, tokens_D, evaluation, 0.5, permutations=19, resamples=20, seed=seed
        )
        ps.append(transfer.p)
        gains.append(abs(transfer.gain) / transfer.delta["generic"].mean())
    assert np.mean(ps) > 0.25
    assert sum(p <= 0.05 for p in ps) <= 1
    assert max(gains) < 0.1


def test_own_and_the_mean_of_the_others():
    own, others = own_and_others(np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 7.0]]), np.array([0, 2]))
    assert own.tolist() == [1.0, 7.0]
    assert others.tolist() == [3.5, 3.5]
