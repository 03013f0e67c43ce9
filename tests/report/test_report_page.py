import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from saescope.report import ReportError, write_report
from saescope.report.page import title
from saescope.report.templating import TEMPLATES
from saescope.runfolder.run import open_run
from tests.report import report_folder
from tests.report.report_folder import EVIL, TASKS, metrics, write_run

FIGURES = ["communities", "communities_within_token", "density", "si", "si_density", "tasks"]


def text_of(run: Path) -> str:
    return html.unescape((run / "report.html").read_text(encoding="utf-8")).replace("<wbr>", "")


def change(path: Path, **values: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {key.replace("__", "/"): value for key, value in values.items()}))


def test_headline_numbers_are_on_the_page(finished):
    text = text_of(finished)
    for words in (
        "83 % of the 912 supported latents",
        "mean SI is 0.181 (95 % CI 0.171–0.192); shuffled task labels give 0.00612",
        "16,854 validated edges (0 survive randomised firing)",
        "Q = 0.360, against 0.0801 for graphs with the same degrees (z = 187, p ≤ 1/21)",
        "Within tasks Q is still 0.324",
        "of the joint firing above chance, 86 % is vocabulary",
        "token ids do not explain has modularity Q = 0.369, against 0.166",
        "community within tokens",
        "communities within token ids",
        "naive SI 0.271, naive Q 0.981",
        "EleutherAI/pythia-70m",
        "layers.3",
        "docs/definitions.md",
        "wandb sync wandb/offline-run-20260101_120000-k3v9x2ab",
    ):
        assert words in text


def test_page_is_self_contained_and_escaped(finished):
    source = (finished / "report.html").read_text(encoding="utf-8")
    assert "<script" not in source
    assert html.escape(EVIL) in source
    for mark in ('src="http', "src='http", 'rel="stylesheet"', "@import", "url(http", 'xlink:href="http'):
        assert mark not in source
    assert "Content-Security-Policy" in source
    assert len(source.encode()) < 2_000_000


def test_page_is_well_formed_and_ids_are_unique(finished):
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.ids, self.labels = [], [], []

        def handle_starttag(self, tag, attrs):
            attrs = dict(attrs)
            self.ids += [attrs["id"]] if "id" in attrs else []
            if tag == "svg":
                self.labels.append(attrs.get("aria-label"))
            if tag not in {"meta", "br", "wbr"}:
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            self.ids += [value for name, value in attrs if name == "id"]

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed((finished / "report.html").read_text(encoding="utf-8"))
    assert not reader.open
    assert len(reader.ids) == len(set(reader.ids))
    assert len(reader.labels) == len(FIGURES)
    assert all(reader.labels)


def test_p_and_q_at_their_floor_are_bounds(finished):
    text = " ".join(re.sub(r"<[^>]+>", " ", text_of(finished)).split())
    assert "q-value ≤ 0.0012" in text  # si_p 0.001 of 1,000 permutations
    assert re.search(r"0.280 \(z = 187, p ≤ 1/21\)", text)
    assert re.search(r"q/p ≤ 1/21 ", text)


def test_figures_are_whole_svg_files(finished):
    assert sorted(path.stem for path in (finished / "figures").glob("*.svg")) == FIGURES
    for path in (finished / "figures").iterdir():
        assert path.suffix == ".svg"
        ElementTree.fromstring(path.read_text(encoding="utf-8"))


def test_null_metrics_are_a_dash_with_their_reason(finished):
    text = text_of(finished)
    assert '<abbr title="no qa window among the metrics.lm_tokens tokens">—</abbr>' in text
    assert "dynk/k_at_ppl_1pct, dynk/k_at_ppl_5pct" in text
    assert "nan" not in re.sub(r"<style.*?</style>|<svg.*?</svg>", "", text, flags=re.DOTALL).lower().split()


def test_every_metric_and_every_task_is_shown(finished):
    text = text_of(finished)
    assert all(f"<code>{key}</code>" in text for key in metrics())
    assert all(f"<h3>{task}</h3>" in text for task in TASKS)
    assert "<html><body>↵⇥" in text  # whitespace of a context is visible


def test_same_folder_gives_the_same_page(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_large_sae_stays_small(tmp_path):
    page_path = write_report(write_run(tmp_path / "run", latents=5000, supported=4000))
    assert page_path.stat().st_size < 2_000_000


def test_only_metrics_json_is_needed(run):
    for path in run.iterdir():
        if path.name != "metrics.json":
            path.unlink()
    write_report(run)
    text = text_of(run)
    assert "Not in this run folder" in text
    assert "features.parquet" in text
    assert "83 % of the 90 supported latents" in text


@pytest.mark.parametrize(
    "name", ["features.parquet", "examples.parquet", "histograms.json", "provenance.json"]
)
def test_any_optional_file_may_be_missing(run, name):
    (run / name).unlink()
    assert write_report(run).is_file()


def test_missing_metrics_is_one_line(run):
    (run / "metrics.json").unlink()
    with pytest.raises(ReportError, match=r"metrics\.json is missing") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_missing_folder_is_one_line(tmp_path):
    with pytest.raises(ReportError, match="no run folder"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["status.json", "config.yaml", "features.parquet"])
def test_broken_file_is_named(run, name):
    (run / name).write_text("{ [")
    with pytest.raises(ReportError, match=re.escape(name)) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)


