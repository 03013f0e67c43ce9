"""The figures of the run page. Each is drawn from the run's files and left out when its data is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saescope.metrics import (
    FEATURES_DEAD_FRAC,
    FEATURES_SUPPORTED,
    SI_MEAN,
    SI_NULL_MEAN,
    TASK_CE_DELTA,
    TASK_FVU,
    Metric,
)
from saescope.report import adjacency, causal, causal_layers, causal_modules, numbers
from saescope.report.canvas import BLUE, GREY, GRID, INK, MUTED, ORANGE, legend, plain, sheet, to_svg
from saescope.report.numbers import count, percent
from saescope.report.savings import losses
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BROAD = ("causal_matrix", "causal_layers")
"""Two matrices beside each other: they take the width of the page, and scroll where it is narrow."""
COMMUNITIES = 12
"""Communities shown, largest first."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure: file name without suffix, SVG text, words for those who cannot see it, caption."""

    name: str
    svg: str
    alt: str
    caption: str


Sketch = tuple["Figure", str, str]
"""Figure, words for those who cannot see it, caption."""


def draw_figures(run: Run) -> dict[str, Drawing]:
    """Every figure this run has data for, by name."""
    painters: dict[str, Callable[[Run], Sketch | None]] = {
        "si": specialisation,
        "communities": communities,
        "communities_within_token": communities_within_token,
        "adjacency": adjacency.adjacency,
        "adjacency_within_token": adjacency.adjacency_within_token,
        "density": density,
        "si_density": specialisation_by_density,
        "tasks": reconstruction,
        "savings": losses,
        "causal_matrix": causal.matrix,
        "causal_tasks": causal.tasks_hurt,
        "causal_layers": causal_layers.layers_matrix,
        "causal_si": causal_modules.causal_si,
        "causal_modules": causal_modules.modules,
    }
    drawings = {}
    for name, paint in painters.items():
        sketch = paint(run)
        if sketch is not None:
            figure, alt, caption = sketch
            drawings[name] = Drawing(name, to_svg(figure, name), alt, caption)
    return drawings


