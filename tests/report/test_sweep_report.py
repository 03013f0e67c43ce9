import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from saescope.errors import ReportError
from saescope.report.sweep import write_sweep
from tests.report.report_folder import metrics
from tests.report.sweep_folders import (
    HOSTILE,
    change_matched,
    write_failed,
    write_job,
    write_six,
    write_sixty,
)


class Page(HTMLParser):
    """Attributes, ids and the visible text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside.append(tag)
        if tag == "script":
            self.scripts.append("")
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on"), f"{tag} {name}"

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self.inside:
            self.scripts[-1] += data
        elif "style" not in self.inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def payload(self) -> dict:
        return json.loads(self.scripts[1])


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    folder = write_six(tmp_path_factory.mktemp("six"))
    summary = write_sweep([folder], folder)
    return summary, Page((folder / "sweep.html").read_text(encoding="utf-8")), folder


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    folder = write_sixty(tmp_path_factory.mktemp("sixty"))
    out = tmp_path_factory.mktemp("out")  # elsewhere, so the page of no job is drawn again
    summary = write_sweep([folder], out)
    return summary, Page((out / "sweep.html").read_text(encoding="utf-8")), out


def test_one_row_a_job_the_failed_one_too(six):
    summary, _, folder = six
    table = pd.read_csv(folder / "sweep.csv")
    assert list(table["job"]) == [0, 1, 2, 3, 4, 5]
    assert list(table["state"]) == ["ok"] * 5 + ["failed"]
    assert table["error"][5] == "the SAE folder /x is missing; give another"
    assert summary.failed == (
        "job 5 (sae.k=32 sae.expansion_factor=32): the SAE folder /x is missing; give another",
    )
    assert list(table["sae.k"][:5]) == [16, 32, 16, 32, 16]
    assert list(table["sae.num_latents"][:5]) == [4096, 4096, 8192, 8192, 16384]
    assert table["hookpoint.name"][0] == "layers.3"
    assert set(table["model.num_parameters"][:5]) == {70_426_624}


def test_metric_columns_are_the_metric_keys(six):
    _, _, folder = six
    csv = pd.read_csv(folder / "sweep.csv", float_precision="round_trip")
    for table in (csv, pd.read_parquet(folder / "sweep.parquet")):
        assert {name for name in table.columns if "/" in name} == set(metrics())
        written = json.loads((folder / "2" / "metrics.json").read_text())
        for key, value in written.items():
            assert pd.isna(table[key][2]) if value is None else table[key][2] == value


def test_parquet_and_csv_say_the_same(six):
    _, _, folder = six
    csv = pd.read_csv(folder / "sweep.csv", float_precision="round_trip")
    parquet = pd.read_parquet(folder / "sweep.parquet")
    assert list(csv.columns) == list(parquet.columns)
    for name in ("si/mean", "matched_si", "matched_q"):
        np.testing.assert_array_equal(csv[name].to_numpy(float), parquet[name].to_numpy(float))


def test_matched_numbers_are_those_of_the_largest_level_that_all_jobs_have(tmp_path):
    folder = write_six(tmp_path / "sweep")

    def narrow(content):
        """One job has no graph of 200 latents, so 100 it is for all."""
        return content | {"q": [level for level in content["q"] if level["latents"] == 100]}

    change_matched(folder / "1", narrow)
    table = write_sweep([folder], folder).table
    for at in range(5):
        content = json.loads((folder / str(at) / "matched.json").read_text())
        (level,) = [it for it in content["q"] if (it["latents"], it["firings"]) == (100, 205)]
        assert table["matched_q"][at] == level["q"]
        assert table["matched_q_null_mean"][at] == 0.3
        assert table["matched_q_excess"][at] == pytest.approx(level["q"] - 0.3)
        assert table["matched_q_sd"][at] == 0.003
        assert table["matched_si"][at] == content["si"]
    assert list(table["matched_q_latents"][:5]) == [100] * 5
    assert list(table["matched_q_firings"][:5]) == [205] * 5
    assert list(table["matched_si_count"][:5]) == [50] * 5
    assert pd.isna(table["matched_q"][5])


def test_a_job_without_evidence_says_what_it_lacks_and_leaves_the_others_theirs(tmp_path):
    folder = write_six(tmp_path / "sweep")
    reason = "the latents that carry 75 % of its firings are 12, fewer than 100"
    no_q = {"q": [], "q_lacks": reason}
    change_matched(folder / "0", lambda content: content | no_q)
    change_matched(folder / "2", lambda content: content | no_q | {"si": None, "si_lacks": "a single task"})
    summary = write_sweep([folder], folder)
    table = summary.table
    assert table["matched_q"].notna().tolist() == [False, True, False, True, True, False]
    assert table["matched_si"].notna().tolist() == [True, True, False, True, True, False]
    assert list(table["matched_q_latents"][3:5]) == [200] * 2
    assert table["matched_lacks"][0] == f"matched Q: {reason}"
    assert table["matched_lacks"][2] == f"matched SI: a single task; matched Q: {reason}"
    assert f"Job 0 without matched Q: {reason}." in summary.sentences
    assert reason in Page((folder / "sweep.html").read_text()).text


def test_a_job_of_an_earlier_version_has_no_matched_numbers_and_is_named(tmp_path):
    folder = write_six(tmp_path / "sweep")
    (folder / "3" / "matched.json").unlink()
    (folder / "4" / "matched.json").write_text("{ broken")
    summary = write_sweep([folder], folder)
    assert summary.table["matched_q"].notna().tolist() == [True, True, True, False, False, False]
    (sentence,) = [it for it in summary.sentences if "Left out" in it]
    assert "3: matched.json is missing" in sentence
    assert "4: matched.json cannot be read" in sentence


def test_q_at_matched_latents_only_is_kept_until_a_table_changes(tmp_path):
    folder = write_six(tmp_path / "sweep")
    first = write_sweep([folder], folder).table
    cache = json.loads((folder / ".matched.json").read_text())
    for one in cache.values():
        one["value"] = 0.5
    (folder / ".matched.json").write_text(json.dumps(cache))
    assert list(write_sweep([folder], folder).table["matched_q_latents_only"][:5]) == [0.5] * 5
    write_job(folder / "0", k=16, expansion=8)
    again = write_sweep([folder], folder).table["matched_q_latents_only"]
    assert again[0] == first["matched_q_latents_only"][0]
    assert again[1] == 0.5


def test_page_says_what_changes_and_what_is_noise(six):
    summary, page, _ = six
    assert "1 of 6 jobs did not finish: 5 (failed)" in page.text
    assert "5 jobs vary sae.k (16, 32) and sae.expansion_factor (8, 16, 32)." in page.text
    assert "so they can be compared" in page.text
    assert re.search(
        r"SI rises with sae.expansion_factor, at fixed sae.k \(mean of 2 settings\): \+0\.03", page.text
    )
    assert all(" ".join(sentence.split()) in page.text for sentence in summary.sentences)
    assert "within noise" in page.text
    noted = summary.table["within_noise"]
    assert "matched SI along sae.k from 16" in noted[1]


def test_the_title_is_what_is_swept(six, tmp_path):
    _, page, _ = six
    assert "saescope sweep sae.k × sae.expansion_factor" in page.text
    for at, source in enumerate(("train", "pca")):
        job = write_job(tmp_path / str(at), source=source)
        content = json.loads((job / "status.json").read_text())
        content["overrides"] = ["sweep=controls", f"sae={source}"]
        (job / "status.json").write_text(json.dumps(content))
    write_sweep([tmp_path], tmp_path)
    assert "saescope sweep controls: sae.source" in Page((tmp_path / "sweep.html").read_text()).text


def test_columns_without_any_value_are_not_shown(six):
    summary, page, _ = six
    assert summary.table["dynk/k_at_ppl_1pct"].isna().all()
    text = "".join(page.words)  # a heading may wrap within a key
    assert "dynk/k_at_ppl_1pct" not in text
    assert "task/code/fvu" in text


def test_points_know_the_pages_of_their_jobs(six):
    _, page, _ = six
    assert page.payload["jobs"] == list("012345")
    assert page.payload["links"] == [*(f"{at}/report.html" for at in range(5)), ""]


def test_two_points_closer_than_their_intervals_are_within_noise(tmp_path):
    write_job(tmp_path / "0", k=16, si=0.1800, q=0.36, resamples=False)
    write_job(tmp_path / "1", k=32, si=0.1820, q=0.30, resamples=False)
    summary = write_sweep([tmp_path], tmp_path / "out")
    table = summary.table
    # intervals of ± 0.003 each, so ± 0.0042 for the difference alone; Q: ± 1.96 · 0.0015 · √2 = 0.0042
    assert "They are unpaired, and wider" in " ".join(summary.sentences)
    assert re.search(r"(^|; )SI along sae.k from 16", table["within_noise"][1])
    assert not re.search(r"(^|; )Q along", table["within_noise"][1])


def test_seed_spread_widens_the_noise(tmp_path):
    for at, (k, seed, si) in enumerate([(16, 0, 0.17), (16, 1, 0.19), (32, 0, 0.20), (32, 1, 0.22)]):
        write_job(tmp_path / str(at), k=k, seed=seed, si=si)
    summary = write_sweep([tmp_path], tmp_path / "out")
    text = " ".join(summary.sentences)
    assert "SI does not change with sae.k beyond noise: 1 step" in text
    assert "Standard deviation over seeds: SI 0.01" in text
    assert "vary sae.k (16, 32)." in text  # seeds are no axis


def test_jobs_of_other_token_counts_are_not_joined(tmp_path):
    for at, (k, tokens) in enumerate([(16, 50_000), (32, 50_000), (64, 20_000), (128, 20_000)]):
        write_job(tmp_path / str(at), k=k, max_tokens=tokens)
    summary = write_sweep([tmp_path], tmp_path / "out")
    page = Page((tmp_path / "out" / "sweep.html").read_text())
    assert "fall into 2 groups that cannot be compared" in page.text
    assert "Group B (2 jobs) has probes.max_tokens_per_task 20,000 instead of 50,000." in page.text
    assert list(summary.table["group"]) == ["A", "A", "B", "B"]
    assert sorted(line["jobs"] for line in page.payload["lines"]) == [[[0], [1]], [[2], [3]]]
    assert {
        tuple(front["jobs"]) <= (0, 1) or min(front["jobs"]) >= 2 for front in page.payload["fronts"]
    } == {True}


def test_other_metric_definitions_are_not_comparable_but_what_is_shown_is(tmp_path):
    for name, change in (("0", {}), ("1", {"example_latents": 3}), ("2", {"edge_fdr": 0.05})):
        job = write_job(tmp_path / name, k=16 + int(name))
        import yaml

        config = yaml.safe_load((job / "config.yaml").read_text())
        config["metrics"] |= change
        (job / "config.yaml").write_text(yaml.safe_dump(config))
    assert list(write_sweep([tmp_path], tmp_path / "out").table["group"]) == ["A", "A", "B"]


def test_confounded_settings_are_named(tmp_path):
    for at, (k, expansion) in enumerate([(16, 8), (32, 16), (64, 32)]):
        write_job(tmp_path / str(at), k=k, expansion=expansion)
    for at, (k, expansion) in enumerate([(16, 8), (32, 16)]):
        write_job(tmp_path / f"s{at}", k=k, expansion=expansion, seed=1)
    page = write_sweep([tmp_path], tmp_path / "out")
    text = " ".join(page.sentences)
    assert "5 jobs vary sae.k (16, 32, 64)" in text
    assert "Along sae.k also sae.expansion_factor changes: the sweep cannot tell their effects apart." in text


def test_no_line_goes_through_a_setting_that_changes_unnoticed(tmp_path):
    """Within one group k fixes the model, over all jobs it does not."""
    for at, (k, model, tokens) in enumerate(
        [
            (16, "m/a", 50_000),
            (32, "m/b", 50_000),
            (64, "m/a", 50_000),
            (16, "m/a", 20_000),
            (32, "m/a", 20_000),
        ]
    ):
        write_job(tmp_path / str(at), k=k, model=model, max_tokens=tokens)
    write_sweep([tmp_path], tmp_path / "out")
    lines = Page((tmp_path / "out" / "sweep.html").read_text()).payload["lines"]
    assert sorted(line["jobs"] for line in lines if line["axis"] == "sae.k") == [[[0], [2]], [[3], [4]]]


def test_sweeps_are_merged_and_a_folder_counts_once(tmp_path):
    write_six(tmp_path / "a")
    write_job(tmp_path / "b" / "0", k=64, expansion=8)
    out = tmp_path / "out"
    (tmp_path / "link").symlink_to(tmp_path / "b")
    dirs = [tmp_path / "a", tmp_path / "b", tmp_path / "a", tmp_path / "a" / "0", tmp_path / "link"]
    summary = write_sweep(dirs, out)
    assert list(summary.table["job"]) == [*(f"../a/{at}" for at in range(6)), "../b/0"]
    page = Page((out / "sweep.html").read_text())
    links = [one for one in page.addresses if one.endswith("report.html")]
    assert links
    assert all((out / link).resolve().is_file() for link in links)
    assert set(write_sweep([tmp_path], out).table["job"]) == set(summary.table["job"])


def test_a_reused_result_is_no_repetition(tmp_path):
    for name in ("a", "b"):
        write_job(tmp_path / name / "0", k=16, identity="same")
        write_job(tmp_path / name / "1", k=32, identity="other")
    summary = write_sweep([tmp_path], tmp_path / "out")
    assert len(summary.table) == 4
    assert "Every setting has one seed" in " ".join(summary.sentences)


def test_damaged_and_killed_jobs_are_rows_that_say_so(tmp_path):
    for at in range(6):
        write_job(tmp_path / str(at), k=8 * (at + 1))
    (tmp_path / "0" / "metrics.json").write_text("{ broken")
    (tmp_path / "1" / "features.parquet").write_bytes(b"no parquet")
    (tmp_path / "2" / "status.json").unlink()
    (tmp_path / "3" / "config.yaml").write_text("a: [")
    (tmp_path / "4" / "histograms.json").write_text("[]")
    (tmp_path / "5" / "edges.parquet").unlink()
    write_failed(tmp_path / "6", "", ["sae.k=9"], state="running")
    (tmp_path / "7" / ".hydra").mkdir(parents=True)
    (tmp_path / "7" / ".hydra" / "overrides.yaml").write_text("- sae.k=3\n")
    table = write_sweep([tmp_path], tmp_path / "out").table
    assert list(table["state"]) == [
        "unfinished",
        "ok",
        "unfinished",
        "ok",
        "ok",
        "ok",
        "unfinished",
        "unfinished",
    ]
    assert "metrics.json cannot be read" in table["error"][0]
    assert "status.json is missing" in table["error"][2]
    assert "killed" in table["error"][6]
    assert table["overrides"][7] == "sae.k=3"
    assert table["sae.k"][3] == 32  # Hydra's record stands in for a broken config.yaml
    unread = table["matched_q_latents_only"].isna().tolist()
    assert unread == [True, True, True, False, False, True, True, True]
    text = Page((tmp_path / "out" / "sweep.html").read_text()).text
    assert "Left out: 1: " in text
    assert "5: edges.parquet is missing" in text
    assert "Errno" not in text


@pytest.mark.parametrize(
    ("table", "words"),
    [(b"k,task\n1,all\n", "has no column ce_delta"), (b"", "cannot be read"), (b"\xff", "cannot be read")],
)
def test_an_unreadable_dynamic_k_table_is_left_out_by_name(tmp_path, table, words):
    write_job(tmp_path / "0")
    (tmp_path / "0" / "dynamic_k.csv").write_bytes(table)
    (sentence,) = [it for it in write_sweep([tmp_path], tmp_path).sentences if "Left out" in it]
    assert f"Left out: 0: dynamic_k.csv {words}" in sentence


def test_dynamic_k_tables_with_few_columns_have_one_curve(tmp_path):
    write_job(tmp_path / "0")
    (tmp_path / "0" / "dynamic_k.csv").write_text("k,ce_delta\n1,0.5\n2,0.25\n")
    write_sweep([tmp_path], tmp_path)
    (curve,) = Page((tmp_path / "sweep.html").read_text()).payload["dynamic_k"]
    assert (curve["name"], curve["ce_delta"]) == ("all", [0.5, 0.25])


def test_only_failed_jobs_still_make_a_page(tmp_path):
    write_failed(tmp_path / "0", "no such model", ["model=x"])
    summary = write_sweep([tmp_path], tmp_path)
    assert "No job has finished" in " ".join(summary.sentences)
    assert "no such model" in Page((tmp_path / "sweep.html").read_text()).text


def test_nothing_found_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, words in ((tmp_path / "empty", "no job in"), (tmp_path / "nowhere", "no folder")):
        with pytest.raises(ReportError, match=words) as caught:
            write_sweep([folder], tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_sixty_rows(sixty):
    summary, page, folder = sixty
    assert len(summary.table) == 60
    assert "2 of 60 jobs did not finish" in page.text
    assert page.payload["axes"] == ["model.num_parameters", "hookpoint.depth", "sae.k", "model.random_init"]
    rises = r"SI rises with model.num_parameters, at fixed hookpoint.depth and sae.k \(mean of 6 settings\): "
    assert re.search(rises + r"\+0\.01\d+ ± 0\.00\d+ from 14,067,712 to 70,426,624; ", page.text)
    assert (folder / "sweep.html").stat().st_size < 6_000_000


def test_scaling_has_slopes_and_the_control(sixty):
    _, page, _ = sixty
    series = {(one["control"], one["at"], one["measure"]): one for one in page.payload["scaling"]}
    trained = series[False, "sae.k=16", "si/mean"]
    assert trained["low"] < 0.02 < trained["high"]  # 0.02 per tenfold parameters is planted
    assert trained["low"] > 0
    control = series[True, "sae.k=32", "si/mean"]
    assert control["low"] <= 0 <= control["high"]
    assert "with random weights (control)" in page.text


def test_two_sizes_have_no_scaling_section(tmp_path):
    for at, size in enumerate((14_067_712, 70_426_624)):
        write_job(tmp_path / str(at), size=size)
    write_sweep([tmp_path], tmp_path)
    assert "scaling" not in Page((tmp_path / "sweep.html").read_text()).ids


def test_page_asks_nothing_of_the_network(sixty):
    _, page, folder = sixty
    source = (folder / "sweep.html").read_text()
    assert "default-src 'none'" in source
    assert all(re.fullmatch(r"\.\./sixty0/\d+/report\.html|#[\w-]+", address) for address in page.addresses)
    assert "link" not in page.tags
    assert "iframe" not in page.tags
    assert len(page.ids) == len(set(page.ids))


def test_hostile_strings_stay_text(tmp_path):
    write_job(tmp_path / "a<b>'\"&", k=16, model=HOSTILE)
    write_job(tmp_path / "javascript:alert(1)", k=32, model=HOSTILE)
    write_failed(tmp_path / "bad", HOSTILE, [HOSTILE])
    table = [{"title": HOSTILE, "sentences": [HOSTILE], "columns": [HOSTILE], "rows": [[HOSTILE, 0.5, None]]}]
    (tmp_path / "overlap.json").write_text(json.dumps(table))
    write_sweep([tmp_path], tmp_path)
    page = Page((tmp_path / "sweep.html").read_text())
    assert "img" not in page.tags
    assert len(page.scripts) == 3
    assert HOSTILE in page.text
    assert page.payload["values"]["columns"]["sae.k"] == [16, 32]
    assert not any(address.startswith("javascript:") for address in page.addresses)


def test_overlap_tables_and_dynamic_k_curves_of_others(tmp_path):
    job = write_job(tmp_path / "0", k=16)
    write_job(tmp_path / "1", k=32)
    (tmp_path / "overlap.json").write_text(json.dumps([
        {"title": "Overlap of the SAEs", "sentences": ["Half are shared."], "columns": ["pair", "shared"],
         "rows": [["0 and 1", 0.5], ["0 and 2", None]]}, {"no": "table"}, 3,
    ]))  # fmt: skip
    (job / "dynamic_k.csv").write_text(
        "target,selector,k,ce_delta,ce_delta_lo,ce_delta_hi,task,phase\n"
        "mlp,topk,8,0.5,0.4,0.6,all,\nmlp,topk,4,0.9,0.8,1.0,all,\nmlp,topk,8,0.1,,,code,\n"
        "mlp,random,8,2.0,,,all,prefill\n"
    )
    write_sweep([tmp_path], tmp_path / "out")
    page = Page((tmp_path / "out" / "sweep.html").read_text())
    assert "Overlap of the SAEs Half are shared. pair shared 0 and 1 0.500 0 and 2 —" in page.text
    curves = {one["name"]: one for one in page.payload["dynamic_k"]}
    assert curves["mlp topk"]["k"] == [4, 8]
    assert curves["mlp topk"]["ce_delta"] == [0.9, 0.5]
    assert curves["mlp topk"]["low"] == [0.8, 0.4]
    assert set(curves) == {"mlp topk", "mlp random prefill"}


def test_command(tmp_path):
    write_six(tmp_path / "sweep")
    code = (
        "import sys; from saescope.cli.report import main; sys.argv[0] = 'saescope-report'; sys.exit(main())"
    )

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *args]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    done = run("sweep")
    assert done.returncode == 0, done.stderr
    assert "failed: job 5" in done.stdout
    assert all((tmp_path / "sweep" / f"sweep.{kind}").is_file() for kind in ("csv", "parquet", "html"))
    assert run("sweep", "--out", "there").returncode == 0
    assert pd.read_csv(tmp_path / "there" / "sweep.csv")["job"][0] == "../sweep/0"
    wrong = run("nowhere")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("saescope-report: no folder nowhere;")
    assert wrong.stderr.count("\n") == 1


def test_help_and_report_need_no_torch(tmp_path):
    write_job(tmp_path / "0")
    code = (
        "import sys, time; start = time.perf_counter(); from saescope.cli.report import main as report\n"
        "sys.argv = ['saescope-report', '--help']\n"
        "try: report()\n"
        "except SystemExit: pass\n"
        "took = time.perf_counter() - start; light = 'pandas' not in sys.modules\n"
        f"sys.argv = ['saescope-report', {str(tmp_path)!r}]; assert report() == 0\n"
        "heavy = {'torch', 'transformers', 'lightning', 'wandb'} & set(sys.modules)\n"
        "print('SAW', light, sorted(heavy), took)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    light, heavy, took = re.search(r"SAW (\w+) (\[.*\]) ([\d.]+)", said).groups()
    assert (light, heavy) == ("True", "[]")
    assert float(took) < 2


def test_no_file_is_half_written(tmp_path, monkeypatch):
    folder = write_six(tmp_path / "sweep")
    write_sweep([folder], folder)
    before = (folder / "sweep.html").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_sweep([folder], folder)
    assert (folder / "sweep.html").read_bytes() == before


DIFFERENCE_COLUMNS = [
    "job_a", "job_b", "group", "metric", "value_a", "value_b", "difference", "paired_low", "paired_high",
    "adjusted_p", "minimum_detectable_difference", "documents", "seeds",
]  # fmt: skip


def test_three_jobs_are_compared_in_pairs(tmp_path):
    """Standard error of a difference: 0.0015 · √(2 · 0.09) = 0.0006; of the jobs: ± 0.003."""
    for at, si in enumerate((0.180, 0.180, 0.188)):
        write_job(tmp_path / str(at), k=16 * 2**at, si=si, q=0.36)
    summary = write_sweep([tmp_path], tmp_path)
    table = pd.read_csv(tmp_path / "differences.csv")
    assert list(table) == DIFFERENCE_COLUMNS
    si = table[table.metric == "si/mean"].set_index(["job_a", "job_b"])
    assert list(si.index) == [(0, 1), (1, 2), (0, 2)]
    assert (table.documents[~table.metric.str.startswith("matched_q")] == "paired").all()
    np.testing.assert_allclose(table.value_b - table.value_a, table.difference, atol=1e-12)
    half = (si.paired_high - si.paired_low) / 2
    assert half.between(0.0012, 0.0026).all()
    assert (half < si.minimum_detectable_difference).all()
    excludes = (table.paired_low > 0) | (table.paired_high < 0)
    np.testing.assert_array_equal(excludes, table.adjusted_p < 0.05)
    assert si.adjusted_p[1, 2] < 0.05
    assert set(table.metric) >= {"si/mean", "q/modularity", "sae/fvu", "lm/ce_score", "matched_si"}
    text = " ".join(summary.sentences)
    assert f"hold for all {len(table)} differences of differences.csv at once (95 %), and are paired" in text
    assert "Minimum detectable difference (found in 80 % of cases): SI 0.00" in text
    assert "intervals are over documents alone" in text


def test_copies_and_seeds_are_not_told_apart(tmp_path):
    """Two copies of one SAE; the same recipe with other seeds, told to be repetitions by their settings."""
    for at in (0, 1):
        write_job(tmp_path / "copies" / str(at), k=16, identity=f"copy {at}")
    write_sweep([tmp_path / "copies"], tmp_path / "copies")
    assert (pd.read_csv(tmp_path / "copies" / "differences.csv").adjusted_p == 1).all()
    for seed in range(4):
        write_job(tmp_path / "seeds" / str(seed), k=16, seed=seed, si=0.18 + 0.004 * seed)
    write_sweep([tmp_path / "seeds"], tmp_path / "seeds")
    table = pd.read_csv(tmp_path / "seeds" / "differences.csv")
    assert (table.seeds == "yes").all()
    assert (table.adjusted_p > 0.05).all()
    assert len(table[table.metric == "si/mean"]) == 6


def test_jobs_without_resamples_have_the_unpaired_interval(tmp_path):
    write_job(tmp_path / "0", k=16)
    write_job(tmp_path / "1", k=32, resamples=False)
    (write_job(tmp_path / "2", k=64) / "resamples.parquet").write_bytes(b"no table")
    summary = write_sweep([tmp_path], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "differences.csv")
    assert set(table.documents) == {"unpaired"}
    assert any("resamples.parquet cannot be read" in sentence for sentence in summary.sentences)
    other = write_job(tmp_path / "more" / "0", k=16), write_job(tmp_path / "more" / "1", k=32)
    provenance = json.loads((other[0] / "provenance.json").read_text())
    (other[0] / "provenance.json").write_text(
        json.dumps(provenance | {"probes": {"digest": "other documents"}})
    )
    write_sweep([tmp_path / "more"], tmp_path / "more")
    assert set(pd.read_csv(tmp_path / "more" / "differences.csv").documents) == {"unpaired"}


def test_the_same_text_in_another_folder_is_the_same_text(tmp_path):
    for number, (place, digest) in enumerate([("a", "x"), ("b", "x"), ("b", "y")]):
        job = write_job(tmp_path / str(number), k=2**number)
        config = yaml.safe_load((job / "config.yaml").read_text())
        config["probes"]["path"] = place
        (job / "config.yaml").write_text(yaml.safe_dump(config))
        provenance = json.loads((job / "provenance.json").read_text())
        provenance["probes"] = {"digest": digest, "origins": {"probes": place}}
        (job / "provenance.json").write_text(json.dumps(provenance))
    write_sweep([tmp_path], tmp_path)
    assert list(pd.read_csv(tmp_path / "sweep.csv").group) == ["A", "A", "B"]


def test_a_run_page_says_what_is_above_its_controls(tmp_path):
    trained = write_job(tmp_path / "0", k=16, si=0.25)
    write_job(tmp_path / "1", k=16, si=0.18, source="random")
    write_sweep([tmp_path], tmp_path)
    said = json.loads((trained / "beside_controls.json").read_text())
    assert re.match(r"Beside random SAE: SI is 0\.0[67]\d+ above \(0\.0[67]\d+ to 0\.0[67]\d+\); ", said[0])
    assert said[0] in (trained / "report.html").read_text().replace("&#39;", "'")
    assert not (tmp_path / "1" / "beside_controls.json").exists()
    elsewhere = write_job(tmp_path / "other" / "0", k=16, si=0.25)
    write_job(tmp_path / "other" / "1", k=16, si=0.18, source="random")
    write_sweep([tmp_path / "other"], tmp_path / "out")
    assert not (elsewhere / "beside_controls.json").exists()  # only in the sweep's own folder
