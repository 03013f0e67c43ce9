"""Axes that every figure is drawn on: one style, one palette, SVG text out.

Colours come from a small theme. A figure on disk keeps them as they are; inside the page they become CSS
variables, so the same figure follows the reader's light or dark setting.
"""

import html
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, MUTED, GRID = "#fffffe", "#1f2429", "#5c6671", "#dde2e8"
BLUE, ORANGE, GREY = "#0a72b1", "#d8730f", "#8a929c"  # blue and orange differ for every colour vision
_THEME = {
    PAPER: "paper",
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BLUE: "blue",
    ORANGE: "orange",
    GREY: "grey",
}


def sheet(width: float = 5.6, height: float = 3.3, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure with its axes, styled; no global state is touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for ax in axes:
        ax.set_facecolor("none")
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(GREY)
        ax.tick_params(colors=MUTED, labelcolor=MUTED, labelsize=9, length=3)
        ax.xaxis.label.set(color=INK, size=10)
        ax.yaxis.label.set(color=INK, size=10)
        ax.set_axisbelow(True)
        ax.grid(axis="y", color=GRID, linewidth=0.8)
    return figure, axes


def plain(text: str) -> str:
    """A label printed as it is: a dollar sign in a task name starts no formula."""
    return text.replace("$", r"\$")


def legend(ax: "Axes", **placed: Any) -> None:
    """A frameless legend in the ink of the page."""
    ax.legend(frameon=False, fontsize=9, labelcolor=INK, **placed)


def to_svg(figure: "Figure", name: str) -> str:
    """The figure as SVG: real text, no date, the same bytes for the same data, ids that start with `name`."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    text = re.sub(r'\bid="', f'id="{name}-', buffer.getvalue())
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)


def inline(svg: str, alt: str) -> str:
    """The SVG element for the page: themed, scalable, described for screen readers."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    opening, rest = body.split(">", 1)
    opening = re.sub(r'\s(width|height|version)="[^"]*"', "", opening)
    for colour, name in _THEME.items():
        rest = rest.replace(colour, f"var(--{name})")
    return f'{opening} role="img" aria-label="{html.escape(alt, quote=True)}">{rest}'
