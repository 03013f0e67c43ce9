"""The pages as a reader uses them, in headless Chromium (make test-pages)."""

import json
import re
from pathlib import Path

import pytest

from tests.report.browser import AXE, act, dump

pytestmark = pytest.mark.browser

ROWS = """
  const heading = label => all("#list thead button").find(button => button.textContent === label);
  const column = label => [...one("#list").tHead.rows[0].cells].findIndex(cell => cell.textContent === label);
  const cells = at => all("#list tbody tr").map(row => row.cells[at].textContent);
  await until(() => all("#list tbody tr").length);
"""


@pytest.fixture(scope="module")
def run(measured):
    return measured


@pytest.fixture(scope="module")
def features(run):
    return run.features[run.features.supported].reset_index(drop=True)


@pytest.fixture(scope="module")
def sweep(sweep_page) -> Path:
    return sweep_page


def latents_page(run) -> Path:
    return run.path / "features.html"


def test_an_address_opens_its_latent(run, features):
    latent, other = int(features.latent[3]), int(features.latent[7])
    seen = act(
        latents_page(run),
        f"""
        await until(() => one("#latent h2"));
        const first = [text("#latent h2"), document.title, all("#latent .spans li").length];
        await to("#latent-{other}");
        await until(() => text("#latent h2") === "Latent {other}");
        return {{first, focus: document.activeElement.textContent,
                 marks: all("#latent .spans .about").length, svg: one("#latent svg").getAttribute("role")}};
        """,
        f"latent-{latent}",
    )
    assert seen["first"][0] == f"Latent {latent}"
    assert seen["first"][1].startswith(f"Latent {latent} ")
    assert seen["first"][2] > 0
    assert seen["focus"] == f"Latent {other}"
    assert seen["marks"] > 0
    assert seen["svg"] == "img"


def test_it_does_so_under_its_own_policy(run, features):
    latent = int(features.latent[3])
    assert f'<h2 tabindex="-1">Latent {latent}</h2>' in dump(latents_page(run), f"latent-{latent}")


def test_an_unknown_latent_is_said_to_be_unknown(run):
    seen = act(latents_page(run), 'await until(() => one("#latent h2")); return text("#latent");',
               "latent-999999")  # fmt: skip
    assert "Latent 999999" in seen
    assert "does not exist" in seen


def test_a_heading_sorts_both_ways(run, features):
    seen = act(
        latents_page(run),
        ROWS
        + """
        const at = column("SI"), cell = one("#list").tHead.rows[0].cells[at];
        const read = () => [cell.getAttribute("aria-sort"), cells(at)];
        const first = read();
        heading("SI").click();
        const second = read();
        heading("SI").click();
        return [first, second, read()];
        """,
    )
    ordered = features.si.sort_values().to_numpy()
    assert [order for order, _ in seen] == ["descending", "ascending", "descending"]
    assert [float(text) for text in seen[0][1]] == pytest.approx(ordered[::-1][:50], rel=6e-3)
    assert [float(text) for text in seen[1][1]] == pytest.approx(ordered[:50], rel=6e-3, abs=1e-3)
    assert seen[2] == seen[0]


def test_search_takes_a_token_or_a_number(run, features):
    latent = int(features.latent[5])
    seen = act(
        latents_page(run),
        ROWS
        + f"""
        const token = column("most frequent token");
        const word = cells(token).find(text => /^ ?[a-z]{{2,}}$/.test(text)).trim();
        await type("#query", word.toUpperCase());
        const by_token = [word, cells(token)];
        await type("#query", "{latent}");
        return {{by_token, by_number: cells(0), count: text("#count")}};
        """,
    )
    word, found = seen["by_token"]
    assert found
    assert all(word in text.lower() for text in found)
    assert str(latent) in seen["by_number"]
    assert re.match(r"\d+ of ", seen["count"])


