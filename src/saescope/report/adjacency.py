"""The graph of joint firing as a matrix, latents sorted by community."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saescope.report.canvas import BLUE, INK, MUTED, ORANGE, sheet
from saescope.report.numbers import count, figure, percent
from saescope.runfolder.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sketch = tuple["Figure", str, str]
"""Figure, words for those who cannot see it, caption."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CELLS = 600
"""Most cells along an edge of the picture; with more latents a cell is the mean over several."""
NAMED = 0.02
"""Share of the latents from which a block has its number beside it."""


@dataclass(frozen=True)
class Graph:
    """The validated edges of a partition, between latents of communities."""

    community_F: Ints
    """-1 for none."""
    source_E: Ints
    target_E: Ints
    pmi_E: Floats

    @property
    def inside_E(self) -> npt.NDArray[np.bool_]:
        """Edges whose ends are in one community."""
        source, target = self.community_F[self.source_E], self.community_F[self.target_E]
        inside_E: npt.NDArray[np.bool_] = (source == target) & (source >= 0)
        return inside_E


WITHIN_TOKEN = "community_within_token"
"""Column of `features.parquet`: the community in the graph within token ids."""
PARTITIONS = {"community": "edges", WITHIN_TOKEN: "edges_within_token"}
"""Column of `features.parquet` → table of the edges that it was found on."""


ANCHORS = {"community": "community", WITHIN_TOKEN: "within-community"}
"""Column → start of the addresses of its communities, on both pages."""


def address_of(run: Run, column: str, number: int) -> str:
    """Where the run's page says more of a community; empty for none, or where it has no edges."""
    return f"#{ANCHORS[column]}-{number}" if number >= 0 and PARTITIONS[column] in run.tables else ""


def graph_of(run: Run, column: str) -> Graph | None:
    """The graph of one of `PARTITIONS`; None where the run has no such column, edges or community."""
    table = PARTITIONS[column]
    if not {"features", table} <= set(run.tables) or column not in run.column_names("features"):
        return None
    features = run.columns("features", ["latent", column])
    latent, community = features["latent"].astype(np.int64), features[column].astype(np.int64)
    if not (community >= 0).any():
        return None
    community_F = np.full(int(latent.max()) + 1, -1, dtype=np.int64)
    community_F[latent] = community
    edges = run.columns(table, ["source", "target", "pmi"])
    return Graph(
        community_F,
        edges["source"].astype(np.int64),
        edges["target"].astype(np.int64),
        edges["pmi"].astype(np.float64),
    )


def adjacency(run: Run) -> Sketch | None:
    """PMI of the validated edges of all joint firing, latents sorted by community."""
    return _matrix(run, "community", "all joint firing")


def adjacency_within_token(run: Run) -> Sketch | None:
    """The same for the joint firing that token ids do not explain."""
    return _matrix(run, WITHIN_TOKEN, "joint firing within token ids")


def sorted_latents(community_F: Ints, task_F: Ints, degree_F: Floats) -> Ints:
    """Latents of communities: the largest community first, in it by task, then by weighted degree."""
    members = np.flatnonzero(community_F >= 0)
    size_G = np.bincount(community_F[members])
    of = community_F[members]
    order = np.lexsort((members, -degree_F[members], task_F[members], of, -size_G[of]))
    return members[order]


def sums(at_E: Ints, weight_E: Floats, size: int) -> Floats:
    """Sum of the weights at each place, [size]."""
    return np.asarray(np.bincount(at_E, weight_E, size), dtype=np.float64)


