"""What a person sees at the end: the headline, a table, and where the files are."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from saescope.files import read_json
from saescope.metrics import shown
from saescope.report.words import headline
from saescope.runfolder.status import status_of

if TYPE_CHECKING:
    from saescope.report.sweep import SweepSummary

SWEEP_COLUMNS = tuple(metric.key for metric in shown("sweep") if not metric.between_jobs)


def print_run(run_dir: Path, reused_from: Path | None = None) -> None:
    """Headline in words, table, paths."""
    console = Console(highlight=False, soft_wrap=True)
    metrics = read_json(run_dir / "metrics.json") or {}
    status = status_of(run_dir)
    table = Table("measure", "value", "by chance", "key", title="result", title_justify="left")
    for metric in shown("terminal"):
        chance = number(metrics.get(metric.null)) if metric.null else metric.chance
        table.add_row(metric.label, number(metrics.get(metric.key)), chance, metric.key)
    console.print(table)
    for sentence in headline(metrics, status):
        console.print(f"• {sentence.text}")
    if reused_from is not None:
        console.print(f"This very config had a finished result in {reused_from}; force=true measures again.")
    tracking = read_json(run_dir / "tracking.json") or {}
    if tracking.get("url"):
        console.print(f"W&B:     {tracking['url']}")
    if tracking.get("sync"):
        console.print(f"W&B:     offline; upload with: {tracking['sync']}")
    console.print(f"files:   {run_dir}")
    console.print(f"report:  {run_dir / 'report.html'}")


def print_sweep(sweep_dir: Path, summary: "SweepSummary | None" = None) -> list[str]:
    """One row per job folder, what the sweep says, paths; returns one line per job that did not finish."""
    terminal = Console(highlight=False)
    console = Console(highlight=False, soft_wrap=True, width=terminal.width if terminal.is_terminal else 180)
    jobs = sorted((p.parent for p in sweep_dir.glob("*/status.json")), key=lambda p: (len(p.name), p.name))
    table = Table(
        "job", "overrides", "state", *SWEEP_COLUMNS, title=f"{len(jobs)} jobs", title_justify="left"
    )
    wrong: list[str] = []
    asked = {job: _overrides(job) for job in jobs}
    shared = set.intersection(*(set(given) for given in asked.values())) if len(jobs) > 1 else set()
    for job in jobs:
        status = status_of(job)
        ok = status.get("state") == "ok"
        metrics = (read_json(job / "metrics.json") or {}) if ok else {}
        overrides = " ".join(given for given in asked[job] if given not in shared)
        table.add_row(
            job.name, overrides, str(status.get("state")), *(number(metrics.get(k)) for k in SWEEP_COLUMNS)
        )
        if not ok:
            wrong.append(f"job {job.name} ({overrides}): {status.get('error', 'did not finish')}")
    console.print(table)
    for sentence in summary.sentences if summary else ():
        console.print(f"• {sentence}")
    for line in wrong:
        console.print(f"failed: {line}")
    script = sweep_dir / "sync.sh"
    if script.is_file():
        console.print(f"W&B:     offline; upload with: sh '{script}'")
    console.print(f"sweep:   {sweep_dir}")
    if summary:
        console.print(f"report:  {summary.paths[-1]}")
    return wrong


def number(value: float | int | None) -> str:
    """Three significant digits, thousands separated; a dash where a metric does not apply."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _overrides(job: Path) -> list[str]:
    """The job's own overrides: Hydra's record, also where a finished result was linked in."""
    path = job / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("- ") for line in lines if line not in ("", "[]")]
