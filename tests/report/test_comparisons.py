"""Differences of causal metrics: paired where both jobs drew the same documents, and only there."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from saescope.analysis.resamples import OfSome, Resamples
from saescope.metrics import metric
from saescope.report.sweep.comparisons import compare
from saescope.report.sweep.uncertainty import Uncertainty
from saescope.report.sweep.write import write_sweep
from saescope.runfolder.run import open_run

from .sweep_folders import write_job
from .test_sweep_report import Page

DRAWS_B = np.random.default_rng(0).normal(size=200)
OWN_CE = "causal/own_ce"


def write(path, *, causal=None, documents="a", num_documents=13, **job):
    """A job with a `causal/own_ce` and its draws, or without either."""
    write_job(path, **job)
    if causal is not None:
        value, draws_B = causal
        metrics = json.loads((path / "metrics.json").read_text())
        (path / "metrics.json").write_text(json.dumps(metrics | {OWN_CE: value}))
        some = OfSome({OWN_CE: draws_B}, documents, num_documents)
        table = pd.read_parquet(path / "resamples.parquet")
        table = pd.concat([table, Resamples(of_some=some).table()], ignore_index=True)
        table.to_parquet(path / "resamples.parquet", index=False)
    return open_run(path)


def difference(first, second):
    """The second job less the first in `causal/own_ce`, alone in its family."""
    jobs = [first, second]
    rows = [{OWN_CE: job.metrics.get(OWN_CE)} for job in jobs]
    uncertainty, messages = Uncertainty.of(jobs, rows, [], [])
    assert not messages
    every = compare(rows, [(((0,), (1,)),)], uncertainty).every
    return every[0] if every else None


def test_equal_effects_differ_by_exactly_nothing(tmp_path):
    both = [write(tmp_path / name, causal=(0.3, 0.3 + DRAWS_B)) for name in "ab"]
    equal = difference(*both)
    assert equal.documents == "paired"
    assert (equal.difference, equal.low, equal.high, equal.p) == (0, 0, 0, 1)
    shifted = difference(both[0], write(tmp_path / "c", causal=(0.5, 0.5 + DRAWS_B)))
    assert (shifted.low, shifted.high) == pytest.approx((0.2, 0.2))
    assert shifted.p < 1e-9


def test_what_the_documents_add_to_both_jobs_cancels(tmp_path):
    """Draws e and 3 e: the difference has the spread of 2 e, of 13 documents less those that tasks use up."""
    first = write(tmp_path / "a", causal=(0.3, 0.3 + DRAWS_B))
    second = write(tmp_path / "b", causal=(0.9, 0.9 + 3 * DRAWS_B))
    paired = difference(first, second)
    freedom = 13 - len(first.tasks)
    half = t.isf(0.025, freedom) * np.sqrt(13 / freedom) * 2 * DRAWS_B.std(ddof=1)
    assert paired.documents == "paired"
    assert (paired.low, paired.high) == pytest.approx((0.6 - half, 0.6 + half))


@pytest.mark.parametrize("other", [{"documents": "b"}, {"causal": (0.5, 0.5 + DRAWS_B[:100])}])
def test_other_draws_are_not_paired(tmp_path, other):
    first = write(tmp_path / "a", causal=(0.5, 0.5 + DRAWS_B))
    second = write(tmp_path / "b", **{"causal": (0.5, 0.5 + DRAWS_B)} | other)
    unpaired = difference(first, second)
    assert unpaired.documents == "unpaired"
    freedom = 13 - len(first.tasks)
    each = t.isf(0.025, freedom) * np.sqrt(13 / freedom) * DRAWS_B.std()
    assert unpaired.half_width == pytest.approx(2**0.5 * each, rel=0.05)


def test_jobs_with_and_without_causal_in_one_sweep(tmp_path):
    write(tmp_path / "0", causal=(0.3, 0.3 + 0.01 * DRAWS_B), k=16)
    write(tmp_path / "1", causal=(0.4, 0.4 + 0.01 * DRAWS_B), k=32)
    write(tmp_path / "2", k=64)
    summary = write_sweep([tmp_path], tmp_path)
    table = pd.read_csv(tmp_path / "differences.csv")
    causal = table[table.metric == OWN_CE]
    assert causal[["job_a", "job_b", "documents"]].to_numpy().tolist() == [[0, 1, "paired"]]
    assert (causal.paired_low.item(), causal.paired_high.item()) == pytest.approx((0.1, 0.1))
    assert (table.metric == "si/mean").sum() >= 3
    assert not any("cannot be read" in sentence for sentence in summary.sentences)


def test_causal_effects_are_followed_along_the_axes_beside_their_controls(tmp_path):
    """Selectivity, its excess over matched sets and the ratio of every point, paired; own CE in the table."""
    keys = ["causal/selectivity", "causal/excess", "causal/ratio"]
    jobs = [(16, "train"), (32, "train"), (16, "random"), (32, "random")]
    for at, (k, source) in enumerate(jobs):
        path = tmp_path / str(at)
        write_job(path, k=k, source=source)
        values = {key: 0.5 + 0.1 * at + 0.01 * nth for nth, key in enumerate([*keys, OWN_CE])}
        ends = {
            f"{key}_ci_{end}": values[key] + by
            for key in keys
            for end, by in (("low", -0.02), ("high", 0.02))
        }
        metrics = json.loads((path / "metrics.json").read_text())
        (path / "metrics.json").write_text(json.dumps(metrics | ends | values))
        some = OfSome({key: value + 0.01 * DRAWS_B for key, value in values.items()}, "a", 13)
        table = pd.concat(
            [pd.read_parquet(path / "resamples.parquet"), Resamples(of_some=some).table()], ignore_index=True
        )
        table.to_parquet(path / "resamples.parquet", index=False)
    write_sweep([tmp_path], tmp_path)
    page = Page((tmp_path / "sweep.html").read_text(encoding="utf-8"))
    assert set(keys) <= set(page.payload["metrics"]["along"])
    lines = [line for line in page.payload["lines"] if line["axis"] == "sae.k"]
    assert {line["control"] for line in lines} == {True, False}
    for line in lines:
        for key in keys:
            assert all(reading["e"] > 0 for reading in line["readings"][key])
    steps = [step for step in page.payload["effects"] if step["axis"] == "sae.k" and step["measure"] in keys]
    assert len(steps) == 2 * len(keys)
    table = pd.read_csv(tmp_path / "differences.csv")
    assert set(table[table.metric.isin(keys)].documents) == {"paired"}
    source = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    beside = source[source.index('id="beside"') : source.index('id="jobs"')]
    for key in keys:
        assert f"<td>{metric(key).short}</td>" in beside
    assert "SI, Q and causal effects along each axis" in page.text
    assert "± —" not in page.text
    assert '<th scope="col">causal/<wbr>own_<wbr>ce</th>' in source  # not among those shown on request
