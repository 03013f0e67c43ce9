"""README and docs: every command composes, every link leads somewhere, the README's cell runs."""

import re
import shlex
from pathlib import Path

import pytest
from scripts import config_keys

import saescope

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def commands() -> list[str]:
    """The `saescope` commands of the shell blocks, one line each, without comments."""
    found = []
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if language != "sh":
                continue
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("saescope ") and "…" not in line:
                    found.append(line.split(" #")[0].strip())
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_every_command_composes(command):
    """Of a sweep the first value of every axis; presets have tests of their own."""
    _, *words = shlex.split(command)
    sweep = "-m" in words
    overrides = [word for word in words if word != "-m" and not word.startswith("sweep=")]
    if "sweep=controls" in words:  # its first job trains
        overrides = ["sae=train", *overrides]
    if sweep:
        overrides = [re.sub(r"=([^\[{,]+),.*", r"=\1", word) for word in overrides]
    cfg = saescope.compose(*overrides)
    assert cfg.sae.source


def test_there_are_commands():
    assert len(commands()) > 20


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[`*]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading)) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for groups in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target = groups[0] or groups[1]
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert re.sub(r"-+", "-", anchor) in {re.sub(r"-+", "-", one) for one in anchors(path)}, target


def test_the_readme_is_short_and_shows_a_picture_first():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") for line in lines[:20])
    assert max(map(len, lines)) < 200


def test_the_notebook_cell_of_the_readme_runs():
    blocks = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    (cell,) = (block for language, block in blocks if language == "python")
    names: dict[str, object] = {}
    exec(compile(cell, "README.md", "exec"), names)
    assert isinstance(names["result"], saescope.Measurement)
    assert names["result"].metrics["features/num_latents"] == 1024


def test_the_page_of_config_keys_is_that_of_the_dataclasses():
    text = (ROOT / "docs" / "config-keys.md").read_text(encoding="utf-8")
    assert text == config_keys.page(), "run python scripts/config_keys.py"
    assert "|  |\n" not in text, "a key without a sentence"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f" {page.name}\n" not in navigation] == []
