"""The causal section of the run page: what ablating each task's latents does there and on the other tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saescope.metrics import (
    CAUSAL_EXCESS,
    CAUSAL_OTHERS_CE,
    CAUSAL_OWN_CE,
    CAUSAL_P,
    CAUSAL_RATIO,
    CAUSAL_RATIO_MATCHED,
    CAUSAL_RATIO_OVER_NORM,
    CAUSAL_SELECTIVITY,
    Metric,
)
from saescope.report.canvas import BLUE, GREY, GRID, INK, ORANGE, legend, plain, sheet
from saescope.report.evidence import draws_of
from saescope.report.numbers import count, figure, interval, p_value, percent
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LATENTS = 12
"""Latents of a set that are named, the first in the order of `causal.select`."""
_COLUMNS = (
    "set", "draw", "size", "set_task", "task", "num_latents", "mass_share", "ce_delta", "ce_delta_lo",
    "ce_delta_hi", "kl", "latents",
)  # fmt: skip


@dataclass(frozen=True)
class SetRow:
    """A task's own set, as text."""

    task: str
    cells: tuple[str, ...]
    """Latents, share of the task's activation mass, CE rise there with interval, on the others, matched."""
    latents: str


@dataclass(frozen=True)
class Causal:
    """Sentences, and a row for each task."""

    sentences: tuple[str, ...]
    rows: tuple[SetRow, ...]


@dataclass(frozen=True)
class Matrices:
    """CE rise of each task's set (rows) on each task (columns), [K, K], nats a token."""

    tasks: list[str]
    own: np.ndarray
    low: np.ndarray
    high: np.ndarray
    matched: np.ndarray
    """Mean over the draws that were ablated."""
    mass_share: np.ndarray
    latents: list[list[int]]


def causal(run: Run) -> Causal | None:
    """The section; None where the run has no `causal.parquet`."""
    matrices = read(run)
    if matrices is None:
        return None
    return Causal(tuple(_sentences(run)), tuple(_rows(matrices)))


def read(run: Run) -> Matrices | None:
    """The matrices of the headline's set size; None without `causal.parquet`."""
    if "causal" not in run.tables:
        return None
    columns = run.columns("causal", list(_COLUMNS))
    matched = columns["set"] == "matched"
    tasks = list(dict.fromkeys(map(str, columns["task"])))
    size = columns["size"][matched][0] if matched.any() else np.median(columns["size"])
    own = (columns["set"] == "own") & (columns["size"] == size)
    latents = [
        next((list(map(int, row)) for row, at in zip(columns["latents"], rows, strict=True) if at), [])
        for rows in (own & (columns["set_task"] == task) & (columns["task"] == task) for task in tasks)
    ]
    return Matrices(
        tasks,
        _matrix(columns, own, "ce_delta", tasks),
        _matrix(columns, own, "ce_delta_lo", tasks),
        _matrix(columns, own, "ce_delta_hi", tasks),
        _matrix(columns, matched, "ce_delta", tasks),
        _matrix(columns, own, "mass_share", tasks),
        latents,
    )


def _matrix(columns: Mapping[str, Any], rows: np.ndarray, name: str, tasks: list[str]) -> np.ndarray:
    """Mean of a column over the chosen rows of each pair of tasks; NaN where there is none."""
    matrix = np.full((len(tasks), len(tasks)), np.nan)
    for s, chosen in enumerate(tasks):
        for t, task in enumerate(tasks):
            cell = rows & (columns["set_task"] == chosen) & (columns["task"] == task)
            if cell.any():
                matrix[s, t] = float(np.mean(columns[name][cell].astype(float)))
    return matrix


def _sentences(run: Run) -> list[str]:
    sentences = []
    if value_of(run, CAUSAL_SELECTIVITY) is not None:
        sentences.append(
            f"Ablating the latents of a task changes its CE by {with_interval(run, CAUSAL_OWN_CE)} nats "
            f"a token, that of the other tasks by {figure(value_of(run, CAUSAL_OTHERS_CE))}: causal "
            f"selectivity {with_interval(run, CAUSAL_SELECTIVITY)}; 1 is the own task alone, 0.5 all alike. "
            f"Matched random sets have {less(value_of(run, CAUSAL_EXCESS))}."
        )
        least = finite(run.metrics.get(CAUSAL_OWN_CE.low or ""))
        if least is not None and least <= 0:
            sentences.append(
                "So the tasks lose nothing beyond noise without their latents, and selectivity and ratio say "
                "nothing of what the model needs."
            )
    if value_of(run, CAUSAL_RATIO) is not None:
        p = p_value(value_of(run, CAUSAL_P), draws_of(CAUSAL_P, run.metrics))
        sentences.append(
            f"The model's predictions move {with_interval(run, CAUSAL_RATIO)} times as far (KL) on the own "
            f"task as on the others; with matched sets {figure(value_of(run, CAUSAL_RATIO_MATCHED))} "
            f"times ({p})."
        )
    if value_of(run, CAUSAL_RATIO_OVER_NORM) is not None:
        sentences.append(
            "Divided by the same ratio of what the sets remove from the activations, it is "
            f"{figure(value_of(run, CAUSAL_RATIO_OVER_NORM))}; at 1 a set matters where it is active, "
            "no more."
        )
    return sentences


