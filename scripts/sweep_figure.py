"""The README's figure: a trained SAE beside its controls over the expansion factor, from a sweep's tables.

python scripts/sweep_figure.py SWEEP_FOLDER docs/figures/smollm2_expansion.svg

Bars are the paired intervals of differences.csv, which hold for all differences of the sweep at once: of a
trained SAE, of its difference from the next narrower one; of a control, from the trained SAE as wide.
"""

import sys
from pathlib import Path

import pandas as pd

from saescope.files import write_text
from saescope.report.canvas import BLUE, GREY, ORANGE, legend, sheet, to_svg

SOURCES = {"train": ("trained", BLUE, "-"), "frozen_decoder": ("frozen decoder", ORANGE, "--"),
           "random": ("untrained", GREY, ":")}  # fmt: skip
PANELS = {
    "si/mutual_info": "SI by rate",
    "si/beyond_token_mean": "SI beyond the token",
    "matched_q": "Q at equal evidence",
}


def source_of(job: pd.Series) -> str:
    """`train`, `frozen_decoder` …, as the command names it."""
    return str(job["overrides"]).split("sae=")[1].split()[0]


def half_width(differences: pd.DataFrame, key: str, job: int, other: int | None) -> float:
    """Of the paired interval between two jobs; 0 where there is none."""
    first, second = differences["job_a"], differences["job_b"]  # text: a sweep of sweeps has names
    pair = ((first == str(job)) & (second == str(other))) | ((first == str(other)) & (second == str(job)))
    rows = differences[pair & (differences["metric"] == key)]
    return float(rows["paired_high"].iloc[0] - rows["paired_low"].iloc[0]) / 2 if len(rows) else 0.0


def main() -> None:
    folder, out = map(Path, sys.argv[1:])
    table = pd.read_csv(folder / "sweep.csv").sort_values("sae.expansion_factor")
    differences = pd.read_csv(folder / "differences.csv")
    table = table.copy().assign(source=table.apply(source_of, axis=1))
    trained = dict(table[table["source"] == "train"].set_index("sae.expansion_factor")["job"])
    widths = sorted(set(table["sae.expansion_factor"]))
    figure, panels = sheet(9.6, 3.2, columns=3)
    for ax, (key, name) in zip(panels, PANELS.items(), strict=True):
        for source, jobs in table.groupby("source", sort=False):
            label, colour, line = SOURCES[source]
            width = jobs["sae.expansion_factor"]
            others = (
                [None, *jobs["job"][:-1]] if source == "train" else [trained.get(factor) for factor in width]
            )
            bars = [
                half_width(differences, key, job, other)
                for job, other in zip(jobs["job"], others, strict=True)
            ]
            ax.errorbar(
                width, jobs[key], bars, fmt="o", linestyle=line, color=colour, ms=4, capsize=3, label=label
            )
        ax.set_xscale("log", base=2)
        ax.set_xticks(widths, widths)
        ax.set(xlabel="expansion factor", title=name, ylim=(0, None))
    legend(panels[0], loc="upper left")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, to_svg(figure, "sweep"))


if __name__ == "__main__":
    main()
