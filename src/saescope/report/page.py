"""The page of one run: `write_report(folder)` draws the figures and writes `report.html`.

Everything is built in memory and then written file by file, so a page is complete or missing.
"""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from saescope.errors import ReportError
from saescope.files import write_text
from saescope.report.cards import CONTEXTS, card_groups
from saescope.report.causal import causal
from saescope.report.causal_layers import causal_layers
from saescope.report.causal_modules import causal_effects
from saescope.report.command import command_of
from saescope.report.communities import partitions
from saescope.report.definitions import DEFINITIONS
from saescope.report.latents_page import write_latents_page
from saescope.report.left_out import left_out
from saescope.report.savings import savings
from saescope.report.structure import structure
from saescope.report.tables import (
    TASK_COLUMNS,
    config_rows,
    facts,
    headline_rows,
    metric_rows,
    null_notes,
    task_rows,
)
from saescope.report.templating import TEMPLATES, environment, with_contents
from saescope.report.words import headline
from saescope.runfolder.names import FEATURES_PAGE, FIGURES, REPORT, SAE
from saescope.runfolder.run import Run, open_run

__all__ = ["ReportError", "write_report"]


def write_report(run_dir: Path, *, latents: bool = True, beside: Sequence[str] | None = None) -> Path:
    """Write `figures/*.svg`, `features.html` and `report.html` into a run folder; the path of the last.

    `latents`: whether to write `features.html` too, or leave the one that is there. `beside`: sentences on
    the result beside its controls; None: those of the folder.
    """
    from saescope.report.figures import draw_figures

    run = open_run(run_dir)
    drawings = draw_figures(run)
    page_of_latents = run.path / FEATURES_PAGE
    has_latents = write_latents_page(run, title(run)) is not None if latents else page_of_latents.is_file()
    page = _render(run, drawings, run.beside if beside is None else beside, has_latents=has_latents)
    for drawing in drawings.values():
        write_text(run.path / FIGURES / f"{drawing.name}.svg", drawing.svg)
    write_text(run.path / REPORT, page)
    return run.path / REPORT


def _render(run: Run, drawings: dict[str, Any], beside: Sequence[str], *, has_latents: bool) -> str:
    from markupsafe import Markup

    from saescope.report.canvas import inline
    from saescope.report.figures import BROAD

    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    sentences = headline(run.metrics, run.status, run.config, beside)
    return with_contents(
        environment()
        .get_template("run.html.j2")
        .render(
            style=Markup(style),
            title=title(run),
            facts=facts(run),
            warnings=[sentence for sentence in sentences if sentence.kind == "warning"],
            findings=[sentence for sentence in sentences if sentence.kind == "finding"],
            further_controls=[sentence for sentence in sentences if sentence.kind == "beside"],
            comparisons=[sentence for sentence in sentences if sentence.kind == "comparison"],
            rows=headline_rows(run),
            figures={
                name: {
                    "svg": Markup(inline(drawing.svg, drawing.alt)),
                    "caption": drawing.caption,
                    "name": name.replace("_", " "),
                    "broad": name in BROAD,
                }
                for name, drawing in drawings.items()
            },
            tasks=task_rows(run),
            task_columns=[metric.label for metric in TASK_COLUMNS],
            causal=causal(run),
            causal_layers=causal_layers(run),
            causal_effects=causal_effects(run),
            savings=savings(run),
            structure=structure(run),
            partitions=partitions(run),
            groups=card_groups(run),
            contexts=CONTEXTS,
            latents_page=FEATURES_PAGE if has_latents else "",
            command=command_of(run),
            config=config_rows(run.config),
            provenance=config_rows(run.provenance),
            definitions=DEFINITIONS,
            metrics=metric_rows(run),
            notes=null_notes(run),
            missing=run.missing,
            left_out=left_out(run.left_out),
            tracking=_tracking(run),
        )
    )


def title(run: Run) -> list[str]:
    """Readable names of model, hookpoint and SAE: as the job resolved them, else as requested."""
    provenance, config = run.provenance, run.config

    def setting(group: str, *keys: str) -> str:
        values = [(config.get(group) or {}).get(key) for key in keys]
        return " ".join(str(value) for value in values if value is not None)

    def resolved(name: str, *keys: str) -> str:
        value = provenance.get(name)
        if isinstance(value, dict):
            value = next((value[key] for key in keys if value.get(key) is not None), None)
        return "" if value is None else str(value)

    layer = setting("hookpoint", "layer") and f"layer {setting('hookpoint', 'layer')}"
    depth = setting("hookpoint", "depth") and f"depth {setting('hookpoint', 'depth')}"
    place = setting("hookpoint", "name") or " ".join(
        filter(None, (setting("hookpoint", "kind"), layer or depth))
    )
    sae = setting("sae", "repo") or (
        setting("model", "sae_repo") if setting("sae", "source") == "hub" else ""
    )
    parts = [
        resolved("model", "name", "path") or setting("model", "name"),
        resolved("hookpoint", "name", "resolved") or place,
        resolved("sae", "repo", "name", "source") or sae or setting("sae", "source"),
    ]
    return [_folder_name(part) for part in parts if part] or [run.path.name]


def _folder_name(part: str) -> str:
    """A folder on this machine by its name; the configuration on the page has the whole path."""
    path = PurePath(part)
    if not (path.is_absolute() or part.startswith(("./", "../", "~"))):
        return part
    return f"{path.parent.name}/{path.name}" if path.name == SAE and path.parent.name else path.name or part


def _tracking(run: Run) -> dict[str, str]:
    """The parts of the tracking line; only a web address becomes a link."""

    def first(*keys: str) -> str:
        return next((str(run.tracking[key]) for key in keys if run.tracking.get(key)), "")

    url = first("url")
    return {
        "run": first("run_id", "id"),
        "group": first("group"),
        "mode": first("mode"),
        "link": url if url.startswith(("https://", "http://")) else "",
        "sync": first("sync", "sync_command"),
    }
