"""Jobs of a sweep leave their resamples, and the sweep compares them in pairs."""

import json
import sys

import pandas as pd
import pytest

from saescope.cli.main import main

QUICK = [
    "tracking=disabled", "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=40",
    "metrics.lm_tokens=1200", "probes.max_tokens_per_task=1500", "metrics.min_count=20",
    "runtime.dtype=float32",
]  # fmt: skip


@pytest.mark.slow
def test_three_embedded_jobs_and_their_control(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    axes = ["sae=hub,random", "sae.k=8,16", "sae.num_latents=1024", "hydra.sweep.dir=out"]
    monkeypatch.setattr(sys, "argv", ["saescope", "-m", *QUICK, *axes])
    assert main() == 0
    resamples = pd.read_parquet(tmp_path / "out" / "0" / "resamples.parquet")
    assert resamples.scheme.value_counts().to_dict() == {"bootstrap": 40, "groups": 8}
    expected = {"si/mean", "si/mutual_info", "q/modularity", "si/beyond_token_mean", "si/beyond_bigram_mean",
                "sae/fvu", "lm/ce_delta", "lm/ce_score", "lm/kl", "lm/kl_score"}  # fmt: skip
    assert set(resamples.columns) == {"scheme", "draw", *expected}
    metrics = json.loads((tmp_path / "out" / "0" / "metrics.json").read_text())
    for key in expected:
        draws = resamples[key].dropna()
        assert abs(draws.mean() - metrics[key]) < max(0.05 * abs(metrics[key]), 4 * draws.std() + 0.02), key
    table = pd.read_csv(tmp_path / "out" / "differences.csv")
    assert list(table)[:9] == ["job_a", "job_b", "group", "metric", "value_a", "value_b", "difference",
                               "paired_low", "paired_high"]  # fmt: skip
    single = table[~table.job_a.astype(str).str.contains(" ")]
    assert (single.metric == "si/mean").sum() == 6
    assert expected <= set(table.metric)
    assert set(table[table.metric.isin(expected)].documents) == {"paired"}
    assert (table.minimum_detectable_difference >= 0).all()
    sentences = json.loads((tmp_path / "out" / "0" / "beside_controls.json").read_text())
    assert sentences[0].startswith("Beside random SAE: SI by rate is ")
    page = (tmp_path / "out" / "0" / "report.html").read_text()
    assert sentences[0] in page
    assert page.index("what one firing tells") < page.index("Beside random SAE") < page.index("Beyond words")
