"""Figures and sentences of effects on the model: of each latent, and of communities taken out whole."""

from typing import TYPE_CHECKING

import numpy as np

from saescope.metrics import (
    CAUSAL_ATTRIBUTION_R,
    CAUSAL_ATTRIBUTION_RATIO,
    CAUSAL_ATTRIBUTION_RATIO_HIGH,
    CAUSAL_MODULES,
    CAUSAL_MODULES_WITHIN_TOKEN,
    CAUSAL_SCORED,
    CAUSAL_SI_RANK_CORR,
    CAUSAL_SI_RANK_CORR_GIVEN_FIRING,
)
from saescope.report.canvas import BLUE, GREY, INK, MUTED, ORANGE, legend, plain, sheet
from saescope.report.causal import value_of
from saescope.report.evidence import draws_of
from saescope.report.numbers import count, figure, interval, p_value
from saescope.runfolder.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sketch = tuple["Figure", str, str]
"""Figure, words for those who cannot see it, caption."""
TRUSTED, ROUGH = 0.8, 0.5
"""Rank correlations with ablation from which the attribution ranks latents as ablation does, or roughly."""


def causal_si(run: Run) -> Sketch | None:
    """SI of the latents against the index of their effects on the model."""
    if CAUSAL_SCORED.key not in run.metrics or "features" not in run.tables:
        return None
    features = run.columns("features", ["si", "causal_si", "causal_p"])
    si, effect, p = (features[name].astype(float) for name in ("si", "causal_si", "causal_p"))
    chosen = np.isfinite(si) & np.isfinite(effect)
    if not chosen.any():
        return None
    number = int(chosen.sum())
    with np.errstate(invalid="ignore"):
        unlike_chance = p <= 0.05
    sheet_figure, (ax,) = sheet()
    size = float(np.clip(9000 / number, 1.5, 14))
    for picked, colour, label in (
        (chosen & ~unlike_chance, ORANGE, "p > 0.05"),
        (chosen & unlike_chance, BLUE, "p ≤ 0.05"),
    ):
        if picked.any():
            ax.scatter(si[picked], effect[picked], s=size, alpha=0.55, lw=0, color=colour, rasterized=True)
            ax.scatter([], [], s=24, color=colour, label=f"{label} ({int(picked.sum()):,})")
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, zorder=0)
    ax.set(xlabel="SI, of firings", ylabel="causal SI, of effects", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handletextpad=0.2)
    alt = f"Scatter of causal SI against SI for {count(number)} latents."
    caption = (
        f"How unevenly a latent fires over the tasks, and how unevenly what it does to the predictions is "
        f"spread, for the {count(number)} latents that fire often enough on the attributed tokens. "
        "p: task labels permuted over documents."
    )
    return sheet_figure, alt, caption