def binned(rank_F: Ints, source_E: Ints, target_E: Ints, pmi_E: Floats, latents: int, cells: int) -> Floats:
    """Mean PMI of the pairs in each cell, pairs without an edge counting 0, [C, C] with C at most `cells`.

    `rank_F`: place of each latent in the matrix, -1 for none; edges of such latents are left out. A latent
    makes no pair with itself.
    """
    step = -(-latents // cells)
    side = -(-latents // step)
    a, b = rank_F[source_E], rank_F[target_E]
    there = (a >= 0) & (b >= 0)
    x, y, pmi = a[there] // step, b[there] // step, pmi_E[there]
    flat = np.bincount(np.r_[x * side + y, y * side + x], np.r_[pmi, pmi], side * side)
    size = np.bincount(np.arange(latents) // step, minlength=side)
    pairs = np.outer(size, size) - np.diag(size)
    return flat.reshape(side, side) / np.maximum(pairs, 1)


def _matrix(run: Run, column: str, name: str) -> Sketch | None:
    graph = graph_of(run, column)
    if graph is None or not len(graph.pmi_E):
        return None
    num_latents = len(graph.community_F)
    degree_F = sums(graph.source_E, graph.pmi_E, num_latents)
    degree_F += sums(graph.target_E, graph.pmi_E, num_latents)
    features = run.columns("features", ["latent", "top_task"])
    task_F = np.full(num_latents, len(run.tasks), dtype=np.int64)
    place = {task: at for at, task in enumerate(run.tasks)}
    task_F[features["latent"].astype(np.int64)] = [
        place.get(task, len(run.tasks)) if isinstance(task, str) else len(run.tasks)
        for task in features["top_task"]
    ]
    order = sorted_latents(graph.community_F, task_F, degree_F)
    rank_F = np.full(num_latents, -1, dtype=np.int64)
    rank_F[order] = np.arange(len(order))
    mean_CC = binned(rank_F, graph.source_E, graph.target_E, graph.pmi_E, len(order), CELLS)
    if not mean_CC.any():
        return None
    darkest = float(np.quantile(mean_CC[mean_CC > 0], 0.98))
    picture, (ax,) = sheet(5.6, 5.6)
    ax.grid(False)
    step = -(-len(order) // CELLS)
    end = len(mean_CC) * step
    ax.imshow(
        _shaded(mean_CC, darkest), extent=(0, end, end, 0), interpolation="none", aspect="equal", zorder=1
    )
    blocks = _blocks(graph.community_F[order])
    labels = _outline(ax, blocks, len(order))
    ax.set(xlim=(0, len(order)), ylim=(len(order), 0))
    ax.set_xticks([])
    ax.set_yticks([at for at, _ in labels], [text for _, text in labels])
    ax.tick_params(length=0, labelcolor=INK)
    ax.spines[:].set_visible(False)
    ax.text(-0.02, 1.0, "community", transform=ax.transAxes, size=9, color=MUTED, ha="right", va="bottom")
    share = percent(float(graph.pmi_E[graph.inside_E].sum() / graph.pmi_E.sum()))
    alt = (
        f"Matrix of {name} between {count(len(order))} latents sorted into {len(blocks)} communities: "
        f"{share} of the weight of the edges lies in the blocks on the diagonal."
    )
    cell = "a latent" if step == 1 else f"{step} latents"
    caption = (
        f"Graph of {name}: {count(len(order))} latents in {len(blocks)} outlined communities, each sorted by "
        f"preferred task, then by degree; {share} of the PMI of all edges lies inside the outlines. "
        f"A cell is {cell} by {cell}; shade: mean PMI, pairs without a validated edge counting 0, full from "
        f"{figure(darkest)} nats."
    )
    return picture, alt, caption


def _shaded(mean_CC: Floats, darkest: float) -> npt.NDArray[np.uint8]:
    """The matrix as one colour whose opacity is the value, so that it stands on light and dark pages."""
    alpha = np.where(mean_CC > 0, 0.1 + 0.9 * np.clip(mean_CC / darkest, 0, 1), 0)
    colour = [int(BLUE[at : at + 2], 16) for at in (1, 3, 5)]
    pixels = np.empty((*mean_CC.shape, 4), dtype=np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = np.round(255 * alpha)
    return pixels


def _blocks(community_R: Ints) -> list[tuple[int, int, int]]:
    """Number, first row and end of each community along the sorted rows."""
    starts = np.r_[0, np.flatnonzero(np.diff(community_R)) + 1]
    ends = np.r_[starts[1:], len(community_R)]
    return [(int(community_R[a]), int(a), int(b)) for a, b in zip(starts, ends, strict=True)]


def _outline(ax: "Axes", blocks: list[tuple[int, int, int]], latents: int) -> list[tuple[float, str]]:
    """Draw the outline of every block; places and numbers of those that are large enough to be named."""
    from matplotlib.collections import LineCollection

    outlines = [[(a, a), (b, a), (b, b), (a, b), (a, a)] for _, a, b in blocks]
    ax.add_collection(LineCollection(outlines, colors=ORANGE, linewidths=0.9, zorder=2, clip_on=False))
    return [((a + b) / 2, str(number)) for number, a, b in blocks if b - a >= NAMED * latents]
