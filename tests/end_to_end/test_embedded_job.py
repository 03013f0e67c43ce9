"""The default job on the embedded model: its SAEs fit, and the numbers are those of real features."""

import json
import sys

import pytest

from saescope.cli.main import main
from saescope.runfolder.run import open_run

SMALL = [
    "tracking=disabled",
    "metrics=quick",
    "probes.max_tokens_per_task=2500",
    "metrics.min_count=20",
    "hydra.run.dir=run",
]


def run(monkeypatch, tmp_path, *args):
    monkeypatch.setattr(sys, "argv", ["saescope", *SMALL, *args])
    assert main() == 0
    return json.loads((tmp_path / "run" / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    "args", [["hookpoint.layer=2"], ["hookpoint.layer=3"], ["hookpoint=mlp", "hookpoint.layer=3"]]
)
def test_packaged_saes_explain_their_hookpoint(monkeypatch, tmp_path, args):
    metrics = run(monkeypatch, tmp_path, *args, "metrics.lm_tokens=0")
    assert metrics["features/num_latents"] == 1024
    assert metrics["sae/fvu"] < 0.3
    assert metrics["si/significant_frac"] > 0.5
    assert metrics["si/excess"] > 0.05
    assert metrics["q/null_edges"] <= 0.01 * metrics["q/n_edges"]  # the edge rule's own FDR
    assert metrics["q/excess"] > 0.05
    job = open_run(tmp_path / "run")
    for edges, key in ((job.edges, "edges"), (job.edges_within_token, "within_token_edges")):
        assert list(edges.columns) == ["source", "target", "joint", "pmi", "p", "rank_tail"]
        assert len(edges) > 100
        assert edges["p"].between(0, 1).all()
        assert (edges["p"] > edges["rank_tail"]).mean() > 0.9  # documents are fewer than tokens
        assert metrics[f"q/{key}_by_document_frac"] == (edges["p"] <= 0.05).mean() > 0.2


def test_spliced_loss_recovers_most_of_zero_ablation(monkeypatch, tmp_path):
    metrics = run(monkeypatch, tmp_path)
    assert metrics["lm/ce_score"] > 0.8
    assert metrics["lm/ce"] < metrics["lm/ce_spliced"] < metrics["lm/ce_mean"]
    assert 0 < metrics["lm/kl"] < 1


@pytest.mark.slow
def test_smaller_k_is_read_from_the_same_sae(monkeypatch, tmp_path):
    metrics = run(monkeypatch, tmp_path, "sae.k=4", "metrics.lm_tokens=0")
    assert metrics["sae/l0"] == pytest.approx(4, abs=0.01)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert any("trained at k=16" in w for w in status["warnings"])


@pytest.mark.slow
def test_the_whole_default_job_with_a_real_loss_budget(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["saescope", "tracking=offline", "hydra.run.dir=run"])
    assert main() == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    notes = json.loads((tmp_path / "run" / "status.json").read_text())["notes"]
    absent = [key for key, value in metrics.items() if value is None]
    assert {notes[key] for key in absent} == {"not asked for in metrics.within"}
    assert metrics["q/null_edges"] <= 3
    assert metrics["q/naive"] > 0.8  # what the usual recipe prints whatever the data
    assert metrics["si/null_mean"] < 0.02
