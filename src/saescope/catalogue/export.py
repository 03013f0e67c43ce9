"""The plans as CSV and Markdown, and their summary in one sentence."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from saescope.catalogue.plan import HookpointPlan
from saescope.errors import ConfigError
from saescope.files import write_text

COLUMNS = (
    "model", "num_layers", "width", "layer", "kind", "hookpoint", "state", "repo", "folder", "release", "id",
    "hook", "matches_layers_x", "format", "architecture", "num_latents", "expansion", "k", "l0", "fvu",
    "unverified", "caution", "note",
    "basis", "source", "date", "live", "others", "command",
)  # fmt: skip
IN_MARKDOWN = ("model", "hookpoint", "state", "repo", "folder", "num_latents", "expansion", "k", "command")


def summary(plans: Sequence[HookpointPlan]) -> str:
    """How many hookpoints are covered, in one line."""
    count = {
        state: sum(plan.state == state for plan in plans) for state in ("covered", "unverified", "train")
    }
    claimed = f"{count['unverified']} more are claimed (?), " if count["unverified"] else ""
    return (
        f"{count['covered']} of {len(plans)} wanted hookpoints have pre-trained SAEs; "
        f"{claimed}{count['train']} need training."
    )


def record(plan: HookpointPlan) -> dict[str, str | int | float | bool | None]:
    """All that is known about one plan, flat, under `COLUMNS`; None where it does not apply."""
    row = plan.row
    return {
        "model": plan.shape.name,
        "num_layers": plan.shape.num_layers,
        "width": plan.shape.width,
        "layer": plan.layer,
        "kind": plan.kind,
        "hookpoint": plan.hookpoint,
        "state": plan.state,
        "repo": row.repo if row else None,
        "folder": plan.folder,
        "release": row.release if row else None,
        "id": plan.sae_id,
        "hook": plan.hook,
        "matches_layers_x": plan.matches,
        "format": row.format if row else None,
        "architecture": plan.architecture,
        "num_latents": plan.num_latents,
        "expansion": None if plan.expansion is None else round(plan.expansion, 3),
        "k": plan.k,
        "l0": plan.l0,
        "fvu": plan.fvu,
        "unverified": " ".join(plan.unverified) or None,
        "caution": row.caution if row else None,
        "note": row.note if row else None,
        "basis": row.basis if row else None,
        "source": row.source if row else None,
        "date": row.date if row else None,
        "live": plan.live,
        "others": " ".join(plan.others) or None,
        "command": plan.command,
    }


def write_csv(path: str, plans: Sequence[HookpointPlan]) -> Path:
    """Every column. Raises ConfigError when the file cannot be written."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(record(plan) for plan in plans)
    return _write("csv", path, buffer.getvalue())


def write_json(path: str, plans: Sequence[HookpointPlan]) -> Path:
    """The summary and, under `rows`, every column. Raises ConfigError when the file cannot be written."""
    values = {"summary": summary(plans), "rows": [record(plan) for plan in plans]}
    return _write("json", path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_markdown(path: str, plans: Sequence[HookpointPlan]) -> Path:
    """The main columns below the summary. Raises ConfigError when the file cannot be written."""
    lines = [summary(plans), "", f"| {' | '.join(IN_MARKDOWN)} |", "|" + "---|" * len(IN_MARKDOWN)]
    for plan in plans:
        values = record(plan)
        cells = {key: "" if values[key] is None else str(values[key]) for key in IN_MARKDOWN}
        for key in {"num_latents", "k"} & set(plan.unverified):
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
