"""`saescope dynamic_k=mlp` on a random model of four layers: table, metrics, errors."""

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest

from saescope.cli import main as cli
from saescope.dynamic_k.part import COLUMNS
from saescope.metrics import keys

SPECIFIED = (
    "target, selector, score, granularity, phase, impl, k, realised_k, tokens, ce, ppl, ce_delta, "
    "ce_delta_lo, ce_delta_hi, kl, top1_agree, mlp_flops_frac, total_flops_frac, weight_bytes_frac, "
    "saving, tokens_per_s, "
    "speedup, task, seed"
)


@pytest.fixture
def saescope(monkeypatch, capsys, model_folder, sae_folder, probes):
    def run(*overrides):
        here = [
            "model=local", f"model.name={model_folder}", "hookpoint.layer=2", f"sae.repo={sae_folder}",
            "probes=folder", f"probes.path={probes}", "probes.ctx_len=64",
            "metrics=quick", "metrics.lm_tokens=0",
            "runtime=cpu", "runtime.dtype=float32",
            "tracking=disabled", "hydra.run.dir=run",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["saescope", *here, *overrides])
        code = cli.main()
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


SMALL = (
    "dynamic_k.tokens=600", "dynamic_k.calibration_tokens=600",
    "dynamic_k.bootstraps=50", "dynamic_k.rounds=2",
    "dynamic_k.prompt_tokens=16", "dynamic_k.new_tokens=4", "dynamic_k.structure=false",
)  # fmt: skip


def test_job(saescope, tmp_path):
    code, _, err = saescope("dynamic_k=mlp", *SMALL)
    assert code == 0, err
    run = tmp_path / "run"
    table = pd.read_csv(run / "dynamic_k.csv")
    assert list(table.columns) == COLUMNS == [*SPECIFIED.split(", "), "fvu"]
    assert set(table.target) == {"mlp"}
    assert set(table.seed) == {0}
    quality = table[table.ce.notna()]
    pooled = quality[quality.task == "all"]
    # k = 1 is the untouched model, to the bit
    full = quality[quality.k == 1]
    assert (full.ce_delta == 0).all()
    assert (full.kl.abs() < 1e-6).all()
    assert (full.top1_agree == 1).all()
    np.testing.assert_allclose(quality.ppl, np.exp(quality.ce))
    assert ((pooled.ce_delta_lo <= pooled.ce_delta) & (pooled.ce_delta <= pooled.ce_delta_hi)).all()
    topk = pooled[pooled.selector == "topk"]
    np.testing.assert_allclose(topk.realised_k, (topk.k * 64).round() / 64)
    rest = pooled[pooled.selector != "topk"]
    np.testing.assert_allclose(rest.realised_k, rest.k, atol=0.03)
    # tasks add up to the whole
    one = quality[
        (quality.selector == "topk") & (quality.score == "abs_act") & (quality.granularity == "task")
    ]
    one = one[(one.k == 0.3) & (one.impl == "mask")]
    parts, whole = one[one.task != "all"], one[one.task == "all"].iloc[0]
    assert len(parts) == 3
    assert parts.tokens.sum() == whole.tokens
    assert (parts.ce * parts.tokens).sum() / whole.tokens == pytest.approx(whole.ce)
    # generation scores the second halves
    assert set(pooled[pooled.granularity == "sequence"].phase) == {"generation"}
    assert (
        pooled[pooled.phase == "generation"].tokens.max() < 0.6 * pooled[pooled.phase == "all"].tokens.max()
    )
    # cost: the up-projection is half of this MLP, and token selectors compute it
    gather = pooled[pooled.impl == "gather"]
    np.testing.assert_allclose(gather.mlp_flops_frac, 0.5 + gather.realised_k / 2)
    for impl in ("mask", "sliced"):
        rows = pooled[pooled.impl == impl]
        np.testing.assert_allclose(rows.mlp_flops_frac, rows.realised_k)
    assert dict(pooled.groupby("impl").saving.unique().explode()) == {
        "gather": "realised", "mask": "oracle", "sliced": "realised",
    }  # fmt: skip
    # only implementations that do less work are timed, next to dense and its control
    timed = table[table.tokens_per_s.notna()]
    assert set(timed.impl) == {"dense", "dense_control", "gather", "sliced"}
    assert set(timed.phase) == {"prefill_b1", "prefill_b8", "decode_b1", "decode_b8"}
    assert len(timed) == 4 * (2 + 2 * 6)
    assert timed.ce.isna().all()
    assert (timed[timed.impl == "dense"].speedup == 1).all()

    metrics = json.loads((run / "metrics.json").read_text())
    status = json.loads((run / "status.json").read_text())
    assert {key for key in metrics if key.startswith("dynk/")} == set(keys("dynk.mlp"))
    assert {key for key in keys("dynk.mlp") if metrics[key] is None} <= set(status["notes"])
    head = pooled[(pooled.selector == "topk") & (pooled.score == "abs_act") & (pooled.granularity == "token")]
    head = head[head.impl == "gather"].set_index("k")
    allowed = head[head.ce_delta <= math.log(1.05)].index
    tail = next(k for k in sorted(head.index) if all(j in allowed for j in head.index if j >= k))
    assert metrics["dynk/k_at_ppl_5pct"] == tail
    assert metrics["dynk/k"] == 0.3
    assert metrics["dynk/ce_delta"] == pytest.approx(head.ce_delta[0.3])
    assert metrics["dynk/flops_saved_at_ppl_1pct"] == pytest.approx(
        1 - head.total_flops_frac[metrics["dynk/k_at_ppl_1pct"]]
    )
    assert "Dynamic k" in (run / "report.html").read_text()


def test_keys_of_parts_that_did_not_run_are_absent(saescope, tmp_path):
    code, _, err = saescope()
    assert code == 0, err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    notes = json.loads((tmp_path / "run" / "status.json").read_text())["notes"]
    assert [key for key in (*metrics, *notes) if key.startswith("dynk/")] == []
    assert "dynk/" not in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "dynamic_k.csv").exists()
    assert 'id="dynamic-k"' not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["dynamic_k.k=0"], ["dynamic_k.k=0 ", "(0, 1]|above 0"]),
        (["dynamic_k.k=1.5"], ["dynamic_k.k=1.5", "at most 1"]),
        (["dynamic_k.k=[]"], ["empty", "[0.3,0.5,1.0]"]),
        (["dynamic_k.k=[0.3,-1]"], ["dynamic_k.k=-1"]),
        (["dynamic_k.k=half"], ["a number"]),
        (["dynamic_k.k=true"], ["list"]),
        (["dynamic_k.selectors=[top]"], ["did you mean", "topk"]),
        (["dynamic_k.scores=[]"], ["empty", "abs_act"]),
        (["dynamic_k.layers=[9]"], ["layers 0–3"]),
        (["dynamic_k.prompt_tokens=500"], ["context of 128"]),
        (["dynamic_k.compensation=median"], ["none, mean"]),
    ],
)
def test_mistakes_are_one_line(saescope, overrides, says):
    code, _, err = saescope("dynamic_k=mlp", *overrides)
    said = [line for line in err.splitlines() if line.startswith("saescope:")]
    assert code == 1
    assert len(said) == 1
    assert all(any(option in said[0] for option in words.split("|")) for words in says), said
