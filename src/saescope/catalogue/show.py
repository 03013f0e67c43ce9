"""What `saescope-coverage` prints, and the order of its work."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saescope.catalogue.export import summary, write_csv, write_markdown
from saescope.catalogue.known import Known, load
from saescope.catalogue.live import RECORDED, UNREACHED, Finding, mark_lost, refresh, reread, span
from saescope.catalogue.plan import Wanted, plan
from saescope.catalogue.shapes import DEDUPED, Shape, shape
from saescope.config.catalogue import KINDS, CoverageConfig
from saescope.errors import SaeError

WIDTH = 100


def run(cfg: CoverageConfig) -> None:
    """Answer on the terminal, and in files where asked.

    Raises ConfigError or ModelError for a model or layer that is not there, and SaeError, after the table,
    when `live` was asked for and nothing could be asked.
    """
    shapes = list({s.name: s for s in map(shape, cfg.models)}.values())
    names = {s.known_as for s in shapes if s.known_as}
    rows = [row for row in load() if row.model in names]
    wanted = plan(cfg, shapes, rows)  # a layer that is not there is said before the Hub is asked
    findings: list[Finding] = []
    if cfg.live:
        rows, findings = refresh(rows)
        wanted, changed = reread(mark_lost(wanted, plan(cfg, shapes, rows)))
        findings += changed
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print(summary(wanted), style="bold", soft_wrap=True)
    console.print(_table(wanted, cfg.live))
    for line in _remarks(wanted, shapes, rows):
        console.print(line, markup=False)
    console.print("\nto measure, in the order of the table:", style="bold")
    for w in wanted:
        console.print(f"  {w.command}", markup=False, soft_wrap=True)
    if findings:
        _print_findings(console, findings)
    if cfg.csv:
        console.print(f"csv:      {write_csv(cfg.csv, wanted)}", markup=False, soft_wrap=True)
    if cfg.markdown:
        console.print(f"markdown: {write_markdown(cfg.markdown, wanted)}", markup=False, soft_wrap=True)
    if findings and all(f.state == UNREACHED for f in findings):
        raise SaeError(
            f"live=true: none of the {len(findings)} repositories could be asked ({findings[0].text}); "
            "the table shows what is recorded; check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        )


def _table(wanted: Sequence[Wanted], live: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("model, layer", overflow="fold")
    table.add_column("SAE", overflow="fold")
    for header in ("latents", "×", "k"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("layers.X", no_wrap=True)
    if live:
        table.add_column("Hub", no_wrap=True)
    last = None
    for w in wanted:
        if w.shape != last:
            sizes = f"{w.shape.num_layers} layers, width {w.shape.width:,}"
            table.add_row(f"[bold]{escape(w.shape.name)}[/bold]", sizes)
            last = w.shape
        cells = [
            f"  {w.layer} {w.kind}",
            _sae(w),
            _size(w, "num_latents", f"{w.num_latents:,}" if w.num_latents else ""),
            _size(w, "num_latents", f"{w.expansion:.3g}" if w.expansion else ""),
            _size(w, "k", str(w.k) if w.k else ""),
            {True: "yes", False: "no", None: ""}[w.matches],
        ]
        table.add_row(*cells, *([w.live or ""] if live else []))
    return table


def _sae(w: Wanted) -> str:
    if w.known is None:
        return "[dim]train[/dim]"
    mark, colour = ("", "green") if w.state == "covered" else (" ?", "yellow")
    where = "" if w.matches else f"\n  in {escape(w.folder or '')}"
    return f"[{colour}]{escape(w.known.repo)}{mark}[/{colour}]{where}"


def _size(w: Wanted, key: str, text: str) -> str:
    """A recorded size, marked where unverified or not known; a size to be trained is dim."""
    if w.known is None:
        return f"[dim]{text}[/dim]"
    # formats other than sparsify have SAEs without a k
    unknown = not text and w.known.format == "sparsify"
    return text + ("?" if unknown or key in w.unverified else "")


def _remarks(wanted: Sequence[Wanted], shapes: Sequence[Shape], rows: Sequence[Known]) -> list[str]:
    """What the table has no room for."""
    lines = []
    if any(w.unverified for w in wanted):
        lines.append("? stated by somebody, not seen by us; live=true asks the Hub.")
    cautions = {w.known.repo: w.known.caution for w in wanted if w.known and w.known.caution}
    lines += [f"{name}: {caution}." for name, caution in cautions.items()]
    chosen = {w.known.repo for w in wanted if w.known}
    lacking = {w.shape.known_as for w in wanted if w.known is None and w.shape.known_as}
    for model in (s.known_as for s in shapes if s.known_as in lacking):
        found = [r for r in rows if r.model == model and r.exists and r.repo not in chosen]
        said = [f"{name} ({_what([r for r in found if r.repo == name])})" for name in _names(found)]
        if said:
            lines.append(f"also known for {model}: {', '.join(said)}")
    asked = {s.known_as for s in shapes}
    variants = {f"{s.known_as}{DEDUPED}" for s in shapes if s.known_as} - asked
    has = [m for m in dict.fromkeys(r.model for r in load() if r.readable and r.folders) if m in variants]
    if has:
        lines.append(f"SAEs of the deduplicated models: saescope-coverage models={','.join(map(str, has))}")
    return lines


def _names(rows: Iterable[Known]) -> list[str]:
    return list(dict.fromkeys(r.repo for r in rows))


def _what(rows: Sequence[Known]) -> str:
    """What else the rows of one repository hold, or why they are no use here."""
    if not rows[0].readable:
        return f"{rows[0].format}, not read"
    there = []
    for kind in KINDS:
        of_kind = [r for r in rows if kind in r.folders]
        if of_kind:
            claimed = not all(r.certain(layer) for r in of_kind for layer in r.layers)
            layers = span({layer for r in of_kind for layer in r.layers})
            there.append(f"{kind} of layers {layers}{' ?' if claimed else ''}")
    return "; ".join(there) or "folders not known"


def _print_findings(console: Console, findings: Sequence[Finding]) -> None:
    console.print("\nthe Hub says:", style="bold")
    for finding in findings:
        text = f": {finding.text}" if finding.text else ""
        style = None if finding.state == RECORDED else "yellow"
        console.print(f"  {finding.repo}: {finding.state}{text}", markup=False, soft_wrap=True, style=style)
