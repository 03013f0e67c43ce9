"""The pages at three widths, light and dark, and on paper, in headless Chromium (make test-pages)."""

import json

import pytest

from saescope.report import write_report
from tests.report import test_causal, test_causal_layers
from tests.report.devtools import PAPER, Tab
from tests.report.report_folder import write_run

pytestmark = pytest.mark.browser

CUT = """[...document.querySelectorAll('body *')].filter(part => {
  const box = part.getBoundingClientRect(), style = getComputedStyle(part);
  const seen = box.width > 1 && box.height > 1 && style.visibility !== 'hidden';
  const edge = document.documentElement.clientWidth + 1;
  return seen && !part.closest('.quiet, [aria-hidden=true], svg, bdi') && (box.right > edge || box.left < -1);
}).map(part => part.tagName + '.' + part.className + ' ' + part.textContent.slice(0, 60)).slice(0, 8)"""
"""Parts that reach beyond the page; of a text only spaces at the end of a line do."""
NO_SCROLLING = CUT.replace("!part.closest('", "!part.closest('.scroll *, ")
"""The same without what stands in a box that scrolls."""


@pytest.fixture(scope="module")
def pages(measured, sweep_page):
    latent = int(measured.features[measured.features.supported].latent.iloc[0])
    return {
        "report.html": (measured.path / "report.html", "", "document.querySelector('.panel svg')"),
        "features.html": (
            measured.path / "features.html",
            f"latent-{latent}",
            "document.querySelector('#latent .spans li') && document.querySelector('#list tbody tr')",
        ),
        "sweep.html": (sweep_page, "", "document.querySelector('#hist-plot .scatterlayer .trace')"),
    }


@pytest.fixture(scope="module")
def effects(tmp_path_factory):
    """The page of a run with ablations of eight tasks, at one hookpoint and at several."""
    folder = write_run(tmp_path_factory.mktemp("effects") / "run", latents=256, supported=60)
    values = json.loads((folder / "metrics.json").read_text()) | test_causal.VALUES
    (folder / "metrics.json").write_text(json.dumps(values | test_causal_layers.VALUES))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config + "causal: {method: ablate, draws: 50}\n")
    tasks = ["code", "dialogue", "instructions", "mathematics", "prose", "questions", "reasoning", "tables"]
    test_causal.table(tasks=tasks).to_parquet(folder / "causal.parquet")
    test_causal_layers.table(tasks).to_parquet(folder / "causal_layers.parquet")
    return write_report(folder), "", "document.querySelectorAll('.broad svg').length === 2"


UNFOLD = "document.querySelectorAll('details').forEach(part => { part.open = true; })"
NAMES = ["report.html", "features.html", "sweep.html"]


@pytest.mark.parametrize("width", [390, 900, 1400])
@pytest.mark.parametrize("name", NAMES)
def test_no_page_scrolls_sideways(pages, name, width):
    page, fragment, there = pages[name]
    with Tab(page, fragment, width=width) as tab:
        tab.until(there)
        tab.run(UNFOLD)
        assert tab.run("document.documentElement.scrollWidth") <= width, tab.run(NO_SCROLLING)
        assert tab.run(NO_SCROLLING) == []
        assert tab.errors == []
        assert [address for address in tab.requests if not address.startswith("data:")] == [
            tab.run("location.href.split('#')[0]")
        ]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_on_paper(pages, name):
    page, fragment, there = pages[name]
    with Tab(page, fragment, width=PAPER, media="print") as tab:
        tab.until(there)
        tab.run(UNFOLD)
        tab.run("dispatchEvent(new Event('beforeprint'))")
        assert tab.run("document.documentElement.scrollWidth") <= PAPER, tab.run(CUT)
        assert tab.run(CUT) == []
        boxes = "[...document.querySelectorAll('.scroll, .tall')]"
        cut = "box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1"
        assert tab.run(f"{boxes}.filter(box => {cut}).map(box => box.getAttribute('aria-label'))") == []
        assert tab.errors == []


@pytest.mark.parametrize("name", NAMES)
def test_bars_and_marks_are_printed(pages, name):
    page, fragment, there = pages[name]
    with Tab(page, fragment, media="print") as tab:
        tab.until(there)
        parts = "[...document.querySelectorAll('.bar span, mark, [data-act], .overlap td')]"
        adjusted = tab.run(f"{parts}.map(part => getComputedStyle(part).printColorAdjust)")
        assert set(adjusted) <= {"exact"}
        if name == "sweep.html":
            points = "[...document.querySelectorAll('.scatterlayer .point, .scatterlayer .points')]"
            shown = tab.run(f"{points}.map(point => getComputedStyle(point).display)")
            assert len(shown) > 50
            assert "none" not in shown
        assert adjusted


