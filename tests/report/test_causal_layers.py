"""The section on several hookpoints: how far they add up, in sentences and a figure."""

import json

import pandas as pd
import pytest

from saescope.report.causal_layers import causal_layers, layers_matrix
from saescope.report.figures import draw_figures
from saescope.report.page import write_report
from saescope.runfolder.run import read_run

from .report_folder import EVIL, write_run

TASKS = ["code", "ma$h", EVIL]
RISE = {"layers.1": 0.31, "layers.3": 0.22, "together": 0.43}
"""On the own task; a thirtieth of it elsewhere."""
VALUES = {
    "causal/layers_selectivity": 0.91, "causal/layers_selectivity_ci_low": 0.88,
    "causal/layers_selectivity_ci_high": 0.93, "causal/layers_selectivity_alone": 0.84,
    "causal/layers_own_ce": 0.43, "causal/layers_others_ce": 0.0143, "causal/layers_own_worst": 2 / 3,
    "causal/layers_excess": 0.39, "causal/layers_additivity": 0.812,
    "causal/layers_additivity_ci_low": 0.77, "causal/layers_additivity_ci_high": 0.85,
    "causal/layers_additivity_others": 0.66, "causal/layers_additivity_matched": 1.05,
}  # fmt: skip


def table(tasks=TASKS) -> pd.DataFrame:
    rows = []
    for hookpoint, rise in RISE.items():
        for kind in ("own", "matched"):
            for s, chosen in enumerate(tasks):
                for t, task in enumerate(tasks):
                    ce = (rise if s == t else rise / 30) if kind == "own" else 0.02
                    rows.append(
                        {
                            "hookpoint": hookpoint, "set": kind, "draw": 0, "set_task": chosen, "task": task,
                            "num_latents": 20, "ce_delta": ce, "ce_delta_lo": ce, "ce_delta_hi": ce, "kl": ce,
                            "tokens": 600, "firings": 50, "removed_norm": 7.0, "latents": None,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run", latents=256, supported=60)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | VALUES))
    table().to_parquet(folder / "causal_layers.parquet")
    return read_run(folder)


def test_sentences(run):
    text = " ".join(causal_layers(run))
    for part in (
        "2 hookpoints (layers.1, layers.3)", "0.430 nats", "2 of 3 tasks", "0.910 (95 % CI 0.880–0.930)",
        "0.840 in the mean", "0.390 less", "0.812 (95 % CI 0.770–0.850) times", "0.660 times",
        "1.05 times on the own task", "up; 0.500: they do the same",
    ):  # fmt: skip
        assert part in text, part


def test_without_additivity_it_is_not_spoken_of(run):
    metrics = {**run.metrics, "causal/layers_additivity": None}
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    assert "add up" not in " ".join(causal_layers(read_run(run.path)))


def test_the_figure_has_every_hookpoint_their_sum_and_no_markup(run):
    svg = draw_figures(run)["causal_layers"].svg
    for part in ("layers.1", "layers.3", "sum of these", "all together", ".53", ".43", ".02"):
        assert part in svg, part
    assert "script>alert" not in svg
    page = write_report(run.path).read_text()
    assert "Do the layers add up?" in page
    assert EVIL not in page


def test_a_run_without_the_part_has_no_section(tmp_path):
    run = read_run(write_run(tmp_path / "run", latents=256, supported=60))
    assert causal_layers(run) == ()
    assert layers_matrix(run) is None
    assert "Do the layers" not in write_report(run.path).read_text()
