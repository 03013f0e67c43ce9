"""`features.html`: every supported latent by address, with its contexts, tokens, neighbours and numbers.

One file without any request where the data fit into `ROOM`. They stand in it as gzip in base64: an index that
is read when the page opens, and shards of latents that are read when one of theirs is shown. Shards beyond
`ROOM` are scripts in the folder `features/` beside it, read in the same way.
"""

import base64
import gzip
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saescope.errors import ReportError
from saescope.files import write_text
from saescope.report.adjacency import ANCHORS, PARTITIONS, WITHIN_TOKEN
from saescope.report.cards import visible
from saescope.report.numbers import figure, percent
from saescope.report.templating import TEMPLATES, environment
from saescope.runfolder.latents import LatentFile, read_latents
from saescope.runfolder.names import FEATURES_PAGE, FEATURES_SHARDS, LATENTS, MULTIRUN, REPORT, SWEEP_HTML
from saescope.runfolder.run import Columns, Run, open_run
from saescope.runfolder.values import finite

SHARD = 256
"""Latents in a shard."""
ROOM = 20_000_000
"""Characters of data in the page; what is beyond stands beside it, so that the page opens at any size."""
PARTNERS = 5
"""Latents of highest PMI that are shown of each."""
NUMBERS = (
    ("si", "SI"),
    ("si_null", "SI by chance"),
    ("si_q", "q-value"),
    ("si_token", "SI beyond token"),
    ("si_token_q", "q beyond token"),
    ("si_bigram", "SI beyond bigram"),
    ("causal_si", "causal SI"),
    ("causal_p", "causal p"),
    ("density", "density"),
    ("count", "firings"),
    ("docs", "documents"),
    ("mean_act", "mean activation"),
    ("max_act", "max activation"),
    ("degree", "edges"),
)
"""Columns of `features.parquet` that the page shows where they are there, with their labels."""
WEAK_DEPTH = 0.5
"""Below this share of the depth promoted tokens are labelled weak."""


def write_latents_page(run: Run, title: list[str]) -> Path | None:
    """Write `features.html` into the run folder; None where the run has no `latents.npz` or no latents.

    Raises ReportError when a table cannot be read.
    """
    path = run.path / LATENTS
    if not path.is_file() or "features" not in run.tables:
        return None
    latents = read_latents(path)
    if not len(latents["latent_L"]):
        return None
    style = (TEMPLATES / "style.css").read_text("utf-8") + (TEMPLATES / "features.css").read_text("utf-8")
    script = (TEMPLATES / "features.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    index, details = payload(run, latents)
    head, shards = packed(index), [packed(shard) for shard in details]
    inside = _fitting([len(shard) for shard in shards], ROOM - len(head))
    beside = range(inside, len(shards))
    folder = run.path / FEATURES_SHARDS
    for number in beside:
        folder.mkdir(exist_ok=True)
        write_text(folder / _shard_file(number), f'latentShard({number}, "{shards[number]}");\n')
    from markupsafe import Markup

    page = (
        environment()
        .get_template("features.html.j2")
        .render(
            style=Markup(style),
            script=Markup(script),
            digest=digest,
            title=title,
            report=REPORT,
            sweep=f"../{SWEEP_HTML}" if (run.path.parent / MULTIRUN).is_file() else "",
            index=head,
            shards=shards[:inside],
            count=len(latents["latent_L"]),
            inside=min(inside * SHARD, len(latents["latent_L"])),
            folder=FEATURES_SHARDS if inside < len(shards) else "",
            megabytes=sum(map(len, shards[inside:])) / 1e6,
        )
    )
    write_text(run.path / FEATURES_PAGE, page)
    _remove_others(folder, {_shard_file(number) for number in beside})  # last: the old page read them
    return run.path / FEATURES_PAGE


def _shard_file(number: int) -> str:
    return f"shard-{number}.js"


def _remove_others(folder: Path, names: set[str]) -> None:
    """Leave only files of these names in the folder of shards, and no empty folder."""
    if not names:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)


def _fitting(sizes: list[int], room: int) -> int:
    """How many of the first sizes fit into `room` together."""
    return int(np.searchsorted(np.cumsum(sizes), room, side="right"))