def test_community_filters_by_address_and_by_choice(run, features):
    seen = act(
        latents_page(run),
        ROWS
        + """
        const count = () => Number(text("#count").split(" ")[0].replace(",", ""));
        const whole = count(), seen = {};
        await to("#community-1"); seen.plain = count();
        await to("#within-community-0"); seen.within = count();
        await type("#of-within", ""); await type("#of-community", "0"); seen.chosen = count();
        seen.cards = all("#list .card-link").slice(0, 3).map(link => link.getAttribute("href"));
        return {whole, ...seen};
        """,
    )
    assert seen["whole"] == len(features)
    assert seen["plain"] == (features.community == 1).sum()
    assert seen["within"] == (features.community_within_token == 0).sum()
    assert seen["chosen"] == (features.community == 0).sum()
    assert seen["cards"] == ["report.html#community-0"] * 3


def test_pages_of_the_table(run, features):
    seen = act(
        latents_page(run),
        ROWS
        + """
        const seen = [[text("#page"), one("#back").disabled, one("#on").disabled, cells(0)]];
        while (!one("#on").disabled) {
          one("#on").click();
          seen.push([text("#page"), one("#back").disabled, one("#on").disabled, cells(0)]);
        }
        one("#back").click();
        return {seen, back: cells(0)};
        """,
    )
    pages = seen["seen"]
    assert pages[0][:3] == [f"page 1 of {len(pages)}", True, False]
    assert pages[-1][:3] == [f"page {len(pages)} of {len(pages)}", False, True]
    numbers = [int(number.replace(",", "")) for page in pages for number in page[3]]
    assert sorted(numbers) == features.latent.tolist()
    assert seen["back"] == pages[-2][3]


def test_links_lead_both_ways(run, features):
    """Every address on one page is there on the other."""
    latent = int(features.latent[features.community >= 0].iloc[0])
    back = act(
        latents_page(run),
        """
        await until(() => one("#latent h2"));
        return all("a").map(link => link.getAttribute("href")).filter(address => !address.startsWith("#"));
        """,
        f"latent-{latent}",
    )
    forth = act(
        run.path / "report.html",
        """
        const links = all("a[href^='features.html#']");
        const latent = links.find(link => link.hash.startsWith("#latent-"));
        latent.click();
        return {addresses: links.map(link => link.getAttribute("href")), targets,
                clicked: latent.getAttribute("href"), ids: all("[id]").map(element => element.id)};
        """,
    )
    assert "report.html" in back
    assert len(back) > 3
    for address in back:
        page, _, anchor = address.partition("#")
        assert (run.path / page).is_file()
        assert not anchor or anchor in forth["ids"]
    assert forth["targets"][0].endswith(forth["clicked"])
    latents = {f"features.html#latent-{number}" for number in features.latent}
    communities = {f"features.html#community-{number}" for number in features.community} | {
        f"features.html#within-community-{number}" for number in features.community_within_token
    }
    assert set(forth["addresses"]) <= latents | communities
    numbers = (features.community, features.community_within_token)
    assert len(set(forth["addresses"]) & communities) == sum(of[of >= 0].nunique() for of in numbers)


def test_space_and_enter_sort_the_jobs(sweep):
    seen = act(
        sweep,
        """
        const headings = all("#table thead th");
        const at = headings.findIndex(cell => cell.textContent === "si/mean");
        const press = key => {
          const event = new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true});
          headings[at].dispatchEvent(event);
          return event.defaultPrevented;
        };
        const column = () => all("#table tbody tr").map(row => row.cells[at].dataset.sort);
        const space = [press(" "), headings[at].getAttribute("aria-sort"), column()];
        const enter = [press("Enter"), headings[at].getAttribute("aria-sort"), column()];
        press("x");
        return {space, enter, other: headings[at].getAttribute("aria-sort"), tab: headings[at].tabIndex};
        """,
    )
    space, enter = ([float(text) for text in seen[key][2] if text] for key in ("space", "enter"))
    assert seen["space"][:2] == [True, "ascending"]
    assert seen["enter"][:2] == [True, "descending"]
    assert space == sorted(space)
    assert enter == space[::-1]
    assert seen["space"][2][-1] == seen["enter"][2][-1] == ""  # the failed job stays last
    assert (seen["other"], seen["tab"]) == ("descending", 0)


