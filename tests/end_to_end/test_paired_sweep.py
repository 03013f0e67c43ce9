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
    assert resamples.scheme.value_counts().to_dict() == {"bootstrap": 40, "groups": 6}
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


@pytest.mark.slow
def test_jobs_with_and_without_causal(monkeypatch, tmp_path):
    """What ablation measures is paired between the jobs that measured it, and with no others."""
    monkeypatch.chdir(tmp_path)
    causal = [
        "causal.tokens=1500",
        "causal.draws=20",
        "causal.attribution_tokens=600",
        "causal.bootstraps=30",
    ]
    axes = ["sae=hub,random", "causal=none,ablate", "sae.k=8", "sae.num_latents=1024", "hydra.sweep.dir=out"]
    monkeypatch.setattr(sys, "argv", ["saescope", "-m", *QUICK, *causal, *axes])
    assert main() == 0
    status = {n: json.loads((tmp_path / "out" / str(n) / "metrics.json").read_text()) for n in range(4)}
    ablated = [n for n, metrics in status.items() if "causal/selectivity" in metrics]
    assert len(ablated) == 2
    table = pd.read_csv(tmp_path / "out" / "differences.csv")
    for key in ("causal/selectivity", "causal/ratio", "causal/own_ce", "causal/excess"):
        rows = table[(table.metric == key) & ~table.job_a.astype(str).str.contains(" ")]
        assert {frozenset(map(int, pair)) for pair in rows[["job_a", "job_b"]].to_numpy()} == {
            frozenset(ablated)
        }, key
        assert set(rows.documents) == {"paired"}
        assert (rows.paired_high > rows.paired_low).all()
    assert (table.metric == "si/mean").sum() >= 6
    (trained,) = (n for n in ablated if (tmp_path / "out" / str(n) / "beside_controls.json").exists())
    sentences = json.loads((tmp_path / "out" / str(trained) / "beside_controls.json").read_text())
    assert "Causal selectivity is " in sentences[0]
    assert "unpaired" not in sentences[0].partition("Causal selectivity")[2].partition(";")[0]