def modules(run: Run) -> Sketch | None:
    """What taking each of the largest communities out costs on each task."""
    if "causal_modules" not in run.tables:
        return None
    table = run.causal_modules
    table = table[table["partition"] == table["partition"].iloc[0]]
    tasks = list(dict.fromkeys(table["task"]))
    rows = []
    for number, part in table[table["kind"] == "module"].groupby("module", sort=False):
        by_task = part.set_index("task").loc[tasks]
        name = f"{number}  ({int(part['latents'].iloc[0]):,})"
        rows.append((name, by_task["ce"].to_numpy(float), by_task["own"].to_numpy(bool)))
    for kind, name in (("random", "random sets, mean"), ("decoder", "like decoders, mean")):
        controls = table[table["kind"] == kind]
        if len(controls):
            mean = controls.groupby("task")["ce"].mean().loc[tasks].to_numpy(float)
            rows.append((name, mean, np.zeros(len(tasks), dtype=bool)))
    sheet_figure, (ax,) = sheet(5.6, 0.7 + 0.25 * len(rows))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    largest = max(float(np.nanmax(values)) for _, values, _ in rows) or 1.0
    for y, (_, values, own) in enumerate(rows):
        for x, value in enumerate(values):
            if value > 0:
                shade = 0.06 + 0.6 * min(1.0, value / largest)
                ax.fill_between([x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=BLUE, alpha=shade, lw=0)
            weight = "bold" if own[x] else "normal"
            ax.text(x, y, f"{value:+.3f}", ha="center", va="center", size=9, color=INK, weight=weight)
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    ax.set_xticks(range(len(tasks)), [plain(task) for task in tasks])
    ax.tick_params(length=0, labelcolor=INK)
    ax.xaxis.tick_top()
    if max(map(len, tasks)) * len(tasks) > 60:
        for label in ax.get_xticklabels():
            label.set(rotation=35, ha="left", rotation_mode="anchor")
    ax.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    corner = ax.text(-0.02, 1.0, "community (latents)", transform=ax.transAxes, size=9, color=MUTED)
    corner.set(ha="right", va="bottom")
    alt = f"Table of the CE rise on each task when each of {len(rows)} sets of latents is taken out."
    caption = (
        "Rise of the cross-entropy on each task (nats a token) when a community is taken out whole; bold: "
        "the task on which it fires most, chosen on other documents."
    )
    return sheet_figure, alt, caption


def causal_effects(run: Run) -> tuple[str, ...]:
    """What the numbers say, in sentences; empty where no effect was attributed."""
    if CAUSAL_SCORED.key not in run.metrics:
        return ()
    return (*_of_latents(run), *_trust(run), *_of_modules(run))


def _of_latents(run: Run) -> list[str]:
    r, given = (value_of(run, m) for m in (CAUSAL_SI_RANK_CORR, CAUSAL_SI_RANK_CORR_GIVEN_FIRING))
    if r is None:
        return []
    ends = interval(
        run.metrics.get(CAUSAL_SI_RANK_CORR.low or ""), run.metrics.get(CAUSAL_SI_RANK_CORR.high or "")
    )
    shown = figure(r) + (f" (95 % CI {ends})" if ends else "")
    sentence = (
        f"Over {count(run.metrics.get(CAUSAL_SCORED.key))} latents, SI and causal SI on other documents have "
        f"a rank correlation of {shown}"
    )
    if given is not None:
        sentence += (
            f"; {figure(given)} is left when the index of firing on the same tokens is set aside: near 0, a "
            "latent matters where it fires, and no more selectively than that"
        )
    return [f"{sentence}."]


def _trust(run: Run) -> list[str]:
    """How far the attribution may be trusted."""
    r, ratio, high = (
        value_of(run, metric)
        for metric in (CAUSAL_ATTRIBUTION_R, CAUSAL_ATTRIBUTION_RATIO, CAUSAL_ATTRIBUTION_RATIO_HIGH)
    )
    if r is None or ratio is None or high is None:
        return []
    judgement = "do not read single latents from it"
    if r >= ROUGH:
        judgement = "it ranks latents only roughly" if r < TRUSTED else "it ranks latents as ablation does"
    return [
        "Causal SI rests on gradients, not on ablation. For latents taken out one at a time, its effects "
        f"and the true ones have a rank correlation of {figure(r)}: {judgement}. The true effect is "
        f"{figure(ratio)} times the attributed one in the median, and above {figure(high)} times in one "
        "latent of twenty: ranks and shares may be read, nats not."
    ]


def _of_modules(run: Run) -> list[str]:
    """Of each partition that was taken out."""
    sentences = []
    for entries, start in (
        (CAUSAL_MODULES, "Communities"),
        (CAUSAL_MODULES_WITHIN_TOKEN, "Communities within token ids"),
    ):
        names = {entry.key.rpartition("module_")[2].removeprefix("within_token_"): entry for entry in entries}
        selectivity, excess = value_of(run, names["selectivity"]), value_of(run, names["excess"])
        if selectivity is None or excess is None:
            continue
        ends = interval(
            run.metrics.get(names["excess"].low or ""), run.metrics.get(names["excess"].high or "")
        )
        p = p_value(value_of(run, names["p"]), draws_of(names["p"], run.metrics))
        sentence = (
            f"{start} taken out whole have a selectivity of {figure(selectivity)} (0.5: all tasks alike), "
            f"{_above(excess)} random sets of their size, firings and norm"
            + (f" (95 % CI of the difference {ends})" if ends else "")
            + f"; {p} by attribution"
        )
        decoder = value_of(run, names["excess_decoder"])
        if decoder is not None:
            sentence += f", {_above(decoder)} sets of like decoder rows"
        synergy = value_of(run, names["synergy"])
        if synergy is not None:
            sentence += f". Their KL is {figure(synergy)} times the sum of that of their members one by one"
        sentences.append(f"{sentence}.")
    return sentences


def _above(difference: float) -> str:
    return f"{figure(abs(difference))} {'above' if difference >= 0 else 'below'}"
