"""The causal section: the matrix beside its null, bars, and the latents of each task."""

import json

import numpy as np
import pandas as pd
import pytest

from saescope.report.causal import causal, matrix, read, tasks_hurt
from saescope.report.figures import draw_figures
from saescope.report.page import write_report
from saescope.runfolder.run import read_run

from .report_folder import EVIL, write_run

TASKS = ["code", "ma$h", EVIL]


def table(size=0.1, tasks=TASKS) -> pd.DataFrame:
    rows = []
    for kind, draw, sizes in (
        ("own", 0, (0.05, size, 0.2)),
        ("matched", 0, (size,)),
        ("matched", 1, (size,)),
    ):
        for at in sizes:
            for s, chosen in enumerate(tasks):
                for t, task in enumerate(tasks):
                    ce = {"own": (0.4 + 0.1 * s) * (s == t) + 0.01 * t, "matched": 0.02 + 0.02 * draw}[kind]
                    rows.append(
                        {
                            "set": kind, "draw": draw, "size": at, "set_task": chosen, "task": task,
                            "num_latents": 20, "mass_share": 0.1, "ce_delta": ce, "ce_delta_lo": ce - 0.01,
                            "ce_delta_hi": ce + 0.02, "kl": ce, "tokens": 600, "firings": 50,
                            "removed_norm": 7.0, "latents": list(range(s, s + 20)) if s == t else None,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


VALUES = {
    "causal/selectivity": 0.98, "causal/selectivity_ci_low": 0.95, "causal/selectivity_ci_high": 0.99,
    "causal/own_ce": 0.51, "causal/own_ce_ci_low": 0.45, "causal/own_ce_ci_high": 0.58,
    "causal/others_ce": 0.01, "causal/excess": 0.47, "causal/ratio": 41.0,
    "causal/ratio_ci_low": 30.0, "causal/ratio_ci_high": 55.0, "causal/ratio_matched": 1.1,
    "causal/p": 1 / 51, "causal/draws": 50, "causal/ratio_over_norm": 2.2,
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run", latents=256, supported=60)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | VALUES))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config + "causal: {method: ablate, draws: 50}\n")
    table().to_parquet(folder / "causal.parquet")
    return read_run(folder)


def test_matrices_are_those_of_the_headline_size(run):
    matrices = read(run)
    np.testing.assert_allclose(np.diag(matrices.own), [0.4, 0.51, 0.62])
    np.testing.assert_allclose(matrices.own[0], [0.4, 0.01, 0.02])
    np.testing.assert_allclose(matrices.matched, 0.03)
    assert matrices.latents[1] == list(range(1, 21))


def test_tasks_that_lose_nothing_beyond_noise_are_said_to(run):
    """Selectivity counts a fall of the CE as 0, so that of such sets is a number without meaning."""
    assert "lose nothing" not in " ".join(causal(run).sentences)
    nothing = {"causal/own_ce": -0.0008, "causal/own_ce_ci_low": -0.002, "causal/own_ce_ci_high": 0.0005}
    run.metrics.update(nothing)
    assert "lose nothing beyond noise" in " ".join(causal(run).sentences)


def test_sentences_and_rows(run):
    section = causal(run)
    text = " ".join(section.sentences)
    for part in (
        "0.510 (95 % CI 0.450–0.580) nats",
        "0.980 (95 % CI 0.950–0.990)",
        "0.470 less",
        "41.0",
        "p ≤ 1/51",
        "2.20",
    ):
        assert part in text, part
    row = section.rows[0]
    assert row.task == "code"
    assert row.cells == ("20", "10 %", "0.400 (0.390–0.420)", "0.0150", "0.0300")
    assert row.latents == ", ".join(map(str, range(12))) + " …"


def test_figures_show_numbers_and_no_markup(run):
    drawings = draw_figures(run)
    assert {"causal_matrix", "causal_tasks"} <= set(drawings)
    assert ".51" in drawings["causal_matrix"].svg
    assert "script>alert" not in drawings["causal_matrix"].svg
    page = write_report(run.path).read_text()
    assert "Do the latents of a task matter to it?" in page
    assert EVIL not in page


def test_a_run_without_the_part_has_no_section(tmp_path):
    run = read_run(write_run(tmp_path / "run", latents=256, supported=60))
    assert causal(run) is matrix(run) is tasks_hurt(run) is None
    assert "Do the latents" not in write_report(run.path).read_text()
