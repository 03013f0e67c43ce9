"""The key tables of docs/definitions.md, from the catalogue in `saescope.metrics`.

    python scripts/metric_tables.py

Rewrites what stands between `<!-- metrics: GROUP ... -->` and `<!-- end of metrics -->`.
"""

import re
from pathlib import Path

from saescope.files import write_text
from saescope.metrics import CATALOGUE, Metric, in_group

DOCS = Path(__file__).resolve().parents[1] / "docs" / "definitions.md"
BLOCK = re.compile(r"(<!-- metrics: ([a-z._ ]+) -->\n).*?(<!-- end of metrics -->)", re.DOTALL)
CODE = re.compile(r"\b(?:metrics\.\w+|" + "|".join(re.escape(entry.key) for entry in CATALOGUE) + r")\b")


def rewritten(text: str) -> str:
    """The text with every table as the catalogue has it."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{table(block[2].split())}\n{block[3]}", text)


def table(groups: list[str]) -> str:
    """One row a metric. Raises ValueError for a group without any."""
    lines = ["| key | is | unit | better | by chance |", "|---|---|---|---|---|"]
    for group in groups:
        if not in_group(group):
            raise ValueError(f"no metric is in the group {group!r}")
        lines += [row(entry) for entry in in_group(group)]
    return "\n".join(lines) + "\n"


def row(entry: Metric) -> str:
    """Key, sentence, unit, the better direction, and what chance gives."""
    cells = (
        f"`{entry.key}`",
        CODE.sub(r"`\g<0>`", entry.sentence.removesuffix(".")),
        entry.unit,
        "" if entry.direction == "none" else entry.direction,
        f"`{entry.null}`" if entry.null else entry.chance,
    )
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    write_text(DOCS, rewritten(DOCS.read_text(encoding="utf-8")))
