"""`saescope-coverage`: its work in order, and what it prints."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saescope.catalogue.export import summary, write_csv, write_json, write_markdown
from saescope.catalogue.live import RECORDED, UNREACHED, Finding, mark_lost, refresh, reread, span
from saescope.catalogue.plan import HookpointPlan, make_plans
from saescope.catalogue.registry import installed_version, registered_rows
from saescope.catalogue.repositories import CatalogueRow, load_rows
from saescope.catalogue.shapes import DEDUPED, Shape, covered_kinds, shape
from saescope.config.catalogue import KINDS, CoverageConfig
from saescope.errors import SaeError

WIDTH = 100


def run(cfg: CoverageConfig) -> None:
    """Print the table of plans, and write it to `csv` and `markdown` where given.

    Raises ConfigError or ModelError for a model or layer that is not there, and SaeError, after the table,
    when `live` is set and the Hub answers for no repository.
    """
    shapes = list({s.name: s for s in map(shape, cfg.models)}.values())
    names = {s.catalogue_name for s in shapes if s.catalogue_name}
    rows = [row for row in load_rows() if row.model in names]
    rows += [row for s in shapes for row in registered_rows(s)]
    plans = make_plans(cfg, shapes, rows)  # before the Hub is consulted: a wrong layer is an error
    findings: list[Finding] = []
    if cfg.live:
        rows, findings = refresh(rows)
        plans, changed = reread(mark_lost(plans, make_plans(cfg, shapes, rows)))
        findings += changed
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=WIDTH)
    console.print(summary(plans), style="bold", soft_wrap=True)
    console.print(_table(plans, cfg.live))
    for line in _remarks(plans, shapes, rows):
        console.print(line, markup=False)
    console.print("\nto measure, in the order of the table:", style="bold")
    for plan in plans:
        console.print(f"  {plan.command}", markup=False, soft_wrap=True)
    if findings:
        _print_findings(console, findings)
    if cfg.csv:
        console.print(f"csv:      {write_csv(cfg.csv, plans)}", markup=False, soft_wrap=True)
    if cfg.json:
        console.print(f"json:     {write_json(cfg.json, plans)}", markup=False, soft_wrap=True)
    if cfg.markdown:
        console.print(f"markdown: {write_markdown(cfg.markdown, plans)}", markup=False, soft_wrap=True)
    if findings and all(f.state == UNREACHED for f in findings):
        raise SaeError(
            f"live=true: none of the {len(findings)} repositories could be reached ({findings[0].text}); "
            "the table shows what is recorded; check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        )


def _table(plans: Sequence[HookpointPlan], live: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("model, layer", overflow="fold")
    table.add_column("SAE", overflow="fold")
    for header in ("latents", "×", "k"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("layers.X", no_wrap=True)
    if live:
        table.add_column("Hub", no_wrap=True)
    last = None
    for plan in plans:
        if plan.shape != last:
            sizes = f"{plan.shape.num_layers} layers, width {plan.shape.width:,}"
            table.add_row(f"[bold]{escape(plan.shape.name)}[/bold]", sizes)
            last = plan.shape
        cells = [
            f"  {plan.layer} {plan.kind}",
            _sae(plan),
            _size(plan, "num_latents", f"{plan.num_latents:,}" if plan.num_latents else ""),
            _size(plan, "num_latents", f"{plan.expansion:.3g}" if plan.expansion else ""),
            _size(plan, "k", str(plan.k) if plan.k else f"≈{plan.l0:.0f}" if plan.l0 else ""),
            {True: "yes", False: "no", None: ""}[plan.matches],
        ]
        table.add_row(*cells, *([plan.live or ""] if live else []))
    return table


def _sae(plan: HookpointPlan) -> str:
    if plan.row is None:
        return "[dim]train[/dim]"
    mark, colour = ("", "green") if plan.state == "covered" else (" ?", "yellow")
    name = plan.row.release or plan.row.repo
    where = "" if plan.matches else f"\n  in {escape(plan.sae_id or plan.folder or '')}"
    return f"[{colour}]{escape(name)}{mark}[/{colour}]{where}"


def _size(plan: HookpointPlan, key: str, text: str) -> str:
    """A recorded size, marked where unverified or not known; a size to be trained is dim."""
    if plan.row is None:
        return f"[dim]{text}[/dim]"
    # formats other than sparsify have SAEs without a k
    unknown = not text and plan.row.format == "sparsify"
    return text + ("?" if unknown or key in plan.unverified else "")


def _remarks(
    plans: Sequence[HookpointPlan], shapes: Sequence[Shape], rows: Sequence[CatalogueRow]
) -> list[str]:
    """Lines below the table: what it has no room for."""
    lines = []
    if any(plan.l0 and not plan.k for plan in plans):
        lines.append("≈ active latents per token as published, of an SAE without a k.")
    if any(plan.fvu is not None for plan in plans):
        values = ", ".join(
            f"{plan.fvu:.2f} for {plan.shape.name} {plan.layer} {plan.kind}"
            for plan in plans
            if plan.fvu is not None
        )
        lines.append(f"FVU to expect, as others measured it: {values}.")
    if any(plan.unverified for plan in plans):
        lines.append("? stated by somebody, not seen by us; live=true asks the Hub.")
    cautions = {plan.row.repo: plan.row.caution for plan in plans if plan.row and plan.row.caution}
    lines += [f"{name}: {caution}." for name, caution in cautions.items()]
    chosen = {plan.row.repo for plan in plans if plan.row}
    lacking = {plan.shape.catalogue_name for plan in plans if plan.row is None and plan.shape.catalogue_name}
    for model in (s.catalogue_name for s in shapes if s.catalogue_name in lacking):
        others = [r for r in rows if r.model == model and r.exists and r.repo not in chosen]
        descriptions = [
            f"{name} ({_content([r for r in others if r.repo == name])})" for name in _names(others)
        ]
        if descriptions:
            lines.append(f"also known for {model}: {', '.join(descriptions)}")
    names = {s.catalogue_name for s in shapes}
    variants = {f"{s.catalogue_name}{DEDUPED}" for s in shapes if s.catalogue_name} - names
    deduped = [
        m for m in dict.fromkeys(r.model for r in load_rows() if r.readable and r.folders) if m in variants
    ]
    architectures = covered_kinds()
    for model_type in dict.fromkeys(s.model_type for s in shapes if s.model_type):
        kinds = architectures.get(model_type)
        lines.append(
            f"architecture {model_type}: tested at {', '.join(kinds)}."
            if kinds
            else f"architecture {model_type}: not tested here; a job proves its hookpoint before it measures."
        )
    if installed_version() is None and any(plan.state != "covered" for plan in plans):
        lines.append(
            "sae_lens is not installed: it registers SAEs of Gemma, Llama, Qwen, GPT-2 and others, and this "
            "table shows those of its models after pip install 'saescope[saelens]'."
        )
    if deduped:
        lines.append(
            f"SAEs of the deduplicated models: saescope-coverage models={','.join(map(str, deduped))}"
        )
    return lines


def _names(rows: Iterable[CatalogueRow]) -> list[str]:
    return list(dict.fromkeys(r.repo for r in rows))


def _content(rows: Sequence[CatalogueRow]) -> str:
    """Which other SAEs the rows of one repository have, or why they are of no use here."""
    if not rows[0].readable:
        return f"{rows[0].format}, not read"
    parts = []
    for kind in KINDS:
        of_kind = [r for r in rows if kind in r.folders]
        if of_kind:
            claimed = not all(r.certain(layer) for r in of_kind for layer in r.layers)
            layers = span({layer for r in of_kind for layer in r.layers})
            parts.append(f"{kind} of layers {layers}{' ?' if claimed else ''}")
    return "; ".join(parts) or "folders not known"


def _print_findings(console: Console, findings: Sequence[Finding]) -> None:
    console.print("\nthe Hub says:", style="bold")
    for finding in findings:
        text = f": {finding.text}" if finding.text else ""
        style = None if finding.state == RECORDED else "yellow"
        console.print(f"  {finding.repo}: {finding.state}{text}", markup=False, soft_wrap=True, style=style)
