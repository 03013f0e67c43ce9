"""Jinja templates of all pages; values from files are escaped."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
CONTENTS = "<!-- contents -->"
"""Where a template wants the list of its sections."""
_SECTION = re.compile(r'<h2 id="([\w-]+)">(.*?)</h2>', re.DOTALL)


def environment() -> "Environment":
    """Jinja with autoescape; an unknown name in a template is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def with_contents(page: str) -> str:
    """The page with links to its sections, those of its headings `h2` that have an id.

    The headings come from the rendered page, so that the list has the sections which this page has.
    """
    body, script, scripts = page.partition("<script")
    links = [f'<li><a href="#{anchor}">{words}</a></li>' for anchor, words in _SECTION.findall(body)]
    contents = f'<nav class="contents" aria-label="Sections"><ul>{"".join(links)}</ul></nav>'
    return body.replace(CONTENTS, contents, 1) + script + scripts
