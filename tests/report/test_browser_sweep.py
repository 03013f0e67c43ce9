"""The choice of jobs on a sweep page, in headless Chromium (make test-pages)."""

import re

import pytest

from saescope.report.sweep import write_sweep
from tests.report.devtools import Tab
from tests.report.sweep_folders import write_job, write_lacking

pytestmark = pytest.mark.browser

JOBS_OF = """(selector => [...new Set(document.querySelector(selector).data
  .flatMap(trace => (trace.customdata || []).flat()))].sort((a, b) => a - b))"""
ROWS = """[...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)
  .map(row => row.cells[0].textContent)"""
PLACES = """[...document.querySelectorAll('#picker-plot .scatterlayer .point')]
  .map(point => point.getBoundingClientRect()).map(box => [box.x + box.width / 2, box.y + box.height / 2])"""
ALONG = "#along-plots .cell:not([hidden]) .plot[id^=along-{axis}]"
FIGURES = ["#picker-plot", "#front-plot", ALONG.format(axis=0), ALONG.format(axis=1), "#hist-plot"]
DRAWN = "document.querySelector('#picker-plot .scatterlayer .point')"
ALL_DRAWN = f"{FIGURES}.every(figure => document.querySelector(figure)?.data)"


def jobs_shown(tab: Tab) -> list[list[int]]:
    return [tab.run(f"{JOBS_OF}('{figure}')") for figure in FIGURES]


def tick(tab: Tab, key: str, value: str) -> None:
    tab.run(f"""document.querySelector(`#choices input[name="{key}"][value="{value}"]`).click()""")


def test_a_value_of_an_axis_filters_every_figure_and_stays_in_the_address(sweep_page):
    with Tab(sweep_page) as tab:
        tab.until(DRAWN)
        assert jobs_shown(tab) == [
            [0, 1, 2, 3, 4],
            [0, 1, 2, 3, 4],
            [0, 1, 2, 3],
            [0, 1, 2, 3, 4],
            [0, 1, 2, 3, 4],
        ]
        tick(tab, "sae.expansion_factor", "16")
        left = [[0, 1, 4], [0, 1, 4], [0, 1], [0, 1, 4], [0, 1, 4]]
        assert jobs_shown(tab) == left
        assert tab.run(ROWS) == ["0", "1", "4", "5"]  # the failed one is in no figure and stays
        assert tab.run("location.hash") == "#sae.expansion_factor=8&sae.expansion_factor=32"
        assert tab.run("document.getElementById('chosen').textContent").startswith("3 of 5 finished jobs")
        tick(tab, "sae.k", "32")
        assert jobs_shown(tab)[0] == [0, 4]
        tab.run("history.back()")
        tab.until(f"{JOBS_OF}('#picker-plot').length === 3")
        assert jobs_shown(tab) == left
        assert tab.run(
            "[...document.querySelectorAll('#choices input:not(:checked)')].map(box => box.value)"
        ) == ["16"]
        tab.run("document.getElementById('show-all').click()")
        assert len(jobs_shown(tab)[0]) == 5
        assert tab.run("[location.hash, document.getElementById('chosen').hidden]") == ["", True]
        assert tab.errors == []


def test_an_address_with_a_choice_opens_with_it(sweep_page):
    address = "sae.expansion_factor=16&pick-x=sae%2Fl0&matched=yes"
    with Tab(sweep_page, address) as tab:
        tab.until(DRAWN)
        assert jobs_shown(tab)[0] == [2, 3]
        assert tab.run("document.getElementById('pick-x').value") == "sae/l0"
        assert tab.run("document.getElementById('matched').checked")
        assert tab.run("document.querySelector('#picker-plot .xtitle').textContent") == tab.run(
            "metrics.labels['sae/l0']"
        )
        # the link to a section goes there and leaves the choice in the address
        tab.run("document.querySelector('.contents a[href=\"#picker\"]').click()")
        assert tab.run("location.hash") == "#" + address
        assert abs(tab.run("document.getElementById('picker').getBoundingClientRect().y")) < 120
        assert tab.errors == []