def packed(value: Any) -> str:
    """JSON, gzip, base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0)).decode("ascii")


def payload(run: Run, latents: LatentFile) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """The index, and the shards of `SHARD` latents each."""
    names = set(run.column_names("features"))
    wanted = ["latent", "top_task", "community", *(f"rate_{task}" for task in run.tasks)]
    wanted += [name for name, _ in NUMBERS if name in names]
    wanted += [name for name in (WITHIN_TOKEN,) if name in names]
    features = run.columns("features", [name for name in wanted if name in names])
    row_of = {int(latent): at for at, latent in enumerate(features["latent"])}
    _check_same_run(run, latents, features)
    rows = np.array([row_of[int(latent)] for latent in latents["latent_L"]])
    numbers = [(name, label) for name, label in NUMBERS if name in features]
    first = latents["frequent_LT"][:, 0]
    texts = _Texts(latents)
    index = {
        "tasks": run.tasks,
        "latents": latents["latent_L"].tolist(),
        "labels": [label for _, label in numbers],
        "numbers": [_rounded(features[name][rows]) for name, _ in numbers],
        "task": [_task(run.tasks, value) for value in features["top_task"][rows]],
        "community": features["community"][rows].astype(int).tolist(),
        "within": features[WITHIN_TOKEN][rows].astype(int).tolist() if WITHIN_TOKEN in features else None,
        "cards": [ANCHORS[column] for column, table in PARTITIONS.items() if table in run.tables],
        "report": REPORT,
        "token": [texts.shown(number) for number in first],
        "shard": SHARD,
        "weak": _is_early(run),
        "read": [int(number) for number in latents["tokens"]],
        "has_promoted": "promoted_LT" in latents,
    }
    partners = _partners(run)
    details = [
        _detail(latents, texts, features, run.tasks, at, int(row), partners) for at, row in enumerate(rows)
    ]
    return index, [details[at : at + SHARD] for at in range(0, len(details), SHARD)]


def _check_same_run(run: Run, latents: LatentFile, features: Columns) -> None:
    """Raise ReportError where `latents.npz` names latents or tasks that the other files do not have."""
    for name, column in features.items():
        needed = name in ("latent", "community") or name.startswith("rate_")
        if needed and not np.isfinite(column.astype(float)).all():
            raise ReportError(
                f"{run.file_of('features')} has no {name} for some latents; measure again with force=true"
            )
    unknown = np.setdiff1d(latents["latent_L"], features["latent"]).size
    task_W = latents["task_W"]
    if unknown or (task_W.size and not 0 <= task_W.min() <= task_W.max() < len(run.tasks)):
        what = "latents" if unknown else "tasks"
        raise ReportError(
            f"{run.path / LATENTS} has {what} that the run's other files lack; measure again with force=true"
        )


class _Texts:
    """Words as the page shows them."""

    def __init__(self, latents: LatentFile) -> None:
        self.words = [visible(word) for word in latents.words]

    def shown(self, number: int) -> str:
        return self.words[number] if number >= 0 else ""

    def of(self, numbers: npt.NDArray[Any]) -> list[str]:
        return [self.words[number] for number in numbers if number >= 0]


def _detail(
    latents: LatentFile,
    texts: _Texts,
    features: Columns,
    tasks: list[str],
    at: int,
    row: int,
    partners: dict[int, list[tuple[int, float]]],
) -> dict[str, Any]:
    """What the page shows of one latent when its address is opened."""
    latent = int(latents["latent_L"][at])
    detail: dict[str, Any] = {
        "rates": [_significant(float(features[f"rate_{task}"][row])) for task in tasks],
        "histogram": latents["histogram_LB"][at].tolist(),
        "frequent": texts.of(latents["frequent_LT"][at]),
        "shares": [round(float(share), 3) for share in latents["share_LT"][at]],
        "partners": partners.get(latent, []),
        "contexts": [
            context_of(latents, texts.words, place)
            for place in range(int(latents["first_L"][at]), int(latents["first_L"][at + 1]))
        ],
    }
    if "nearest_LN" in latents:
        detail["nearest"] = [
            [int(number), round(float(cosine), 3)]
            for number, cosine in zip(
                latents["nearest_LN"][at], latents["nearest_cosine_LN"][at], strict=True
            )
        ]
    for name, key in (("promoted", "promoted_LT"), ("suppressed", "suppressed_LT")):
        if key in latents and latents[key][at, 0] >= 0:
            scores = latents[key.replace("_LT", "_z_LT")][at]
            detail[name] = [
                [word, round(float(score), 1)]
                for word, score in zip(texts.of(latents[key][at]), scores, strict=False)
            ]
    return detail


def context_of(latents: LatentFile, words: list[str], place: int) -> list[Any]:
    """`[task, document, quantile, about, words, activations]` of one context.

    `about` is the place of its token among `words`; `activations` has a number for each word, 0 where the
    latent is not active.
    """
    row, first_W = int(latents["row_C"][place]), latents["first_W"]
    window = int(np.searchsorted(first_W, row, side="right")) - 1
    part = slice(int(latents["first_C"][place]), int(latents["first_C"][place + 1]))
    before, after = map(int, latents["span"])
    start = max(int(first_W[window]), row - before)
    end = min(int(first_W[window + 1]), row + after + 1)
    acts = [0.0] * (end - start)
    for offset, act in zip(latents["offset_A"][part], latents["act_A"][part], strict=True):
        acts[row + int(offset) - start] = _significant(float(act))
    shown = [words[number] for number in latents["id_R"][start:end]]
    return [
        int(latents["task_W"][window]),
        int(latents["doc_W"][window]),
        int(latents["quantile_C"][place]),
        row - start,
        shown,
        acts,
    ]


def _partners(run: Run) -> dict[int, list[tuple[int, float]]]:
    """For each latent those that fire with it most beyond chance (highest PMI among validated edges)."""
    if "edges" not in run.tables:
        return {}
    edges = run.columns("edges", ["source", "target", "pmi"])
    source = np.concatenate([edges["source"], edges["target"]]).astype(np.int64)
    target = np.concatenate([edges["target"], edges["source"]]).astype(np.int64)
    pmi = np.concatenate([edges["pmi"], edges["pmi"]]).astype(float)
    order = np.lexsort((target, -pmi, source))
    order = order[np.isfinite(pmi[order])]
    source, target, pmi = source[order], target[order], pmi[order]
    latents, first = np.unique(source, return_index=True)
    ends = np.append(first, len(source))[1:]  # none where there is no edge
    return {
        int(latent): [(int(target[at]), round(float(pmi[at]), 2)) for at in range(a, min(b, a + PARTNERS))]
        for latent, a, b in zip(latents, first, ends, strict=True)
    }


def _task(tasks: list[str], value: object) -> int:
    return tasks.index(value) if isinstance(value, str) and value in tasks else -1


def _rounded(values: npt.NDArray[Any]) -> list[float | int | None]:
    return [_significant(float(value)) if finite(float(value)) is not None else None for value in values]


def _significant(value: float) -> float | int:
    """Three significant digits; whole numbers whole, rounding errors 0."""
    if abs(value) < 1e-12:
        return 0
    if value == int(value) and abs(value) < 1e15:
        return int(value)
    return float(f"{value:.3g}")


def _is_early(run: Run) -> bool:
    """Whether the hookpoint lies in the first half of the model."""
    layer, layers = (
        finite(run.resolved(part).get(name))
        for part, name in (("hookpoint", "layer"), ("model", "num_layers"))
    )
    return layer is not None and layers is not None and (layer + 1) / layers < WEAK_DEPTH


@dataclass(frozen=True)
class LatentFacts:
    """What the terminal shows of one latent."""

    tasks: list[str]
    numbers: list[tuple[str, str]]
    lists: list[tuple[str, list[str]]]
    """Title, and its entries as text."""
    contexts: list[list[Any]]
    """As `context_of` gives them."""
    largest: float
    """Largest activation."""


def latent_facts(folder: Path, latent: int) -> LatentFacts:
    """One latent of a finished run. Raises ReportError where the run or the latent is not there."""
    run = open_run(folder)
    if not (run.path / LATENTS).is_file():
        raise ReportError(f"{run.path} has no {LATENTS}: measure again with force=true")
    latents = read_latents(run.path / LATENTS)
    rates = [f"rate_{task}" for task in run.tasks]
    needed = run.columns("features", ["latent", "top_task", "community", "max_act", *rates])
    _check_same_run(run, latents, needed)
    features = run.features
    row = features[features.latent == latent]
    if row.empty:
        raise ReportError(f"there is no latent {latent}: the SAE has 0 to {len(features) - 1}")
    values = row.iloc[0]
    numbers = [(label, figure(values[name])) for name, label in NUMBERS if name in features.columns]
    total = sum(float(values[f"rate_{task}"]) for task in run.tasks) or 1.0
    numbers.append(("preferred task", str(values["top_task"] or "none")))
    numbers += [(f"share on {task}", percent(float(values[f"rate_{task}"]) / total)) for task in run.tasks]
    numbers.append(("community", "none" if values["community"] < 0 else str(int(values["community"]))))
    if latent not in latents.place:
        return LatentFacts(run.tasks, [*numbers, ("supported", "no: too few firings")], [], [], 1.0)
    at = latents.place[latent]
    texts = _Texts(latents)
    lists = [
        (
            "fires most on",
            [
                f"{word!r} {percent(float(share))}"
                for word, share in zip(
                    texts.of(latents["frequent_LT"][at]), latents["share_LT"][at], strict=False
                )
            ],
        )
    ]
    if "promoted_LT" in latents:
        weak = " (weak evidence in the first half of the model)" if _is_early(run) else ""
        lists += [
            (f"promotes{weak}", [repr(word) for word in texts.of(latents["promoted_LT"][at])]),
            (f"suppresses{weak}", [repr(word) for word in texts.of(latents["suppressed_LT"][at])]),
        ]
    if "nearest_LN" in latents:
        near = zip(latents["nearest_LN"][at], latents["nearest_cosine_LN"][at], strict=True)
        lists.append(("nearest decoder rows", [f"{number} ({cosine:.2f})" for number, cosine in near]))
    partners = _partners(run).get(latent, [])
    lists.append(("fires together with", [f"{number} (PMI {pmi})" for number, pmi in partners]))
    contexts = [
        context_of(latents, texts.words, place)
        for place in range(int(latents["first_L"][at]), int(latents["first_L"][at + 1]))
    ]
    return LatentFacts(
        run.tasks,
        numbers,
        [(title, entries) for title, entries in lists if entries],
        contexts,
        float(values["max_act"]),
    )