def value_of(run: Run, metric: Metric) -> float | None:
    """The metric of the run; None where it is null or not measured."""
    return finite(run.metrics.get(metric.key))


def with_interval(run: Run, metric: Metric) -> str:
    """The metric and, where it has one, its interval."""
    ends = interval(run.metrics.get(metric.low or ""), run.metrics.get(metric.high or ""))
    return figure(value_of(run, metric)) + (f" (95 % CI {ends})" if ends else "")


def less(excess: float | None) -> str:
    """How much less a control has, where the result has `excess` more."""
    if excess is None:
        return "no value"
    return f"{figure(abs(excess))} {'less' if excess >= 0 else 'more'}"


def _rows(matrices: Matrices) -> list[SetRow]:
    rows = []
    for at, task in enumerate(matrices.tasks):
        others = np.delete(np.arange(len(matrices.tasks)), at)
        latents = matrices.latents[at]
        ends = interval(matrices.low[at, at], matrices.high[at, at])
        cells = (
            count(len(latents)),
            percent(matrices.mass_share[at, at]),
            figure(matrices.own[at, at]) + (f" ({ends})" if ends else ""),
            figure(float(matrices.own[at, others].mean()) if len(others) else None),
            figure(matrices.matched[at, at]),
        )
        names = ", ".join(map(str, latents[:LATENTS])) + (" …" if len(latents) > LATENTS else "")
        rows.append(SetRow(task, cells, names))
    return rows


def matrix(run: Run) -> "tuple[Figure, str, str] | None":
    """CE rise of every set on every task, and of the matched sets, side by side."""
    matrices = read(run)
    if matrices is None:
        return None
    tasks = matrices.tasks
    drawing, axes = sheet(5.6, 1.3 + 0.3 * len(tasks), 2)
    top = float(np.nanmax(np.abs(matrices.own), initial=0.0)) or 1.0
    for ax, values, title in (
        (axes[0], matrices.own, "own sets"),
        (axes[1], matrices.matched, "matched random sets"),
    ):
        draw_matrix(ax, values, tasks, tasks, top)
        ax.set_title(title, fontsize=10, color=INK)
    axes[1].set_yticklabels([])
    axes[0].set_ylabel("latents of")
    alt = (
        f"Two tables of the CE rise on {len(tasks)} tasks when the latents of each are ablated; largest of "
        f"the own sets {figure(top)} nats, mean of the "
        f"matched ones {figure(float(np.nanmean(matrices.matched)))}."
    )
    caption = (
        "CE rise in nats a token on each task (columns) when the latents of a task (rows) are ablated, and "
        "when random latents of the same density, activation mass and norm are; shade: share of the largest."
    )
    return drawing, alt, caption


def draw_matrix(ax: "Axes", values: np.ndarray, rows: list[str], columns: list[str], top: float) -> None:
    """Numbers in cells, shaded by their share of `top`: blue, or orange where negative."""
    ax.grid(False)
    ax.spines[:].set_visible(False)
    size = 9 if len(columns) <= 6 else 7
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if np.isfinite(value):
                colour = BLUE if value >= 0 else ORANGE
                shade = 0.03 + 0.6 * min(abs(value) / top, 1.0)
                ax.fill_between([x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=colour, alpha=shade, lw=0)
                ax.text(x, y, _short(value), ha="center", va="center", size=size, color=INK)
    names = [plain(name) for name in columns]
    ax.set_xticks(range(len(columns)), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), [plain(name) for name in rows])
    ax.tick_params(length=0, labelcolor=INK)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))


def _short(value: float) -> str:
    """Two or three characters: `.07`, `0`, `1.2`."""
    text = f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"
    return "0" if float(text) == 0 else text.replace("0.", ".", 1).replace("-", "−")


def tasks_hurt(run: Run) -> "tuple[Figure, str, str] | None":
    """CE rise of each task under its own set, the other tasks' sets, and its matched sets."""
    matrices = read(run)
    if matrices is None:
        return None
    tasks, diagonal = matrices.tasks, np.diag(matrices.own)
    drawing, (ax,) = sheet(5.6, 1.1 + 0.42 * len(tasks))
    # on a task: sets are rows, so the sets of the others are the rest of its column
    others = [np.delete(matrices.own[:, at], at).mean() for at in range(len(tasks))]
    places = np.arange(len(tasks))
    errors = np.abs(np.stack([diagonal - np.diag(matrices.low), np.diag(matrices.high) - diagonal]))
    ax.barh(
        places - 0.26,
        diagonal,
        0.24,
        color=BLUE,
        alpha=0.8,
        label="its own",
        xerr=errors,
        ecolor=GREY,
    )
    ax.barh(places, others, 0.24, color=GREY, alpha=0.8, label="other tasks'")
    ax.barh(
        places + 0.26,
        np.diag(matrices.matched),
        0.24,
        color=ORANGE,
        alpha=0.8,
        label="matched random",
    )
    ax.set_yticks(places, [plain(task) for task in tasks])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color=GRID, linewidth=0.8)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.set_xlabel("CE rise on the task (nats a token)")
    legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.2)
    alt = "Bars of the CE rise on each task for three kinds of ablated sets; the numbers are in the table."
    caption = "What a task loses without its own latents, without those of other tasks, without random ones."
    return drawing, alt, caption
