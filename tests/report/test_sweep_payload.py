"""What the figures of a sweep page are drawn from, and what stands on the page without a script."""

import json
import re

import pandas as pd
import pytest
import yaml

from saescope.report.sweep import write_sweep
from tests.report.sweep_folders import write_job, write_lacking, write_six
from tests.report.test_sweep_report import Page


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    folder = write_six(tmp_path_factory.mktemp("six"))
    task = ["sae=train", "sae.expansion_factor=8,16,32", "sae.k=16,32", "probes.path=/my probes"]
    own = ["hydra.sweep.dir=here", "hydra.mode=MULTIRUN", "hydra/launcher=parallel"]
    recorded = {"hydra": {"overrides": {"task": task, "hydra": own}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(recorded))
    write_sweep([folder], folder)
    return folder, Page((folder / "sweep.html").read_text(encoding="utf-8"))


def test_effects_are_the_differences_of_the_sweep(six):
    folder, page = six
    assert page.payload["effect_pairs"] == [
        ["sae.k", "sae.expansion_factor"],
        ["sae.expansion_factor", "sae.k"],
    ]
    table = pd.read_csv(folder / "differences.csv")
    steps = [step for step in page.payload["effects"] if step["measure"] == "si/mean"]
    assert [(step["axis"], step["step"], step["at"]) for step in steps] == [
        ("sae.k", "16 → 32", {"sae.expansion_factor": 8}),
        ("sae.k", "16 → 32", {"sae.expansion_factor": 16}),
        ("sae.expansion_factor", "8 → 16", {"sae.k": 16}),
        ("sae.expansion_factor", "16 → 32", {"sae.k": 16}),
        ("sae.expansion_factor", "8 → 16", {"sae.k": 32}),
    ]
    for step in steps:
        first, second = map(str, step["jobs"])
        (row,) = table[
            (table.metric == "si/mean") & (table.job_a == first) & (table.job_b == second)
        ].itertuples()
        assert step["change"] == pytest.approx(row.difference)
        assert step["noise"] == pytest.approx((row.paired_high - row.paired_low) / 2)


def test_one_axis_alone_has_no_effect_by_another(tmp_path):
    for at, k in enumerate((16, 32, 64)):
        write_job(tmp_path / str(at), k=k)
    write_sweep([tmp_path], tmp_path)
    page = Page((tmp_path / "sweep.html").read_text(encoding="utf-8"))
    assert page.payload["effect_pairs"] == []
    assert "effect-plot" not in page.ids


def test_a_distribution_stands_beside_its_null_where_there_is_one(six):
    _, page = six
    histograms = page.payload["histograms"]
    for name, histogram in histograms.items():
        for curve in histogram["curves"]:
            assert sum(curve["share"]) == pytest.approx(1)
            assert (curve["null"] is not None) == (name == "si")
    assert all(sum(curve["null"]) == pytest.approx(1) for curve in histograms["si"]["curves"])


@pytest.mark.parametrize("damage", ["edges", "counts", "none", "text"])
def test_a_null_over_other_bins_is_left_out(tmp_path, damage):
    for at, k in enumerate((16, 32)):
        write_job(tmp_path / str(at), k=k)
    path = tmp_path / "1" / "histograms.json"
    content = json.loads(path.read_text())
    null = content["si_null_draws"]
    content["si_null_draws"] = {
        "edges": null | {"edges": [2 * edge for edge in null["edges"]]},
        "counts": null | {"counts": null["counts"][1:]},
        "none": null | {"counts": [0] * len(null["counts"])},
        "text": "no histogram",
    }[damage]
    path.write_text(json.dumps(content))
    write_sweep([tmp_path], tmp_path)
    page = Page((tmp_path / "sweep.html").read_text(encoding="utf-8"))
    first, second = page.payload["histograms"]["si"]["curves"]
    assert first["null"] is not None
    assert second["null"] is None


def test_the_commands_are_those_that_were_given(six):
    _, page = six
    assert (
        "saescope -m sae=train sae.expansion_factor=8,16,32 sae.k=16,32 'probes.path=/my probes' "
        "hydra/launcher=parallel" in page.text
    )
    assert "job 3 saescope sae.k=32 sae.expansion_factor=16" in page.text


@pytest.mark.parametrize("content", ["", "hydra: 3", "hydra: {overrides: {task: [a=1]}}", "a: ["])
def test_a_damaged_record_of_the_command_is_no_command(tmp_path, content):
    write_six(tmp_path)
    (tmp_path / "multirun.yaml").write_text(content)
    write_sweep([tmp_path], tmp_path)
    assert "saescope -m" not in Page((tmp_path / "sweep.html").read_text(encoding="utf-8")).text


def test_overlap_is_a_matrix_of_shares(tmp_path):
    write_six(tmp_path)
    table = {"title": "Overlap of SAEs", "sentences": [], "columns": ["SAE A"], "rows": [["0"]]}
    matrix = {"names": ["0", "1", "<2>"], "shared": [[None, 0.5, None], [0.25, None, 0], [None, 0, None]]}
    (tmp_path / "overlap.json").write_text(json.dumps([table | {"matrix": matrix}]))
    write_sweep([tmp_path], tmp_path)
    source = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "0 1 <2> 0 50 % 1 25 % 0 % <2> 0 %" in Page(source).text
    assert '<td style="--share: 0.5">50 %</td>' in source
    assert source.count("<td></td>") >= 5


@pytest.mark.parametrize(
    "matrix",
    [3, {"names": ["0", "1"], "shared": [[None, 1], [1, None]]}, {"names": ["0", "1", "2"], "shared": [[1]]}],
)
def test_two_saes_or_a_damaged_matrix_are_the_table_alone(tmp_path, matrix):
    write_six(tmp_path)
    table = {"title": "Overlap of SAEs", "sentences": [], "columns": ["SAE A"], "rows": [["0"]]}
    (tmp_path / "overlap.json").write_text(json.dumps([table | {"matrix": matrix}]))
    write_sweep([tmp_path], tmp_path)
    assert '<table class="overlap">' not in (tmp_path / "sweep.html").read_text(encoding="utf-8")


def test_the_contents_are_the_sections(six):
    folder, page = six
    source = (folder / "sweep.html").read_text(encoding="utf-8")
    contents = source[source.index('<nav class="contents"') : source.index("</nav>")]
    names = ["result", "jobs", "choice", "along", "picker", "pareto", "heat", "shape", "parallel"]
    assert [part.split('"')[0] for part in contents.split('href="#')[1:]] == names
    assert set(names) <= set(page.ids)


def texts(value):
    """Every string of a JSON value but the keys."""
    if isinstance(value, dict | list):
        return [
            text for each in (value.values() if isinstance(value, dict) else value) for text in texts(each)
        ]
    return [value] if isinstance(value, str) else []


def test_a_setting_that_a_job_does_not_have_is_a_dash(tmp_path):
    write_lacking(tmp_path)
    summary = write_sweep([tmp_path], tmp_path)
    page = Page((tmp_path / "sweep.html").read_text(encoding="utf-8"))
    assert page.payload["axes"] == ["sae.source", "sae.k", "sae.lr"]
    words = re.compile(r"\b(None|null|nan|NaN)\b")
    assert not words.search(page.text), words.search(page.text)
    assert [text for text in texts(page.payload) if words.search(text)] == []
    assert [text for text in summary.sentences if words.search(text)] == []
    assert "sae.lr (0.1, —)" in page.text
    assert "sae.k=32, sae.lr=—" in page.text
    (line, *_) = [line for line in page.payload["lines"] if line["axis"] == "sae.lr"]
    assert line["x"] == ["—", "0.1"]
