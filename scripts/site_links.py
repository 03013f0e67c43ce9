"""A hook of mkdocs: the site's home is the README; links to files outside `docs/` become plain text."""

import re
from pathlib import Path
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)|\[([^\]]+)\]\(wandb_sweep\.yaml\)")
README = Path(__file__).resolve().parents[1] / "README.md"
IMAGE_OR_PAGE = re.compile(r"\]\(docs/")
OTHER_FILE = re.compile(r"\[([^\]]+)\]\((?:src/|SECURITY|CHANGELOG|LICENSE|tutorial)[^)]*\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for every page."""
    if page.file.src_uri == "index.md":
        text = IMAGE_OR_PAGE.sub("](", README.read_text(encoding="utf-8"))
        return OTHER_FILE.sub(r"\1", text)
    return OUTSIDE.sub(lambda match: match[1] or match[2], markdown)
