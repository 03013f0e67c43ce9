"""Latents of each task ablated at several hookpoints: sentences and a figure of the run page."""

from typing import TYPE_CHECKING

import numpy as np

from saescope.metrics import (
    CAUSAL_LAYERS_ADDITIVITY,
    CAUSAL_LAYERS_ADDITIVITY_MATCHED,
    CAUSAL_LAYERS_ADDITIVITY_OTHERS,
    CAUSAL_LAYERS_EXCESS,
    CAUSAL_LAYERS_OTHERS_CE,
    CAUSAL_LAYERS_OWN_CE,
    CAUSAL_LAYERS_OWN_WORST,
    CAUSAL_LAYERS_SELECTIVITY,
    CAUSAL_LAYERS_SELECTIVITY_ALONE,
)
from saescope.report.canvas import INK, sheet
from saescope.report.causal import draw_matrix, less, value_of, with_interval
from saescope.report.numbers import count, figure
from saescope.runfolder.names import TOGETHER
from saescope.runfolder.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def causal_layers(run: Run) -> tuple[str, ...]:
    """What the numbers say, in sentences; empty where nothing was ablated at several hookpoints."""
    selectivity, own, others = (
        value_of(run, metric)
        for metric in (CAUSAL_LAYERS_SELECTIVITY, CAUSAL_LAYERS_OWN_CE, CAUSAL_LAYERS_OTHERS_CE)
    )
    if "causal_layers" not in run.tables or selectivity is None:
        return ()
    table = run.causal_layers
    places = [name for name in dict.fromkeys(table["hookpoint"]) if name != TOGETHER]
    tasks = table["task"].nunique()
    worst = round((value_of(run, CAUSAL_LAYERS_OWN_WORST) or 0.0) * tasks)
    sentences = [
        f"The latents of each task at {count(len(places))} hookpoints ({', '.join(places)}), ablated "
        f"together, raise its CE by {figure(own)} nats a token, that of the other tasks by {figure(others)}; "
        f"{count(worst)} of {count(tasks)} tasks are hurt most by their own latents.",
        f"Causal selectivity is {with_interval(run, CAUSAL_LAYERS_SELECTIVITY)}, that of one alone "
        f"{figure(value_of(run, CAUSAL_LAYERS_SELECTIVITY_ALONE))} in the mean; matched random sets at "
        f"all of them have {less(value_of(run, CAUSAL_LAYERS_EXCESS))}.",
    ]
    if value_of(run, CAUSAL_LAYERS_ADDITIVITY) is not None:
        sentences.append(
            "On the own task the KL of all together is "
            f"{with_interval(run, CAUSAL_LAYERS_ADDITIVITY)} times the sum of that of each alone, on "
            f"the other tasks {figure(value_of(run, CAUSAL_LAYERS_ADDITIVITY_OTHERS))} times; with matched "
            f"sets {figure(value_of(run, CAUSAL_LAYERS_ADDITIVITY_MATCHED))} times on the own task. 1: they "
            f"add up; {figure(1 / len(places))}: they do the same; above 1: one makes up for another."
        )
    return tuple(sentences)


def layers_matrix(run: Run) -> "tuple[Figure, str, str] | None":
    """CE rise of each task under its own latents and under those of others, a row a hookpoint."""
    if "causal_layers" not in run.tables:
        return None
    table = run.causal_layers
    tasks = list(dict.fromkeys(table["task"]))
    own_sets = table[table["set"] == "own"]
    places = list(dict.fromkeys(own_sets["hookpoint"]))
    alone = [name for name in places if name != TOGETHER]
    own, others = {}, {}
    for name in places:
        own[name], others[name] = _own_and_others(own_sets[own_sets["hookpoint"] == name], tasks)
    matched = table[(table["set"] == "matched") & (table["hookpoint"] == TOGETHER)]
    rows = [*alone, "sum of these", "all together", "matched, together"]
    panels = []
    for number, values in enumerate((own, others)):
        of_alone = np.array([values[name] for name in alone])
        of_matched = _own_and_others(matched, tasks)[number]
        panels.append(np.vstack([of_alone, of_alone.sum(axis=0), values[TOGETHER], of_matched]))
    drawing, axes = sheet(5.6, 1.4 + 0.3 * len(rows), 2)
    top = float(np.nanmax(np.abs(panels), initial=0.0)) or 1.0
    for ax, panel, title in zip(axes, panels, ("its own latents", "other tasks' latents"), strict=True):
        draw_matrix(ax, panel, rows, tasks, top)
        ax.set_title(title, fontsize=10, color=INK)
    axes[1].set_yticks([])
    alt = (
        f"CE rise on each of {len(tasks)} tasks when latents are ablated at {len(alone)} hookpoints alone "
        f"and together; largest {figure(top)} nats."
    )
    caption = (
        "CE rise in nats a token on each task (columns) when its own latents, and in the mean when those of "
        "another task, are ablated at each hookpoint alone (rows) and at all of them together; shade: share "
        "of the largest."
    )
    return drawing, alt, caption


def _own_and_others(rows: "pd.DataFrame", tasks: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """CE rise on each task under its own sets, and the mean under the sets of other tasks."""
    mean = rows.groupby(["set_task", "task"])["ce_delta"].mean().unstack("task").loc[tasks, tasks].to_numpy()
    own = np.diag(mean)
    return own, (mean.sum(axis=0) - own) / max(len(tasks) - 1, 1)
