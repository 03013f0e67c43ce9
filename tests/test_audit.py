"""The audit's own functions: a perfect metric passes, noise and the wrong thing fail; the page says so."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from saescope import metrics
from saescope.report import audit as on_page

AUDIT = Path(__file__).parents[1] / "scripts" / "audit"


@pytest.fixture(scope="module")
def audit_scripts():
    sys.path.insert(0, str(AUDIT))
    try:
        import judge
        import world

        yield judge, world
    finally:
        sys.path.remove(str(AUDIT))
        for name in ("judge", "world"):
            sys.modules.pop(name, None)


def measured(judge, value, noise=0.01, seed=0):
    """A metric that is `value(tasks, modules, words, trained share)` and noise."""
    rng = np.random.default_rng(seed)

    def draw(tasks=1.5, modules=2.0, words=1.0, stage=1.0):
        return float(value(tasks, modules, words, stage) + noise * rng.standard_normal())

    strengths = {"tasks": (0.0, 0.75, 1.5, 2.5), "modules": (0.0, 1.0, 2.0, 3.0), "words": (0.25, 1.0, 2.0)}
    axes = {axis: [(s, draw(**{axis: s})) for s in values] for axis, values in strengths.items()}
    truth = [(s, v) for s, v in axes["tasks"]]
    seeds = [draw() for _ in range(5)]
    stages = {stage: [draw(stage=stage) for _ in range(5)] for stage in (0.0, 0.01, 0.1, 1.0)}
    return judge.Measured(axes, truth, seeds, stages)


def test_a_perfect_metric_passes(audit_scripts):
    judge, _ = audit_scripts
    verdict = judge.judge("tasks", measured(judge, lambda tasks, modules, words, stage: stage * tasks))
    assert verdict.failures == []
    assert verdict.quotable == judge.AXIS_WORDS["tasks"]
    assert verdict.rank == 1.0
    assert verdict.slope == pytest.approx(1.0, abs=0.05)
    assert verdict.effect == pytest.approx(2.5, abs=0.05)
    assert verdict.training == pytest.approx(1.5, abs=0.05)


def test_noise_fails(audit_scripts):
    judge, _ = audit_scripts
    for seed in range(20):
        verdict = judge.judge("tasks", measured(judge, lambda *_: 0.3, seed=seed))
        assert not verdict.follows
        assert verdict.quotable == ""
        assert any("does not follow" in failure for failure in verdict.failures)
        assert not verdict.learns


def test_a_metric_of_something_else_fails(audit_scripts):
    judge, _ = audit_scripts
    words = judge.judge("tasks", measured(judge, lambda tasks, modules, words, stage: words))
    assert not words.follows
    assert not words.specific
    assert not words.learns  # an untrained SAE has it too
    assert words.other[0] == "words"
    both = judge.judge("tasks", measured(judge, lambda tasks, modules, words, stage: stage * (tasks + words)))
    assert both.follows
    assert both.failures == [f"is moved as much by {judge.AXIS_WORDS['words']}"]
    assert both.quotable.endswith("together")
    backwards = judge.judge("tasks", measured(judge, lambda tasks, *_: -tasks))
    assert not backwards.follows


def test_detectable_difference_by_hand(audit_scripts):
    judge, _ = audit_scripts
    # sd 1 with two degrees of freedom: t 4.3027 and 1.0607
    assert judge.detectable_difference([-1.0, 0.0, 1.0], 1) == pytest.approx((4.3027 + 1.0607) * 2**0.5, 1e-4)
    assert judge.detectable_difference([-1.0, 0.0, 1.0], 2) == pytest.approx(4.3027 + 1.0607, 1e-4)
    with pytest.raises(ValueError, match="seeds"):
        judge.judge("tasks", judge.Measured({"tasks": [(0, 1)]}, [(0, 1)], [1.0], {0.0: [1.0]}))


def test_it_is_seen_in_simulation(audit_scripts):
    """Two settings that differ by the detectable difference: significant in four of five."""
    judge, _ = audit_scripts
    rng = np.random.default_rng(0)
    difference = judge.detectable_difference(rng.standard_normal(2000), 5)
    from scipy import stats

    p = stats.ttest_ind(rng.standard_normal((5, 4000)), difference + rng.standard_normal((5, 4000))).pvalue
    assert 0.65 < (p <= 0.05).mean() < 0.82  # with its own five seeds behind the standard deviation


def test_what_is_planted_is_there(audit_scripts):
    """Strengths do what they say, and leave the mean rate alone."""
    _, world = audit_scripts
    rates, together, preference = [], [], []
    for strengths in (world.Strengths(0.0, 0.0), world.Strengths(0.0, 3.0), world.Strengths(2.0, 0.0)):
        truth = world.features(strengths, seed=0)
        text = world.text(truth, strengths, 60, 120, seed=1)
        active = (text.active_NF[:, world.LEXICAL :] > 0).astype(float).toarray()
        rates.append(active.sum(1).mean())
        module = truth.module_F[world.LEXICAL :]
        per_module = np.stack([active[:, module == m].sum(1) for m in range(world.MODULES)], 1)
        together.append(per_module.var(0).sum() / per_module.mean(0).sum())
        own = text.task_D[text.doc_N][:, None] == truth.task_F[world.LEXICAL :]
        preference.append(active[own].mean() / active[~own].mean())
    assert np.ptp(rates) < 0.15 * np.mean(rates)
    assert together[1] > 1.3 * together[0]
    assert preference[0] == pytest.approx(1.0, abs=0.1)
    assert preference[2] == pytest.approx(np.exp(2.0), rel=0.15)
    assert np.linalg.norm(truth.directions_FD, axis=1) == pytest.approx(1.0)


def test_the_page_says_what_fails(monkeypatch, tmp_path):
    path = tmp_path / "audit.json"
    verdicts = {"si/mean": {"failures": ["a", "b"]}, "q/excess": {"failures": []}}
    path.write_text(json.dumps({"metrics": verdicts}))
    monkeypatch.setattr(on_page, "AUDIT", path)
    on_page._verdicts.cache_clear()
    assert on_page.caution("si/mean") == "Fails the audit: a; b."
    assert on_page.caution("q/excess") == on_page.caution("sae/fvu") == ""
    on_page._verdicts.cache_clear()


def test_the_packaged_verdicts_are_of_known_metrics(audit_scripts):
    judge, _ = audit_scripts
    verdicts = json.loads(on_page.AUDIT.read_text(encoding="utf-8"))["metrics"]
    assert {"si/mean", "si/mutual_info", "si/beyond_token_mean", "q/modularity"} <= set(verdicts)
    assert set(verdicts) <= set(judge.CLAIMS)
    assert all(metrics.metric(key) for key in verdicts)