@pytest.mark.parametrize("address", ["sae.k=999", "sae.k=16&job=3", "job=none"])
def test_a_choice_that_no_job_fits_shows_all_and_says_so(sweep_page, address):
    with Tab(sweep_page, address) as tab:
        tab.until(DRAWN)
        assert len(jobs_shown(tab)[0]) == 5
        assert tab.run("document.getElementById('chosen').textContent").startswith("No job fits")
        assert tab.errors == []


def test_a_drag_over_points_shows_their_jobs_in_every_figure(sweep_page):
    with Tab(sweep_page) as tab:
        tab.until(DRAWN)
        tab.run("document.querySelector('#picker-plot').scrollIntoView({block: 'center'})")
        x, y = min(tab.run(PLACES))
        tab.drag((x - 10, y - 10), (x + 10, y + 10))
        tab.until("location.hash.startsWith('#job=')")
        shown = jobs_shown(tab)
        assert shown[0] == shown[1] == shown[3] == shown[4]
        assert len(shown[0]) == 1
        assert tab.run("location.hash") == "#" + "&".join(f"job={job}" for job in shown[0])
        tab.run("window.before = true, location.reload()")
        tab.until(f"!window.before && {ALL_DRAWN}")  # the page before is there for a while
        assert jobs_shown(tab) == shown
        assert tab.errors == []


def test_a_drag_along_a_parallel_axis_shows_its_jobs_in_every_figure(sweep_page):
    with Tab(sweep_page) as tab:
        tab.until(DRAWN)
        if tab.run("document.getElementById('parallel-plot').closest('section').hidden"):
            pytest.skip("no WebGL, so no parallel axes")
        brush = "document.querySelector('#parallel-plot .axis-brush .background')"
        tab.until(brush)
        tab.run(f"{brush}.scrollIntoView({{block: 'center'}})")
        axis = f"(box => [box.x + box.width / 2, box.y, box.height])({brush}.getBoundingClientRect())"
        x, top, height = tab.run(axis)
        key = tab.run("data.axes[0]")
        column = f"data.values.columns['{key}']"
        lowest = tab.run(f"data.values.index.filter((_, n) => {column}[n] === Math.min(...{column}))")
        assert 0 < len(lowest) < 5
        tab.drag((x, top + 0.6 * height), (x, top + height - 2))
        tab.until("location.hash.startsWith('#job=')")
        shown = jobs_shown(tab)
        assert shown[0] == shown[1] == shown[4] == lowest
        assert tab.errors == []


def test_controls_can_be_left_out_or_looked_at_alone(tmp_path):
    for at, (k, random_init) in enumerate([(16, False), (32, False), (16, True), (32, True)]):
        write_job(tmp_path / str(at), k=k, random_init=random_init)
    write_sweep([tmp_path], tmp_path)
    with Tab(tmp_path / "sweep.html") as tab:
        tab.until(DRAWN)
        for value, jobs in (("without", [0, 1]), ("only", [2, 3]), ("", [0, 1, 2, 3])):
            tab.run(f"document.querySelector('#choices select').value = {value!r}")
            tab.run("document.querySelector('#choices select').dispatchEvent(new Event('change'))")
            assert tab.run(f"{JOBS_OF}('#picker-plot')") == jobs
            assert tab.run("location.hash") == (f"#control={value}" if value else "")


def test_the_effect_of_one_axis_by_another_is_that_of_the_table_of_steps(sweep_page):
    with Tab(sweep_page) as tab:
        tab.until("document.querySelector('#effect-plot .scatterlayer .point')")
        assert tab.run("[...document.querySelectorAll('#effect-pair option')].map(o => o.textContent)") == [
            "sae.k, by sae.expansion_factor",
            "sae.expansion_factor, by sae.k",
        ]
        traces = tab.run(
            "document.getElementById('effect-plot').data.map(t => [t.name, t.x, t.y, t.error_y.array])"
        )
        wanted = tab.run(
            "data.effects.filter(s => s.axis === 'sae.k' && s.measure === metrics.main)"
            ".map(s => [s.at['sae.expansion_factor'], s.change, s.noise])"
        )
        ((name, x, y, noise),) = traces
        assert name == "16 → 32"
        assert [list(point) for point in zip(x, y, noise, strict=True)] == wanted
        assert all(half > 0 for half in noise)


