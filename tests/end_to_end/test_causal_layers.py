"""Whole jobs with `causal.layers`: with SAEs that exist, and with SAEs trained by the job."""

import json

import pandas as pd
import pytest

import saescope
from saescope.errors import SaescopeError
from saescope.metrics import keys

SMALL = (
    "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20", "metrics.lm_tokens=0",
    "probes.max_tokens_per_task=1500", "runtime.dtype=float32", "tracking=disabled", "causal=ablate",
    "causal.tokens=300", "causal.draw_tokens=64", "causal.draws=20", "causal.ablated_draws=1",
    "causal.bootstraps=20", "causal.attribution_tokens=300", "metrics.min_count=20", "metrics.min_docs=4",
)  # fmt: skip


def check(run, hookpoints):
    assert set(keys("causal.layers")) <= set(run.metrics)
    assert run.metrics["causal/layers_additivity"] > 0.2
    table = run.causal_layers
    assert list(dict.fromkeys(table["hookpoint"])) == [*hookpoints, "together"]
    # of the job's own hookpoint they are the very sets and numbers of causal.parquet
    own = table[(table["set"] == "own") & (table["hookpoint"] == hookpoints[0])]
    plain = run.causal[(run.causal["set"] == "own") & (run.causal["size"] == 0.1)]
    pd.testing.assert_series_equal(
        own["kl"].reset_index(drop=True), plain["kl"].reset_index(drop=True), atol=1e-5, rtol=1e-3
    )
    assert "Do the layers add up?" in (run.path / "report.html").read_text()
    assert any(record.part == "ablation of layers" for record in run.left_out)


@pytest.mark.slow
def test_of_a_repository(tmp_path):
    run = saescope.run(*SMALL, "hookpoint.layer=2", "causal.layers=[3]", folder=tmp_path / "run")
    check(run, ["layers.2", "layers.3"])
    with pytest.raises(SaescopeError, match=r"no SAE for layers\.1"):
        saescope.run(*SMALL, "hookpoint.layer=2", "causal.layers=[1]", folder=tmp_path / "other")


@pytest.mark.slow
def test_trained_by_the_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ("sae=train", "sae.tokens=20000", "sae.k=8", "sae.expansion_factor=2", "corpus.holdout_tokens=0")
    run = saescope.run(*SMALL, *train, "hookpoint.layer=1", "causal.layers=[2]", folder=tmp_path / "run")
    check(run, ["layers.1", "layers.2"])
    saved = sorted(path.name for path in (run.path / "sae").iterdir())
    assert saved == ["layers.1", "layers.2"]
    alone = saescope.run(*SMALL, *train, "hookpoint.layer=1", folder=tmp_path / "alone")
    # the curves are those of the job's own SAE, which was not trained a second time
    assert (run.path / "history.csv").read_text() == (alone.path / "history.csv").read_text()
    assert "causal/layers_ratio" not in json.loads((alone.path / "metrics.json").read_text())