def test_failure_leaves_the_old_page(run, monkeypatch):
    before = write_report(run).read_bytes()
    change(run / "metrics.json", si__mean=0.5)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert not list(run.rglob(".*"))  # no temporary file stays behind


def test_page_of_a_failed_run_says_so(run):
    change(run / "status.json", state="failed", error="out of memory <b>")
    write_report(run)
    assert "The run did not finish (failed): out of memory <b>." in text_of(run)
    assert "<b>." not in (run / "report.html").read_text()


def test_only_web_addresses_become_links(run):
    change(run / "tracking.json", url="javascript:alert(1)")
    write_report(run)
    assert "javascript:" not in text_of(run)
    change(run / "tracking.json", url="https://wandb.ai/me/saescope/runs/k3v9x2ab")
    write_report(run)
    assert 'href="https://wandb.ai/me/saescope/runs/k3v9x2ab"' in text_of(run)


def test_importing_the_report_is_light():
    code = (
        "import saescope.report, sys;"
        "print([m for m in ('torch', 'hydra', 'matplotlib', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_writing_a_report_needs_no_torch_no_hydra_no_pyplot(run):
    code = (
        "import sys, pathlib, saescope.report as report; report.write_report(pathlib.Path(sys.argv[1]));"
        "print([m for m in ('torch', 'hydra', 'omegaconf', 'matplotlib.pyplot') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_odd_task_names_are_shown_as_they_are(tmp_path, monkeypatch):
    odd = "a/$b$ <i>_^{"
    monkeypatch.setattr(report_folder, "TASKS", [odd, *TASKS[1:]])
    monkeypatch.setattr(report_folder, "TEXTS", report_folder.TEXTS | {odd: ("one", " two", " three")})
    run = write_run(tmp_path / "run", latents=400, supported=90)
    write_report(run)
    assert f"<h3>{html.escape(odd)}</h3>" in (run / "report.html").read_text()
    assert f"<h3>{odd}</h3>" in text_of(run)
    for name in ("tasks", "communities"):
        drawn = ElementTree.parse(run / "figures" / f"{name}.svg").getroot()
        assert odd in {(element.text or "").strip() for element in drawn.iter()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_text_on_a_mark_can_be_read(scheme, strength):
    """Contrast of at least 4.5 between ink and mark, on both pages; the marks' opacities are in the CSS."""
    css = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "features.css"))
    blocks = re.findall(r":root(?::not\(\.paper\))? \{(.*?)\}", css, flags=re.DOTALL)
    values = dict(re.findall(r"--([a-z]+): ([^;]+);", blocks[["light", "dark"].index(scheme)]))
    opacities = re.findall(r"rgb\(var\(--mark\) / calc\(([.\d]+) \+ ([.\d]+) \* var\(--strength\)\)\)", css)
    assert len(opacities) == 2
    paper, ink = ([int(values[name][at : at + 2], 16) for at in (1, 3, 5)] for name in ("paper", "ink"))
    mark = [int(part) for part in values["mark"].split()]
    for low, range_ in opacities:
        alpha = float(low) + float(range_) * strength
        ground = [alpha * a + (1 - alpha) * b for a, b in zip(mark, paper, strict=True)]
        light, dark = sorted(map(luminance, (ink, ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: list[float]) -> float:
    """Relative luminance of sRGB, WCAG 2."""
    parts = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_a_folder_on_this_machine_is_named_not_spelt_out(run):
    change(
        run / "provenance.json",
        model={"name": "/data/models/small"},
        sae={"source": "local", "repo": "/x/12-00/sae"},
    )
    assert title(open_run(run))[::2] == ["small", "12-00/sae"]
    change(
        run / "provenance.json", model={"name": "EleutherAI/pythia-70m"}, sae={"repo": "EleutherAI/sae-70m"}
    )
    assert title(open_run(run))[::2] == ["EleutherAI/pythia-70m", "EleutherAI/sae-70m"]


def test_the_sections_are_listed_and_each_is_there(finished):
    source = (finished / "report.html").read_text(encoding="utf-8")
    (contents,) = re.findall(r'<nav class="contents".*?</nav>', source, re.DOTALL)
    links = re.findall(r'<a href="#([\w-]+)">([^<]+)</a>', contents)
    headings = re.findall(r'<h2 id="([\w-]+)">([^<]+)</h2>', source)
    assert links == headings
    assert ("latents", "Most specialised latents") in links


def test_the_command_is_on_the_page_where_it_is_recorded(run):
    write_report(run)
    assert "Measured with" not in text_of(run)
    change(run / "status.json", overrides=["sae.k=16", "model.name=<b>a b</b>"])
    write_report(run)
    assert "Measured with <code>saescope sae.k=16 'model.name=<b>a b</b>'</code>" in text_of(run)
    assert "<b>a b" not in (run / "report.html").read_text(encoding="utf-8")