@pytest.mark.parametrize("figure", ["#picker-plot", "#along-plots .plot", "#front-plot"])
def test_a_click_on_a_point_opens_its_job(sweep, figure):
    seen = act(
        sweep,
        f"""
        await until(() => one("{figure} .scatterlayer .point"));
        const figure = one("{figure}"), list = one("#" + figure.id + "-jobs");
        figure.scrollIntoView();
        await pause(300);
        const box = one("{figure} .scatterlayer .point").getBoundingClientRect();
        const at = {{clientX: box.x + box.width / 2, clientY: box.y + box.height / 2,
                     bubbles: true, cancelable: true, view: window}};
        const surface = one("{figure} .nsewdrag");
        surface.dispatchEvent(new MouseEvent("mousemove", at));
        await pause(300);
        const hover = all("{figure} .hoverlayer text").map(text => text.textContent);
        surface.dispatchEvent(new MouseEvent("mousedown", at));
        await pause(20);
        document.elementFromPoint(at.clientX, at.clientY).dispatchEvent(new MouseEvent("mouseup", at));
        await pause(500);
        return {{targets, hover, links: all("a", list).map(link => link.getAttribute("href")),
                 entry: list.querySelector("li").textContent}};
        """,
    )
    assert [re.search(r"/(\d)/report\.html$", target) is not None for target in seen["targets"]] == [True]
    jobs = range(4) if figure == "#along-plots .plot" else range(5)  # the last k of expansion 32 failed
    assert set(seen["links"]) == {f"{at}/report.html" for at in jobs}
    assert re.search(r"sae\.(k|expansion_factor) \d+", seen["hover"][0])
    assert re.search(r"(si/mean|sae/fvu|lm/ce_score) 0\.\d{3}", seen["entry"]), seen["entry"]
    if figure != "#front-plot":
        assert re.search(r"si/mean 0\.\d{3} \(0\.\d{3}–0\.\d{3}\)", seen["entry"]), seen["entry"]


def test_matched_measures_take_the_place_of_the_others(sweep):
    seen = act(
        sweep,
        """
        const read = () => all("#along-plots .cell:not([hidden]) .plot").map(plot =>
          [all(".scatterlayer .point", plot).length > 0, plot.querySelector(".ytitle").textContent]);
        await until(() => one("#along-plots .scatterlayer .point"));
        const before = read();
        one("#matched").click();
        await pause(200);
        return {before, after: read()};
        """,
    )
    assert len(seen["before"]) == len(seen["after"]) == 4  # SI and Q along two axes
    assert all(drawn for drawn, _ in seen["before"] + seen["after"])
    assert not {name for _, name in seen["before"]} & {name for _, name in seen["after"]}


def test_every_figure_has_a_name(sweep):
    seen = act(
        sweep,
        """
        await until(() => one("#picker-plot svg[role=img]"));
        return {pictures: all("svg[role=img]").map(svg => svg.getAttribute("aria-label")),
                bare: all("svg:not([aria-label])").filter(svg => !svg.closest("[aria-hidden]")).length,
                plots: all(".plot").filter(plot => plot.layout).length};
        """,
    )
    assert len(seen["pictures"]) == seen["plots"]
    assert all(seen["pictures"])
    assert seen["bare"] == 0


PAGES = ["report.html", "features.html", "sweep.html"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(run, sweep, features, name, dark):
    if not AXE.is_file():
        pytest.skip(f"no axe-core in {AXE.parent} (make test-pages fetches it where npm is)")
    page = sweep if name == "sweep.html" else run.path / name
    seen = act(
        page,
        """
        all("details").forEach(part => { part.open = true; });
        if (document.getElementById("list")) await until(() => one("#latent h2"));
        one("#outcome").remove();
        const checked = await axe.run(document, {resultTypes: ["violations"]});
        document.body.insertAdjacentHTML("beforeend", '<pre id="outcome"></pre>');
        return checked.violations.filter(rule => ["serious", "critical"].includes(rule.impact))
          .map(rule => [rule.id, rule.nodes.length, rule.nodes.slice(0, 3).map(node =>
            node.html.slice(0, 200) + node.failureSummary.slice(0, 300))]);
        """,
        f"latent-{int(features.latent[0])}" if name == "features.html" else "",
        dark=dark,
        library=AXE.read_text(encoding="utf-8").replace("</script", "<\\/script"),
    )
    assert seen == [], json.dumps(seen, indent=1)[:3000]
