"""Dynamic k on the run page: loss over k by selector, and the compute that each k saves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saescope.errors import ReportError
from saescope.metrics import (
    DYNK_FLOPS_SAVED_AT_PPL_1PCT,
    DYNK_K_AT_PPL_1PCT,
    DYNK_K_AT_PPL_5PCT,
    DYNK_SAE_K_AT_PPL_1PCT,
    DYNK_SAE_K_AT_PPL_5PCT,
    DYNK_SPEEDUP_AT_PPL_1PCT,
)
from saescope.report.canvas import BLUE, GREY, ORANGE, legend, sheet
from saescope.report.numbers import figure, percent
from saescope.runfolder.run import Run
from saescope.runfolder.values import finite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]

# way of choosing → words, colour, dashes; chance is grey, one mask per token blue, shared masks orange
LINES: dict[tuple[str, str, str], tuple[str, str, str]] = {
    ("topk", "abs_act", "token"): ("top-k per token", BLUE, "-"),
    ("threshold", "abs_act", "token"): ("threshold", BLUE, "--"),
    ("top_p", "abs_act", "token"): ("top-p", BLUE, "-."),
    ("rel_max", "abs_act", "token"): ("share of the maximum", BLUE, ":"),
    ("topk", "abs_act", "sequence"): ("per sequence", ORANGE, "-"),
    ("topk", "abs_act", "task"): ("per task", ORANGE, "--"),
    ("topk", "abs_act", "static"): ("static", ORANGE, ":"),
    ("topk", "random", "token"): ("chance per token", GREY, "-"),
    ("topk", "random", "static"): ("chance, static", GREY, ":"),
    ("topk", "act", "token"): ("top-k", BLUE, "-"),
    ("threshold", "act", "token"): ("threshold", BLUE, "--"),
    ("top_p", "act", "token"): ("top-p", BLUE, "-."),
    ("rel_max", "act", "token"): ("share of the maximum", BLUE, ":"),
}


_COLUMNS = ("target", "selector", "score", "granularity", "task", "k", "ce_delta")
_MLP_COLUMNS = ("impl", "phase", "speedup", "total_flops_frac")
_ALWAYS = ("target", "k")
"""Columns that every row fills."""
_NUMBERS = ("k", "ce_delta", "speedup", "total_flops_frac")
"""Columns of numbers; a cell may be empty."""


@dataclass(frozen=True)
class SavingRow:
    """One kept fraction: masks per token and one static mask, as text."""

    k: str
    token: tuple[str, ...]
    """CE increase, FLOPs left with the mask given in advance, FLOPs left as gathered, decoding speed."""
    static: tuple[str, ...]
    """CE increase, FLOPs left as sliced, decoding speed."""


@dataclass(frozen=True)
class Savings:
    """The section: sentences, and a table for MLPs."""

    sentences: tuple[str, ...]
    rows: tuple[SavingRow, ...]
    clock: str = ""
    """How the speeds were measured, and the ratio of two timings of the dense model (the clock's noise)."""


def savings(run: Run) -> Savings | None:
    """The section on dynamic k; None where the run has no `dynamic_k.csv`."""
    rows = read(run)
    if not rows:
        return None
    if rows[0]["target"] == "sae":
        return Savings(_sae_sentences(run), ())
    ks = sorted({float(row["k"]) for row in rows})
    return Savings(_mlp_sentences(run), tuple(_saving(rows, k) for k in ks), _clock(rows))


def read(run: Run) -> Rows:
    """Rows of `dynamic_k.csv` as text; empty without that file.

    Raises ReportError for one that lacks what the page needs.
    """
    if "dynamic_k" not in run.tables:
        return []
    rows = run.rows("dynamic_k")
    path = run.file_of("dynamic_k")
    for number, row in enumerate(rows, start=2):
        needed = (*_COLUMNS, *(_MLP_COLUMNS if row.get("target") != "sae" else ()))
        lacking = [name for name in needed if row.get(name) is None or (name in _ALWAYS and not row[name])]
        if lacking:
            raise ReportError(f"{path} line {number} has no {lacking[0]}; measure again with force=true")
        for name in _NUMBERS:
            if row.get(name) and not _is_number(row[name]):
                raise ReportError(
                    f"{path} line {number}: {name} is {row[name]!r:.40} and no number; "
                    "measure again with force=true"
                )
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def losses(run: Run) -> "tuple[Figure, str, str] | None":
    """CE increase over the kept fraction, one line per way of choosing."""
    curves: dict[tuple[str, str, str], dict[float, float]] = {}
    for row in read(run):
        rule = (row["selector"], row["score"], row["granularity"])
        if rule in LINES and row["ce_delta"] and row["task"] == "all":
            curves.setdefault(rule, {})[float(row["k"])] = float(row["ce_delta"])
    if not curves:
        return None
    drawing, (ax,) = sheet(5.6, 3.9)
    for rule, (label, colour, dashes) in LINES.items():
        if rule in curves:
            ks = sorted(curves[rule])
            ax.plot(
                ks, [curves[rule][k] for k in ks], dashes, color=colour, lw=1.8, marker="o", ms=3, label=label
            )
    ax.set_yscale("symlog", linthresh=0.01)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    sae = any(rule[1] == "act" for rule in curves)
    ax.set(
        xlabel="kept share of the SAE's k" if sae else "kept share of neurons, k", ylabel="CE increase (nats)"
    )
    legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.2)
    alt = f"Curves of the cross-entropy increase over the kept share, for {len(curves)} ways of choosing."
    caption = "CE increase over the untouched model; linear below 0.01 nats, logarithmic above."
    if any(rule[2] == "sequence" for rule in curves):
        caption += " Per sequence: second halves of windows only, after a dense first half."
    return drawing, alt, caption