@pytest.mark.parametrize("name", NAMES)
def test_paper_is_light(pages, name):
    page, fragment, there = pages[name]
    with Tab(page, fragment, dark=True, media="print") as tab:
        tab.until(there)
        tab.run("dispatchEvent(new Event('beforeprint'))")
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.run("getComputedStyle(document.querySelector('h1')).color") == "rgb(31, 36, 41)"
        if name == "sweep.html":
            assert tab.run("document.getElementById('picker-plot').layout.font.color") == "#1f2429"


OVERLAPPED = """[...document.querySelectorAll('.plot')].filter(plot => plot.querySelector('.legend .bg')
  && plot.querySelector('.nsewdrag')).map(plot => {
    const legend = plot.querySelector('.legend .bg').getBoundingClientRect();
    const inside = plot.querySelector('.nsewdrag').getBoundingClientRect();
    const over = Math.min(legend.right, inside.right) - Math.max(legend.left, inside.left) > 1
      && Math.min(legend.bottom, inside.bottom) - Math.max(legend.top, inside.top) > 1;
    return [plot.id, over, Math.round(inside.height)];
  })"""
"""Of each figure with a legend: its name, whether the legend stands over the data, the height of the data."""


@pytest.mark.parametrize("paper", [False, True], ids=["screen", "paper"])
@pytest.mark.parametrize("width", [390, 900, 1400])
def test_legends_stand_beside_the_data(pages, width, paper):
    page, _, there = pages["sweep.html"]
    with Tab(page, width=width) as tab:
        tab.until(there)
        if paper:
            tab.run("dispatchEvent(new Event('beforeprint'))")
        tab.run("new Promise(done => setTimeout(done, 300))")
        figures = tab.run(OVERLAPPED)
        assert len(figures) > 4
        assert [name for name, over, _ in figures if over] == []
        assert [name for name, _, height in figures if height < 150] == []
        if paper:
            sizes = tab.run(
                "[...document.querySelectorAll('.plot')].filter(p => p.layout).map(p => p._fullLayout.width)"
            )
            assert set(sizes) == {660}
            # beside a figure a long legend would be cut and take its width
            legends = "[...document.querySelectorAll('.plot')].filter(plot => plot.querySelector('.legend'))"
            assert set(tab.run(f"{legends}.map(plot => plot._fullLayout.legend.orientation)")) == {"h"}


BROKEN = """[...document.querySelectorAll('.numbers :is(th, td)')].flatMap(cell => {
  if (!cell.offsetParent) return [];
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
  const words = node => node.data.matchAll(/[a-z]{3,}|[0-9.,]{3,}/g);
  for (let node; (node = walker.nextNode());) for (const match of words(node)) {
    const range = document.createRange();
    range.setStart(node, match.index);
    range.setEnd(node, match.index + match[0].length);
    if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) broken.push(match[0]);
  }
  return broken;
})"""
"""Words and numbers of tables that stand on more than one line."""


@pytest.mark.parametrize("name", [*NAMES, "effects"])
def test_tables_on_paper_break_no_word(pages, effects, name):
    page, fragment, there = effects if name == "effects" else pages[name]
    with Tab(page, fragment, width=PAPER, media="print") as tab:
        tab.until(there)
        tab.run(UNFOLD)
        assert tab.run(BROKEN) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_page_is_as_wide_after_printing(pages, name, tmp_path):
    page, fragment, there = pages[name]
    with Tab(page, fragment, width=390) as tab:
        tab.until(there)
        tab.pdf(tmp_path / "page.pdf")
        tab.run("new Promise(done => setTimeout(done, 500))")
        assert tab.run("document.documentElement.scrollWidth") <= 390, tab.run(NO_SCROLLING)
        assert tab.run(NO_SCROLLING) == []
        assert tab.errors == []


SMALLEST = """Math.min(...[...document.querySelectorAll('.panel svg text')].map(text =>
  parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b)))"""
"""Pixels of the smallest text on a figure of the run page."""


@pytest.mark.parametrize("width", [390, 900, 1400])
def test_no_text_of_a_figure_is_tiny(effects, width):
    page, _, there = effects
    with Tab(page, width=width) as tab:
        tab.until(there)
        assert tab.run(SMALLEST) > 7.5
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run(NO_SCROLLING) == []


@pytest.mark.parametrize("name", ["report.html", "sweep.html"])
def test_the_contents_lead_to_every_section(pages, name):
    page, fragment, there = pages[name]
    with Tab(page, fragment) as tab:
        tab.until(there)
        links = tab.run(
            "[...document.querySelectorAll('.contents li:not([hidden]) a')].map(a => [a.hash, a.textContent])"
        )
        headings = tab.run(
            "[...document.querySelectorAll('h2')].filter(part => part.offsetParent)"
            ".map(part => ['#' + part.id, part.textContent])"
        )
        assert links == headings
        assert len(links) > 4


def test_the_contents_need_no_script(measured):
    source = (measured.path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in source
    assert source.count('<nav class="contents"') == 1
    assert '<li><a href="#latents">Most specialised latents</a></li>' in source
