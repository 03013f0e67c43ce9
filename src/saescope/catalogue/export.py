"""The table as CSV and Markdown, and the sentence above it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from saescope.catalogue.plan import Wanted
from saescope.errors import ConfigError
from saescope.files import write_text

COLUMNS = (
    "model", "num_layers", "width", "layer", "kind", "hookpoint", "state", "repo", "folder",
    "matches_layers_x", "format", "num_latents", "expansion", "k", "unverified", "caution", "note",
    "basis", "source", "date", "live", "others", "command",
)  # fmt: skip
IN_MARKDOWN = ("model", "hookpoint", "state", "repo", "folder", "num_latents", "expansion", "k", "command")


def summary(wanted: Sequence[Wanted]) -> str:
    """The answer in one line."""
    count = {state: sum(w.state == state for w in wanted) for state in ("covered", "unverified", "train")}
    claimed = f"{count['unverified']} more are claimed (?), " if count["unverified"] else ""
    return (
        f"{count['covered']} of {len(wanted)} wanted hookpoints have pre-trained SAEs; "
        f"{claimed}{count['train']} need training."
    )


def record(w: Wanted) -> dict[str, str | int | float | bool | None]:
    """All that is known about one row, flat, under `COLUMNS`; None where it does not apply."""
    known = w.known
    return {
        "model": w.shape.name,
        "num_layers": w.shape.num_layers,
        "width": w.shape.width,
        "layer": w.layer,
        "kind": w.kind,
        "hookpoint": w.hookpoint,
        "state": w.state,
        "repo": known.repo if known else None,
        "folder": w.folder,
        "matches_layers_x": w.matches,
        "format": known.format if known else None,
        "num_latents": w.num_latents,
        "expansion": None if w.expansion is None else round(w.expansion, 3),
        "k": w.k,
        "unverified": " ".join(w.unverified) or None,
        "caution": known.caution if known else None,
        "note": known.note if known else None,
        "basis": known.basis if known else None,
        "source": known.source if known else None,
        "date": known.date if known else None,
        "live": w.live,
        "others": " ".join(w.others) or None,
        "command": w.command,
    }


def write_csv(path: str, wanted: Sequence[Wanted]) -> Path:
    """Every column. Raises ConfigError when the file cannot be written."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(record(w) for w in wanted)
    return _write("csv", path, out.getvalue())


def write_markdown(path: str, wanted: Sequence[Wanted]) -> Path:
    """The main columns below the summary. Raises ConfigError when the file cannot be written."""
    lines = [summary(wanted), "", f"| {' | '.join(IN_MARKDOWN)} |", "|" + "---|" * len(IN_MARKDOWN)]
    for w in wanted:
        values = record(w)
        cells = {key: "" if values[key] is None else str(values[key]) for key in IN_MARKDOWN}
        for key in {"num_latents", "k"} & set(w.unverified):
            cells[key] += "?"
        cells["command"] = f"`{cells['command']}`"
        lines.append(f"| {' | '.join(cells[key].replace('|', chr(92) + '|') for key in IN_MARKDOWN)} |")
    return _write("markdown", path, "\n".join(lines) + "\n")


def _write(key: str, name: str, text: str) -> Path:
    path = Path(name).expanduser()
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(
            f"{key}={name} cannot be written: {error.strerror or error}; give another path"
        ) from error
    return path
