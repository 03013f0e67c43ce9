"""The tables of the page: headline numbers beside what chance gives, tasks, configuration, every metric."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saescope.report.numbers import count, figure, interval, p_value, percent, seconds
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite


@dataclass(frozen=True)
class Cell:
    """A printed value and, when it is a dash, why."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One headline metric: its value, what chance gives, what it means."""

    label: str
    key: str
    value: Cell
    chance: str
    meaning: str


@dataclass(frozen=True)
class TaskRow:
    """Reconstruction of one task's tokens."""

    task: str
    tokens: Cell
    docs: Cell
    fvu: Cell
    ce: Cell
    ce_delta: Cell


def headline_rows(run: Run) -> list[tuple[str, list[Row]]]:
    """The headline table, in named groups."""
    m, fdr = run.metrics, percent(run.si_fdr)

    def row(label: str, key: str, chance: str, meaning: str, text: str | None = None) -> Row:
        return Row(label, key, _cell(run, key, text), chance, meaning)

    def beside(key: str, *extra: str) -> str:
        return figure(m.get(key)) + "".join(f" ({text})" for text in extra if text)

    ci = interval(m.get("si/ci_low"), m.get("si/ci_high"))
    null_q, null_sd = m.get("q/null_mean"), m.get("q/null_sd")
    spread = f"{figure(null_q)} ± {figure(null_sd)}" if finite(null_sd) is not None else figure(null_q)
    z = f"z = {figure(m.get('q/z'))}, {p_value(m.get('q/p'))}" if finite(m.get("q/z")) is not None else ""
    return [
        (
            "Specialisation",
            [
                row(
                    "SI, mean",
                    "si/mean",
                    figure(m.get("si/null_mean")),
                    "0: fires at the same rate on every task; 1: on one task only. Supported latents.",
                    beside("si/mean", ci and f"95 % CI {ci}"),
                ),
                row("SI excess", "si/excess", "0", "Mean SI above each latent's own permutation null."),
                row(
                    "Significant latents",
                    "si/significant_frac",
                    "about 0 %",
                    f"Share of supported latents whose SI beats the document permutation at FDR {fdr}.",
                    percent(m.get("si/significant_frac")),
                ),
                row(
                    "SI, firing-weighted", "si/weighted", "", "The same, each latent counted by its firings."
                ),
            ],
        ),
        (
            "Modularity",
            [
                row("Q", "q/modularity", spread, "Best Leiden partition; null: same degrees."),
                row("Q excess", "q/excess", "0", "Q above that null.", beside("q/excess", z)),
                row(
                    "Validated edges",
                    "q/n_edges",
                    count(m.get("q/null_edges")),
                    "Pairs that fire together more than chance; null: the same test on randomised firing.",
                    count(m.get("q/n_edges")),
                ),
                row("Q within tasks", "q/within_task", "", "Co-activation the task mix does not explain."),
                row("Q of the task grouping", "q/task_partition", "about 0", "Latents grouped by top task."),
                row("AMI with top task", "q/ami_task", "0", "Communities against top tasks; 1: same."),
                row(
                    "Agreement over seeds",
                    "q/seed_ari",
                    "high on noise too",
                    "ARI between Leiden runs: says the search is stable, not that modules are real.",
                ),
            ],
        ),
        (
            "The SAE",
            [
                row("Explained variance", "sae/explained_variance", "0", "1 − FVU, all probe tokens."),
                row("CE score", "lm/ce_score", "0", "SAE spliced in; 0: zero ablation, 1: no loss."),
                row("CE increase", "lm/ce_delta", "", "Nats a token lost by splicing the SAE in."),
                row("L0", "sae/l0", "", "Active latents a token."),
                row(
                    "Supported latents",
                    "features/supported",
                    "",
                    "Latents that fired often enough, in enough documents, to have an SI.",
                    f"{count(m.get('features/supported'))} of {count(m.get('features/num_latents'))}",
                ),
                row(
                    "Dead latents",
                    "features/dead_frac",
                    "",
                    "Never fired on the probes; they count nowhere.",
                    percent(m.get("features/dead_frac")),
                ),
            ],
        ),
    ]


def task_rows(run: Run) -> list[TaskRow]:
    """One row a task, in the page's task order; tasks without any number are left out."""

    def cell(task: str, name: str) -> Cell:
        key = f"task/{task}/{name}"
        return _cell(run, key, count(run.metrics.get(key)) if name in ("tokens", "docs") else None)

    return [
        TaskRow(task, *(cell(task, name) for name in ("tokens", "docs", "fvu", "ce", "ce_delta")))
        for task in run.tasks
        if f"task/{task}/tokens" in run.metrics
    ]


def metric_rows(run: Run) -> list[tuple[str, Cell]]:
    """Every metric, grouped as in `metrics.json`."""
    return [(key, _cell(run, key, _exact(run.metrics[key]))) for key in run.metrics]


def null_notes(run: Run) -> list[tuple[str, str]]:
    """Why metrics are null: `(keys, reason)`, one entry for each reason."""
    reasons: dict[str, list[str]] = {}
    for key, value in run.metrics.items():
        if value is None:
            reasons.setdefault(run.notes.get(key, "no reason recorded"), []).append(key)
    return [(", ".join(keys), why) for why, keys in reasons.items()]


def config_rows(content: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A nested mapping as `(group, [(key, value)])`; plain values come first, under an empty name."""
    groups: dict[str, list[tuple[str, str]]] = {"": []}
    for key, value in content.items():
        if isinstance(value, Mapping):
            groups[str(key)] = list(_leaves(value))
        else:
            groups[""].append((str(key), _plain(value)))
    return [(name, pairs) for name, pairs in groups.items() if pairs]


def facts(run: Run) -> list[tuple[str, str]]:
    """The line under the title: what was measured on how much text."""
    m, tasks = run.metrics, task_rows(run)
    docs = [finite(m.get(f"task/{row.task}/docs")) for row in tasks]
    pairs = [
        ("Latents", count(m.get("features/num_latents"))),
        ("Tasks", str(len(tasks))),
        ("Documents", count(sum(number or 0 for number in docs))),
        ("Tokens", count(m.get("cost/tokens"))),
        ("Time", seconds(m.get("cost/wall_s"))),
    ]
    return [(name, text) for name, text in pairs if text not in ("—", "0")]


def _cell(run: Run, key: str, text: str | None = None) -> Cell:
    if run.metrics.get(key) is None:
        return Cell("—", run.notes.get(key, "no reason recorded"))
    return Cell(figure(run.metrics[key]) if text is None else text)


def _exact(value: float | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else "—" if value is None else f"{value:.6g}"


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)