def specialisation(run: Run) -> Sketch | None:
    """SI of the supported latents, and the SI of the same latents with task labels shuffled."""
    real, null = _histogram(run, "si"), _histogram(run, "si_null_draws")
    if real is None:
        return None
    figure, (ax,) = sheet()
    for histogram, colour, label in ((null, ORANGE, "shuffled labels"), (real, BLUE, "measured")):
        if histogram is not None:
            edges, share = histogram
            ax.stairs(share, edges, fill=True, color=colour, alpha=0.18)
            ax.stairs(share, edges, color=colour, linewidth=1.8, label=label)
    # the null piles up near 0; a square-root axis keeps both it and the tail of the measured SI in sight
    ax.set_yscale("function", functions=(lambda y: np.sqrt(np.clip(y, 0, None)), np.square))
    ax.set(xlabel="SI", ylabel="share of latents (square-root scale)", xlim=(0, 1), ylim=(0, None))
    ax.set_yticks([0, 0.01, 0.05, 0.2, 0.5, 1], ["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    ax.set_ylim(0, 1.08 * max(histogram[1].max() for histogram in (real, null) if histogram is not None))
    legend(ax, loc="upper right")
    supported = count(run.metrics.get(FEATURES_SUPPORTED.key))
    mean, null_mean = (numbers.figure(run.metrics.get(key)) for key in (SI_MEAN.key, SI_NULL_MEAN.key))
    alt = (
        f"Histogram of SI over {supported} supported latents, mean {mean}, "
        f"and over document permutations, mean {null_mean}."
    )
    caption = "SI of the supported latents, and the SI the same latents get when documents swap labels."
    return figure, alt, caption


def communities(run: Run) -> Sketch | None:
    """How many latents of each large community of the graph of all joint firing prefer each task."""
    return _communities(run, "community", "communities of all joint firing")


def communities_within_token(run: Run) -> Sketch | None:
    """The same for the graph of joint firing that token ids do not explain."""
    return _communities(run, adjacency.WITHIN_TOKEN, "communities within token ids")


def _communities(run: Run, column: str, name: str) -> Sketch | None:
    if "features" not in run.tables or column not in run.column_names("features"):
        return None
    features = run.columns("features", [column, "top_task", "supported"])
    member, top = features[column].astype(int), features["top_task"]
    supported = features["supported"].astype(bool)
    ids, sizes = np.unique(member[member >= 0], return_counts=True)
    if not len(ids):
        return None
    largest = ids[np.argsort(-sizes, kind="stable")][:COMMUNITIES]
    names = np.array([task if isinstance(task, str) else "none" for task in top])
    columns = [*run.tasks, *(["none"] if (names[np.isin(member, largest)] == "none").any() else [])]
    rows = [(f"{community}", member == community) for community in largest] + [("all supported", supported)]
    figure, (ax,) = sheet(5.6, 0.7 + 0.25 * len(rows))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    places = [*range(len(rows) - 1), len(rows) - 0.65]
    for y, (_, chosen) in zip(places, rows, strict=True):
        total = max(int(chosen.sum()), 1)
        for x, task in enumerate(columns):
            number = int((names[chosen] == task).sum())
            if number:
                shade = 0.06 + 0.6 * number / total
                ax.fill_between([x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=BLUE, alpha=shade, lw=0)
            ax.text(x, y, f"{number:,}", ha="center", va="center", size=9, color=INK if number else GREY)
    labels = [f"{name}  ({int(chosen.sum()):,})" for name, chosen in rows]
    ax.set_yticks(places, labels)
    ax.set_xticks(range(len(columns)), [plain(column) for column in columns])
    ax.tick_params(length=0, labelcolor=INK)
    ax.xaxis.tick_top()
    if max(len(column) for column in columns) * len(columns) > 60:
        for label in ax.get_xticklabels():
            label.set(rotation=35, ha="left", rotation_mode="anchor")
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.1, -0.5))
    words = f"{column.replace('_', ' ').removeprefix('community ')} (latents)"
    corner = ax.text(-0.02, 1.0, words, transform=ax.transAxes, size=9, color=MUTED)
    corner.set(ha="right", va="bottom")
    alt = f"Table of the {len(largest)} largest of {len(ids)} {name} against the tasks latents prefer."
    caption = (
        f"Latents by the task they prefer, in the {len(largest)} largest of {len(ids)} {name}; "
        "shade: share of the row. A row like the last one is no more tied to a task than all latents are."
    )
    return figure, alt, caption


def density(run: Run) -> Sketch | None:
    """How often latents fire."""
    histogram = _histogram(run, "log10_density")
    if histogram is None:
        return None
    edges, share = histogram
    figure, (ax,) = sheet()
    ax.stairs(share, edges, fill=True, color=BLUE, alpha=0.18)
    ax.stairs(share, edges, color=BLUE, linewidth=1.8)
    top = float(share.max(initial=0.0)) * 1.12 or 1.0
    for place, label in ((-2, "1 %"), (-1, "10 %")):
        if edges[0] < place < edges[-1]:
            ax.axvline(place, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
            ax.text(place, top, f" {label}", va="top", size=9, color=MUTED)
    ax.set(xlabel="log₁₀ share of tokens on which a latent is active", ylabel="share of live latents")
    ax.set_ylim(0, top)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    dead = percent(run.metrics.get(FEATURES_DEAD_FRAC.key))
    alt = f"Histogram of log10 density of the latents that fired; {dead} never fired and are not shown."
    return figure, alt, f"Density of the latents that fired; {dead} never fired and are not shown."


def specialisation_by_density(run: Run) -> Sketch | None:
    """SI against density; the points are one small bitmap however many latents there are."""
    if "features" not in run.tables:
        return None
    features = run.columns("features", ["si", "si_q", "density", "supported"])
    si, rate = features["si"].astype(float), features["density"].astype(float)
    chosen = features["supported"].astype(bool) & np.isfinite(si) & (rate > 0)
    if not chosen.any():
        return None
    with np.errstate(invalid="ignore"):
        significant = features["si_q"].astype(float) <= run.si_fdr
    figure, (ax,) = sheet()
    dots: dict[str, Any] = {"s": float(np.clip(9000 / chosen.sum(), 1.5, 14)), "alpha": 0.55, "linewidths": 0}
    level = percent(run.si_fdr)
    for picked, colour, label in (
        (chosen & ~significant, ORANGE, "not significant"),
        (chosen & significant, BLUE, f"significant at FDR {level}"),
    ):
        if picked.any():
            ax.scatter(rate[picked], si[picked], color=colour, rasterized=True, **dots)
            ax.scatter([], [], s=24, color=colour, label=f"{label} ({int(picked.sum()):,})")
    ax.set(xscale="log", xlabel="density (share of tokens)", ylabel="SI", ylim=(-0.02, 1.02))
    legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handletextpad=0.2)
    alt = f"Scatter of SI against density for {int(chosen.sum()):,} supported latents."
    caption = "Rare latents reach a high SI more easily, by chance too; the null accounts for it."
    return figure, alt, caption


def reconstruction(run: Run) -> Sketch | None:
    """FVU and the CE increase, task by task."""
    tasks = run.tasks
    panels = [(metric, _by_task(run, metric)) for metric in (TASK_FVU, TASK_CE_DELTA)]
    panels = [(metric, values) for metric, values in panels if any(value is not None for value in values)]
    if not panels:
        return None
    figure, axes = sheet(5.6, 0.9 + 0.3 * len(tasks), len(panels))
    for ax, (metric, values) in zip(axes, panels, strict=True):
        lengths = [value or 0.0 for value in values]
        ax.barh(range(len(tasks)), lengths, 0.62, color=BLUE, alpha=0.75, linewidth=0)
        ax.set_yticks(range(len(tasks)), [plain(task) for task in tasks])
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", color=GRID, linewidth=0.8)
        for y, value in enumerate(values):
            if value is None:
                ax.text(0, y, " not measured", va="center", size=9, color=MUTED)
        ax.invert_yaxis()
        ax.locator_params(axis="x", nbins=3)
        ax.set_xlabel(f"{metric.label} ({metric.unit})" if metric.unit else metric.label)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        if ax is not axes[0]:
            ax.set_yticklabels([])
    alt = "Bars of FVU and of the loss increase for each task; the numbers are in the table."
    caption = "A task the SAE reconstructs badly has an SI that means little: its features are missing."
    return figure, alt, caption


def _by_task(run: Run, metric: Metric) -> list[float | None]:
    return [finite(run.metrics.get(metric.of(task))) for task in run.tasks]


def _histogram(run: Run, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    content = run.histograms.get(name) or {}
    edges = np.asarray(content.get("edges", ()), dtype=float)
    counts = np.asarray(content.get("counts", ()), dtype=float)
    if len(counts) == 0 or len(edges) != len(counts) + 1 or counts.sum() <= 0:
        return None
    return edges, counts / counts.sum()
