"""The README's figure: SI and Q of a sweep over expansion factor and k, from its sweep.csv.

python scripts/sweep_figure.py SWEEP_FOLDER docs/figures/smollm2_expansion.svg
"""

import sys
from pathlib import Path

import pandas as pd

from saescope.files import write_text
from saescope.report.canvas import BLUE, GREY, ORANGE, legend, sheet, to_svg


def main() -> None:
    folder, out = map(Path, sys.argv[1:])
    table = pd.read_csv(folder / "sweep.csv").sort_values(["sae.k", "sae.expansion_factor"])
    figure, (left, right) = sheet(8.4, 3.4, columns=2)
    for (k, jobs), colour in zip(table.groupby("sae.k"), (BLUE, ORANGE), strict=True):
        x = jobs["sae.expansion_factor"]
        below, above = jobs["si/mean"] - jobs["si/ci_low"], jobs["si/ci_high"] - jobs["si/mean"]
        left.errorbar(x, jobs["si/mean"], (below, above), color=colour, marker="o", capsize=3, label=f"k {k}")
        left.plot(x, jobs["si/null_mean"], "x", color=GREY)
        right.errorbar(x, jobs["q/modularity"], 1.96 * jobs["q/null_sd"], color=colour, marker="o", capsize=3)
        right.plot(x, jobs["q/within_task"], color=colour, linestyle=":", label=f"k {k}, within tasks")
        right.plot(x, jobs["q/null_mean"], "x", color=GREY)
    left.plot([], [], "x", color=GREY, label="shuffled labels")
    right.plot([], [], "x", color=GREY, label="same degrees")
    for ax, name in ((left, "SI, mean of supported latents"), (right, "modularity Q")):
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(set(table["sae.expansion_factor"])), sorted(set(table["sae.expansion_factor"])))
        ax.set(xlabel="expansion factor", ylabel=name, ylim=(0, None))
        legend(ax, loc="center right")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, to_svg(figure, "sweep"))


if __name__ == "__main__":
    main()