def test_distributions_are_sums_beside_what_chance_gives(sweep_page):
    with Tab(sweep_page) as tab:
        tab.until("document.querySelector('#hist-plot .scatterlayer .trace')")
        traces = tab.run("document.getElementById('hist-plot').data.map(t => [t.name, t.y])")
        nulls = [y for name, y in traces if name == "by chance"]
        assert len(nulls) == 5
        for _, y in traces:
            assert y[0] == 0
            assert y == sorted(y)
            assert y[-1] == pytest.approx(1)
        assert all(null[5] > own[5] for own, null in zip(traces[::2], nulls, strict=True) for own in [own[1]])


def test_a_command_can_be_copied(sweep_page):
    with Tab(sweep_page) as tab:
        code = "document.querySelector('.commands code')"
        tab.run(f"{code}.closest('details').open = true")
        assert tab.run(f"{code}.textContent") == (
            "saescope sae.k=16 sae.expansion_factor=8 hookpoint.depth=0.5 sae.init_seed=0"
        )
        tab.run(f"{code}.parentElement.querySelector('button').click()")
        tab.until(f"{code}.parentElement.querySelector('button').textContent !== 'copy'")
        assert tab.run("getSelection().toString()") == tab.run(f"{code}.textContent")


SAID = """(() => {
  const parts = [...document.querySelectorAll('body *')].filter(part => !part.closest('script, style'));
  const texts = part => [...part.childNodes].filter(node => node.nodeType === 3).map(node => node.data);
  const traces = [...document.querySelectorAll('.plot')].flatMap(plot => plot.data || []);
  const ticks = trace => (trace.dimensions || []).flatMap(dimension => dimension.ticktext || []);
  return [
    ...parts.flatMap(part => [...texts(part), part.getAttribute('aria-label'), part.getAttribute('title')]),
    ...traces.flatMap(each => [each.name, each.hovertemplate, each.text, each.x, each.y, ticks(each)].flat()),
  ].filter(text => typeof text === 'string');
})()"""
"""Every text of a page: what it shows, what stands on its figures and what their tooltips say."""


def test_what_a_job_does_not_have_is_a_dash_in_every_figure(tmp_path):
    write_lacking(tmp_path)
    write_sweep([tmp_path], tmp_path)
    with Tab(tmp_path / "sweep.html") as tab:
        tab.until(DRAWN)
        for select, value in (("pick-x", "sae.lr"), ("pick-colour", "sae.k"), ("hist-colour", "sae.lr"),
                              ("heat-pair", "1"), ("effect-pair", "1")):  # fmt: skip
            tab.run(f"document.getElementById({select!r}).value = {value!r}")
            tab.run(f"document.getElementById({select!r}).dispatchEvent(new Event('change'))")
        tab.run("new Promise(done => setTimeout(done, 300))")
        said = tab.run(SAID)
        assert [text for text in said if re.search(r"\b(None|null|nan|NaN|undefined)\b", text)] == []
        # the one `none` is the choice of no colour
        assert {text for text in said if re.search(r"\bnone\b(?! is set beside)", text)} == {"none"}
        assert tab.run(
            "[...document.querySelectorAll('#heat-plot .ytick text')].map(t => t.textContent)"
        ) == ["0.1", "—"]  # what has none comes last
        assert tab.run("[...document.querySelectorAll('#choices fieldset')].map(f => f.textContent)")[:3] == [
            "sae.source neurons train", "sae.k — 16 32", "sae.lr — 0.1",
        ]  # fmt: skip
        tick(tab, "sae.lr", "")
        assert tab.run("location.hash").endswith("&sae.lr=0.1")
        assert tab.run(f"{JOBS_OF}('#picker-plot')") == [1, 3]
        assert tab.errors == []
    with Tab(tmp_path / "sweep.html", "sae.lr=") as tab:
        tab.until(DRAWN)
        assert tab.run(f"{JOBS_OF}('#picker-plot')") == [0, 2, 4]
