"""The generated parts of docs/coverage.md: an example as it is printed, and every recorded repository.

    python scripts/coverage_tables.py

Rewrites what stands between `<!-- coverage: NAME -->` and `<!-- end of coverage -->`.
"""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

from saescope.catalogue.live import span
from saescope.catalogue.repositories import CatalogueRow, load_rows
from saescope.catalogue.terminal import run
from saescope.config import CoverageConfig
from saescope.files import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs" / "coverage.md"
BLOCK = re.compile(r"(<!-- coverage: (\w+) -->\n).*?(<!-- end of coverage -->)", re.DOTALL)
MODELS = ("pythia-70m-deduped", "smollm2-135m", "llama-3.2-1b", "gemma-2-2b")


def rewritten(text: str) -> str:
    """The text with every generated part as it is now."""
    parts = {"example": example, "recorded": recorded}
    return BLOCK.sub(lambda block: f"{block[1]}\n{parts[block[2]]()}\n{block[3]}", text)


def example() -> str:
    """What the command prints for `MODELS`."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        run(CoverageConfig(MODELS, kind=("all",)))
    lines = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
    return f"```\n$ saescope-coverage models={','.join(MODELS)} kind=all\n{lines}\n```\n"


def recorded() -> str:
    """A table of all rows of `repositories.yaml`."""
    heads = ("model", "repository", "format", "SAEs", "latents", "k", "what was seen", "where", "when")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in load_rows():
        remarks = [row.basis, *filter(None, (row.caution, row.note))]
        cells = (
            row.model or "not known",
            f"`{row.repo}`",
            row.format if row.exists else "no public trace",
            places(row),
            size(row, "num_latents"),
            size(row, "k"),
            "; ".join(remarks),
            row.source,
            row.date,
        )
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def places(row: CatalogueRow) -> str:
    """Kinds and blocks of the SAEs of a row, and how many of the blocks were seen."""
    if not row.folders:
        return ""
    sure = "" if row.seen == row.layers else f" (seen: {span(row.seen)})"
    doubt = " ?" if {"model", "folders", "layers"} & set(row.unverified) else ""
    return f"{', '.join(row.folders)} of layers {span(row.layers)}{sure}{doubt}"


def size(row: CatalogueRow, key: str) -> str:
    """`num_latents` or `k` of a row, marked where nobody here has seen it."""
    value = getattr(row, key)
    return "" if value is None else f"{value:,}" + ("?" if key in row.unverified else "")


if __name__ == "__main__":
    write_text(DOCS, rewritten(DOCS.read_text(encoding="utf-8")))