def _mlp_sentences(run: Run) -> tuple[str, ...]:
    m = run.metrics
    sentences = []
    for p, metric in ((1, DYNK_K_AT_PPL_1PCT), (5, DYNK_K_AT_PPL_5PCT)):
        k = finite(m.get(metric.key))
        if k is None:
            sentences.append(f"No k of the grid keeps the perplexity within {p} %.")
        elif k == 1:
            sentences.append(f"Only the whole network (k = 1) keeps the perplexity within {p} %.")
        else:
            sentences.append(f"The perplexity stays within {p} % down to k = {k:g}.")
    saved = finite(m.get(DYNK_FLOPS_SAVED_AT_PPL_1PCT.key))
    speed = finite(m.get(DYNK_SPEEDUP_AT_PPL_1PCT.key))
    within = (finite(m.get(DYNK_K_AT_PPL_1PCT.key)) or 1) < 1
    if saved is not None and within:
        sentences.append(f"At 1 % that saves {percent(saved)} of all FLOPs as executed.")
    if speed == 1 and within:
        sentences.append(
            "No timed mask within 1 % decodes faster than the dense model by more than the clock's noise."
        )
    elif speed is not None and within:
        sentences.append(
            f"The fastest timed mask within 1 % decodes at {figure(speed)} times the dense speed."
        )
    sentences.append(
        "An oracle would know the mask before the up-projection; a mask chosen by activations is known after "
        "it, so gathering saves rows of the down-projection only. Masking a dense product saves nothing and "
        "is not timed."
    )
    return tuple(sentences)


def _sae_sentences(run: Run) -> tuple[str, ...]:
    sentences = [
        f"The SAE's own perplexity stays within {p} % down to {percent(k)} of its k."
        for p, metric in ((1, DYNK_SAE_K_AT_PPL_1PCT), (5, DYNK_SAE_K_AT_PPL_5PCT))
        if (k := finite(run.metrics.get(metric.key))) is not None
    ]
    return (
        *sentences,
        "This is fidelity against rate: a spliced SAE adds compute, so nothing here is a saving.",
    )


def _clock(rows: Rows) -> str:
    for row in rows:
        if row["impl"] == "dense_control" and row["phase"] == "decode_b1":
            ratio = float(row["speedup"])
            return (
                f"Speed: decoding at batch 1, measured; the dense model against itself came to {ratio:.2f} ×."
            )
    return "Speed was not measured."


def _saving(rows: Rows, k: float) -> SavingRow:
    def value(column: str, granularity: str, impl: str, phase: str | None = None) -> float | None:
        for row in rows:
            if (row["selector"], row["score"], row["granularity"]) != ("topk", "abs_act", granularity):
                continue
            matches = row["impl"] == impl and float(row["k"]) == k and row["task"] == "all"
            if matches and row[column] and phase in (None, row["phase"]):
                return float(row[column])
        return None

    def speed(granularity: str, impl: str) -> str:
        ratio = value("speedup", granularity, impl, "decode_b1")
        return "—" if ratio is None else f"{ratio:.2f} ×"

    def loss(granularity: str, impl: str) -> str:
        masked = value("ce_delta", granularity, "mask")
        return figure(masked if masked is not None else value("ce_delta", granularity, impl))

    return SavingRow(
        f"{k:g}",
        (
            loss("token", "gather"),
            percent(value("total_flops_frac", "token", "mask")),
            percent(value("total_flops_frac", "token", "gather")),
            speed("token", "gather"),
        ),
        (
            loss("static", "sliced"),
            percent(value("total_flops_frac", "static", "sliced")),
            speed("static", "sliced"),
        ),
    )
