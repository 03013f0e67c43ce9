"""Figures and sentences of single latents and communities, from run folders with given numbers."""

import json

import numpy as np
import pandas as pd
import pytest

from saescope.report.causal_modules import causal_effects, causal_si, modules
from saescope.report.figures import draw_figures
from saescope.report.page import write_report
from saescope.runfolder.run import read_run

from .report_folder import EVIL, write_run

TASKS = ["code", "ma$h", EVIL]
VALUES = {
    "causal/scored": 40, "causal/si_rank_corr": 0.61, "causal/si_rank_corr_ci_low": 0.52,
    "causal/si_rank_corr_ci_high": 0.69, "causal/si_rank_corr_given_firing": 0.07,
    "causal/beyond_rank_corr": 0.33, "causal/attribution_r": 0.91, "causal/attribution_ratio": 1.2,
    "causal/attribution_ratio_high": 3.4, "causal/module_selectivity": 0.71, "causal/module_excess": 0.12,
    "causal/module_excess_ci_low": -0.05, "causal/module_excess_ci_high": 0.18,
    "causal/module_excess_decoder": -0.02, "causal/module_p": 1 / 101, "causal/module_synergy": 1.7,
    "causal/module_attribution_r": 0.88,
}  # fmt: skip


def table() -> pd.DataFrame:
    rows = [
        {
            "partition": partition, "kind": kind, "module": number, "latents": 20, "task": task,
            "own": s == t, "ce": 0.3 * (s == t) + 0.001 * number, "kl": 0.1, "attributed": 0.1,
        }
        for partition in ("community", "community_within_token")
        for kind in ("module", "random", "decoder")
        for s, number in enumerate((4, 9))
        for t, task in enumerate(TASKS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def folder(tmp_path):
    folder = write_run(tmp_path / "run", latents=256, supported=60)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | VALUES))
    features = pd.read_parquet(folder / "features.parquet")
    rng = np.random.default_rng(0)
    scored = np.arange(256) < 40
    features["causal_si"] = np.where(scored, rng.random(256), np.nan)
    features["causal_p"] = np.where(scored, rng.random(256) / 10, np.nan)
    features["causal_own"] = features["causal_si"]
    features.to_parquet(folder / "features.parquet")
    table().to_parquet(folder / "causal_modules.parquet")
    return folder


def change(folder, **values):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics |= {f"causal/{name}": value for name, value in values.items()}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return read_run(folder)


def test_sentences(folder):
    text = " ".join(causal_effects(read_run(folder)))
    for part in (
        "40 latents", "0.610 (95 % CI 0.520–0.690)", "0.0700 is left",
        "0.910: it ranks latents as ablation does", "1.20 times", "3.40 times", "0.710 (0.5",
        "0.120 above random sets", "p ≤ 1/101", "0.0200 below sets of like", "1.70 times the sum",
    ):  # fmt: skip
        assert part in text, part
    assert "Communities within token ids" not in text


@pytest.mark.parametrize(("r", "judgement"), [(0.6, "only roughly"), (0.1, "do not read single latents")])
def test_the_page_says_how_far_to_trust(folder, r, judgement):
    text = " ".join(causal_effects(change(folder, attribution_r=r)))
    assert judgement in text


def test_what_is_not_known_is_not_said(folder):
    missing = dict.fromkeys(name.removeprefix("causal/") for name in VALUES if name != "causal/scored")
    assert causal_effects(change(folder, **missing)) == ()
    write_report(folder)


def test_figures(folder):
    run = read_run(folder)
    drawings = draw_figures(run)
    assert {"causal_si", "causal_modules"} <= set(drawings)
    assert "40 latents" in drawings["causal_si"].caption
    svg = drawings["causal_modules"].svg
    for part in ("4  (20)", "9  (20)", "random sets, mean", "like decoders, mean", "+0.304", "+0.309"):
        assert part in svg, part
    assert svg.count("+0.304") == 1  # one partition, not both
    page = write_report(folder).read_text()
    assert "What single latents and communities do" in page
    assert EVIL not in page


def test_a_run_without_the_part_has_no_section(tmp_path):
    run = read_run(write_run(tmp_path / "run", latents=256, supported=60))
    assert causal_effects(run) == ()
    assert causal_si(run) is modules(run) is None
    assert "What single latents" not in write_report(run.path).read_text()
